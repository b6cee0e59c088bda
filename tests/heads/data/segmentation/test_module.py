"""What every segmentation data module does, on each public data set's layout and on real samples of three."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import heads
from heads.data.images import read_labels

NAMES = ["ADE20K", "COCOStuff", "Cityscapes", "PascalContext", "PascalVOC"]
SAMPLES = Path(__file__).parents[5] / "shared" / "data"
COUNTED = pytest.mark.filterwarnings("ignore:.*are missing. Scores on it")


def module(name, root, **kwargs):
    return getattr(heads, name)(str(root), (32, 32), **({"batch_size": 2, "num_workers": 0} | kwargs))


@COUNTED
@pytest.mark.parametrize("name", NAMES)
def test_every_class_of_every_layout_is_read(name, published):
    data = module(name, published(name))
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 3, 32, 32) and batch["mask"].shape == (2, 32, 32)
    values = torch.cat([mask.flatten() for batch in data.val_dataloader() for mask in batch["mask"]]).unique()
    assert values.tolist() == [*range(len(data.classes)), 255]


@pytest.mark.parametrize("name", NAMES)
def test_a_part_of_a_data_set_is_a_warning_that_names_what_is_missing_once(name, published, recwarn):
    data = module(name, published(name))
    with pytest.warns(UserWarning, match=rf"{name} val has 2 images in .*; expected .*, \d+ are missing"):
        data.setup("test")
    recwarn.clear()
    data.setup("test")
    assert not recwarn.list and data.protocol["images_published"] == data.counts["val"]


def test_more_images_than_published_are_a_warning_as_well(published, monkeypatch):
    monkeypatch.setitem(heads.ADE20K.counts, "val", 1)
    with pytest.warns(UserWarning, match="ADE20K val has 2 images in .*; expected 1, 1 are too many"):
        module("ADE20K", published("ADE20K")).setup("test")


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_root_is_answered_with_the_expected_tree(name, tmp_path):
    with pytest.raises(ValueError, match=r"No folder .*gone; expected data.root to be the folder") as error:
        module(name, tmp_path / "gone").setup("test")
    assert getattr(heads, name).layout in str(error.value)
    with pytest.raises(ValueError, match=r"data.root is not set; expected the folder"):
        getattr(heads, name)().setup("test")


@COUNTED
@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_root_may_be_any_of_the_published_folders(published, below):
    data = module("PascalVOC", published("PascalVOC") / below)
    data.setup("test")
    assert len(data.datasets["test"]) == 2


@COUNTED
@pytest.mark.parametrize("recipe", ["plain", "dinov2", "dinov3"])
def test_a_recipe_depends_on_seed_and_epoch_alone(scenes, recipe):
    def sample(epoch, **kwargs):
        data = heads.SegmentationFolder(str(scenes), 3, (48, 64), recipe=recipe, ignore_values=[7], **kwargs)
        data.setup("fit")
        return data.datasets["train"][epoch, 2]["image"]

    torch.manual_seed(1)
    first = sample(3)
    torch.manual_seed(2)
    assert torch.equal(first, sample(3))
    assert not torch.equal(first, sample(4)) and not torch.equal(first, sample(3, seed=1))


def photos(tmp_path):
    for name, size in (("a", (40, 30)), ("b", (60, 30)), ("c", (30, 45))):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    return str(tmp_path)


def test_images_that_keep_their_shape_come_one_at_a_time(tmp_path):
    data = heads.SegmentationFolder(classes=3, predict_images=photos(tmp_path), test_short_side=20, num_workers=0)
    data.setup("predict")
    assert [tuple(b["image"].shape) for b in data.predict_dataloader()] == [
        (1, 3, 20, 27),
        (1, 3, 20, 40),
        (1, 3, 30, 20),
    ]


def test_in_larger_batches_they_are_padded_and_what_is_found_on_them_returns_to_its_place(tmp_path):
    root = photos(tmp_path)
    data = heads.SegmentationFolder(
        classes=3, predict_images=root, test_short_side=20, eval_batch_size=3, num_workers=0
    )
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    assert batch["image"].shape == (3, 3, 30, 40) and batch["size"] == [(20, 27), (20, 40), (30, 20)]
    assert (batch["image"][0, :, 20:] == 0.5).all() and (batch["image"][0, :, :, 27:] == 0.5).all()
    for i, original in enumerate(batch["original_size"]):
        alone = data.datasets["predict"][0, i]
        back = batch["geometry"][i].to_original(batch["image"][i])
        assert back.shape[1:] == original
        torch.testing.assert_close(back, alone["geometry"].to_original(alone["image"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": "none"}, "recipe is 'none'"),
        ({"test_short_side": 1}, "test_short_side is 1; expected .* of at least 2 px"),
        ({"eval_batch_size": 0}, "eval_batch_size is 0"),
        ({"ignore_values": [300]}, "ignore_values is"),
        ({"ignore_values": [-1]}, "ignore_values is"),
        ({"classes": ["a", "b", "a"]}, "'a' twice"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        heads.SegmentationFolder(**({"classes": 3} | arguments))


SAMPLE_SETS = {
    "ADE20K": ("ade20k_sample", {}),
    "PascalVOC": ("voc2012_mini", {}),
    "COCOStuff": ("coco_stuff_mini", {}),
}


@COUNTED
@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", SAMPLE_SETS)
def test_real_samples_are_read_and_their_labels_are_classes(name):
    folder, kwargs = SAMPLE_SETS[name]
    data = module(name, SAMPLES / folder, **kwargs)
    data.setup("fit")
    for split in ("train", "val"):
        for i, (_, mask) in enumerate(data.datasets[split].pairs):
            found, raw = data.datasets[split][0, i]["mask"], read_labels(mask)
            assert set(found.unique().tolist()) <= {*range(len(data.classes)), 255}
            if split == "val" and name == "ADE20K":
                assert torch.equal(found, torch.where(raw == 0, 255, raw.long() - 1))
            if split == "val" and name == "PascalVOC":
                assert torch.equal(found, raw.long())
