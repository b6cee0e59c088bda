import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from heads import SegmentationFolder

CLASSES = ["sky", "road", "car"]


def folder(root, **kwargs):
    defaults = {"ignore_values": [7], "batch_size": 2, "num_workers": 0}
    return SegmentationFolder(str(root), CLASSES, (48, 64), **(defaults | kwargs))


@pytest.fixture
def copy(scenes, tmp_path):
    return shutil.copytree(scenes, tmp_path / "scenes")


def batches(module, split="train", stage="fit"):
    module.setup(stage)
    return list(module._loader(split))


def test_training_batch(scenes):
    batch = batches(folder(scenes))[0]
    assert batch["image"].shape == (2, 3, 48, 64) and batch["image"].dtype == torch.float32
    assert 0 <= batch["image"].min() and batch["image"].max() <= 1
    assert batch["mask"].shape == (2, 48, 64) and batch["mask"].dtype == torch.int64
    assert set(batch["mask"].unique().tolist()) <= {0, 1, 2, 255}


def test_labels_are_scored_at_their_own_size(scenes):
    module = SegmentationFolder(str(scenes), CLASSES, (32, 32), ignore_values=[7], num_workers=0)
    batch = batches(module, "val")[0]
    assert batch["image"].shape[2:] == (32, 32)
    assert [m.shape for m in batch["mask"]] == [(48, 64)] * 3
    assert batch["original_size"] == [(48, 64)] * 3 and batch["size"] == [(32, 32)] * 3


def test_ignored_values_become_255(scenes):
    mask = batches(folder(scenes), "val")[0]["mask"][0]
    assert (mask[:6, :6] == 255).all() and (mask[10:] != 255).all()


@pytest.mark.parametrize("workers", [1, 2])
def test_same_samples_for_any_number_of_workers(scenes, workers):
    for alone, many in zip(batches(folder(scenes)), batches(folder(scenes, num_workers=workers)), strict=True):
        assert alone["image_id"] == many["image_id"]
        assert torch.equal(alone["image"], many["image"]) and torch.equal(alone["mask"], many["mask"])


def test_augmentation_depends_on_seed_and_epoch_and_leaves_the_global_state_alone(scenes):
    modules = [folder(scenes), folder(scenes), folder(scenes, seed=1)]
    for module in modules:
        module.setup("fit")
    state = torch.get_rng_state()
    image, same, other = (module.datasets["train"][3, 2]["image"] for module in modules)
    assert torch.equal(image, same) and not torch.equal(image, other)
    assert not torch.equal(image, modules[0].datasets["train"][4, 2]["image"])
    assert torch.equal(torch.get_rng_state(), state)


def test_augmentation_moves_image_and_labels_together(copy):
    for split in ("train", "val"):  # images that are their own labels
        for path in (copy / f"{split}annot").iterdir():
            labels = np.array(Image.open(path))
            Image.fromarray(labels * 30).save(copy / split / path.name)
    for batch in batches(folder(copy, scale=(1.0, 1.0))):
        values, mask = (batch["image"][:, 0] * 255 / 30).round().long(), batch["mask"]
        seen = mask != 255
        assert (values == mask)[seen].float().mean() > 0.95  # resizing mixes colours along the borders
        assert (values == mask.flip(-1))[seen].float().mean() < 0.95  # what a flip of one alone would leave


def test_predict_needs_no_labels_and_no_root(scenes):
    module = SegmentationFolder(classes=CLASSES, predict_images=str(scenes / "val"), num_workers=0)
    assert "mask" not in batches(module, "predict", "predict")[0]


def fails(module, message, stage="fit"):
    with pytest.raises(ValueError, match=message):
        batches(module, "train" if stage == "fit" else stage, stage)


def test_image_without_label(copy):
    (copy / "trainannot" / "3.png").unlink()
    fails(folder(copy), r"1 of 6 images in .*train have no label, first 3\.png: expected .*trainannot.3\.png")


def test_label_value_outside_the_classes(copy):
    fails(folder(copy, ignore_values=[]), r"annot.\d\.png has label values \[7\]; expected classes 0 to 2, or \[255\]")


def test_label_of_another_size(copy):
    for path in (copy / "trainannot").iterdir():
        Image.open(path).resize((64, 40)).save(path)
    fails(folder(copy), r"\(40, 64\).*its image .*\(48, 64\); expected the same size\. Check that")


def test_missing_folders(scenes, tmp_path):
    fails(folder(tmp_path), "No folder .*train")
    fails(folder(scenes, train_masks="gone"), "No folder .*gone; expected the label PNGs")
    fails(SegmentationFolder(classes=3), "data.root is not set")
    fails(SegmentationFolder(classes=3), "data.predict_images is not set", "predict")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": None}, "classes is None"),
        ({"img_size": (0, 8)}, "img_size"),
        ({"scale": (2.0, 1.0)}, "scale"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_workers": -1}, "num_workers is -1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SegmentationFolder(**({"classes": 3} | arguments))


def test_each_split_is_described_by_its_own_folders(copy):
    shutil.copytree(copy / "val", copy / "more")
    shutil.copytree(copy / "valannot", copy / "moreannot")
    module = folder(copy, test_images="more", test_masks="moreannot", seed=3)
    module.setup("fit")
    module.setup("test")
    expected = {"data": "SegmentationFolder", "images": 3, "seed": 3, "ignore_values": [7, 255]}
    expected |= {"recipe": "plain", "scale": [0.5, 2.0], "reduce_zero_label": False, "test_resize": [48, 64]}
    for split, name in (("val", "val"), ("test", "more")):
        assert module.describe(split) == expected | {"split": name, "folders": [name, f"{name}annot"]}


def test_a_zero_that_is_no_class_is_ignored_and_the_others_move_down(scenes):
    options = {"ignore_values": [7], "reduce_zero_label": True, "num_workers": 0}
    reduced = SegmentationFolder(str(scenes), ["road", "car"], (48, 64), **options)
    before, after = (batches(module, "val")[0]["mask"][0] for module in (folder(scenes), reduced))
    assert torch.equal(after, torch.where((before == 0) | (before == 255), 255, before - 1))
    assert reduced.protocol["reduce_zero_label"] and reduced.protocol["ignore_values"] == [0, 7, 255]
