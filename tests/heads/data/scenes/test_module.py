import contextlib
import io

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from heads import GeneratedScenes, SegmentationTask
from heads.data.detection.instance_masks import instance_mask


def scenes(**changed):
    arguments = {"train_images": 6, "val_images": 3, "test_images": 3, "batch_size": 2, "num_workers": 0}
    return GeneratedScenes((32, 48), **arguments | changed)


def batches(module, split="train", epoch=0):
    module.setup("test" if split == "test" else "fit")
    module._epoch = lambda: epoch
    return list(getattr(module, f"{split}_dataloader")())


def by_name(part):
    return {name: image for b in part for name, image in zip(b["path"], b["image"], strict=True)}


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_any_number_of_workers_gives_the_same_batches(split):
    alone, shared = (batches(scenes(num_workers=n), split) for n in (0, 2))
    assert len(alone) == len(shared) > 0
    for one, other in zip(alone, shared, strict=True):
        assert one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)


def test_a_training_batch_is_stacked_and_a_test_batch_is_as_documented():
    train, test = batches(scenes())[0], batches(scenes(), "test")[0]
    shapes = {key: tuple(train[key].shape) for key in ("image", "mask", "depth", "normal", "intrinsics")}
    size = (32, 48)
    assert shapes == {
        "image": (2, 3, *size),
        "mask": (2, *size),
        "depth": (2, 1, *size),
        "normal": (2, 3, *size),
        "intrinsics": (2, 3, 3),
    }
    for batch in (train, test):
        for i in range(2):
            count = len(batch["labels"][i])
            assert batch["boxes"][i].shape == (count, 4) and batch["instance_masks"][i].shape == (count, *size)
            assert batch["area"][i].tolist() == batch["instance_masks"][i].sum((1, 2)).tolist()
            assert batch["iscrowd"][i].tolist() == [False] * count
            assert batch["size"][i] == batch["original_size"][i] == batch["geometry"][i].image_size == size
    assert 0 <= train["image"].min() and train["image"].max() <= 1 and train["image"].dtype == torch.float32
    assert test["image_id"] == [0, 1] and test["path"] == ["test-000000", "test-000001"]


def test_no_two_splits_epochs_or_seeds_share_a_scene():
    parts = [batches(scenes()), batches(scenes(), epoch=1), batches(scenes(), "val"), batches(scenes(), "test")]
    parts.append(batches(scenes(seed=1)))
    pictures = [image.numpy().tobytes() for part in parts for batch in part for image in batch["image"]]
    assert len(set(pictures)) == len(pictures) == 6 + 6 + 3 + 3 + 6


def test_without_fresh_every_epoch_has_the_same_scenes():
    first, second = (by_name(batches(scenes(fresh=False), epoch=epoch)) for epoch in (0, 1))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert list(first) != list(second)


@pytest.mark.parametrize(
    "wrong", [{"train_images": 0}, {"test_images": -1}, {"seed": -1}, {"batch_size": 0}, {"num_workers": -1}]
)
def test_numbers_that_are_too_small_are_refused(wrong):
    with pytest.raises(ValueError, match=str(*wrong.values())):
        scenes(**wrong)


def test_a_size_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match=r"img_size is \(8, 64\).* at least 16 px"):
        GeneratedScenes((8, 64))


def test_predict_wants_a_folder():
    with pytest.raises(ValueError, match=r"data\.predict_images is not set"):
        scenes().setup("predict")


def test_a_task_learns_from_them(checkpoint, trainer):
    data = scenes(train_images=16)
    task = SegmentationTask(str(checkpoint), data.classes, data.img_size)
    run = trainer(max_epochs=4)
    (before,) = run.test(task, data, verbose=False)
    run.fit(task, data)
    (after,) = run.test(task, data, verbose=False)
    assert after["test/mIoU"] > before["test/mIoU"] + 0.02


def test_splits_are_described_by_name_and_number():
    module = GeneratedScenes((32, 32), val_images=2, test_images=3, seed=1)
    module.setup("fit")
    module.setup("test")
    for split, images in (("val", 2), ("test", 3)):
        assert module.describe(split) == {"data": "GeneratedScenes", "split": split, "images": images, "seed": 1}


def test_the_truth_is_what_the_samples_hold_in_the_format_of_coco():
    module = scenes()
    truth, (first, second) = module.truth("test"), batches(module, "test")
    assert module.truth("test") is truth and truth.names == list(module.classes)
    ids = first["image_id"] + second["image_id"]
    assert [image["id"] for image in truth.images] == ids == [0, 1, 2]
    assert [a["id"] for a in truth.annotations] == [*range(1, len(truth.annotations) + 1)]
    found = truth.by_image()
    for batch in (first, second):
        for i, image_id in enumerate(batch["image_id"]):
            objects = found[image_id]
            xyxy = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in objects)]
            assert xyxy == batch["boxes"][i].tolist() and [a["area"] for a in objects] == batch["area"][i].tolist()
            assert [truth.category_ids.index(a["category_id"]) for a in objects] == batch["labels"][i].tolist()
            masks = [instance_mask(a, 32, 48) for a in objects]
            assert all(torch.equal(a, b) for a, b in zip(masks, batch["instance_masks"][i], strict=True))
    assert module.truth("val").coco()["annotations"] != truth.coco()["annotations"]


def test_pycocotools_finds_the_truth_in_itself():
    truth = scenes(test_images=6).truth("test")
    index = COCO()
    index.dataset = truth.coco()
    with contextlib.redirect_stdout(io.StringIO()):
        index.createIndex()
        found = index.loadRes([a | {"score": 1.0} for a in truth.annotations])
        for kind in ("bbox", "segm"):
            scores = COCOeval(index, found, kind)
            scores.evaluate()
            scores.accumulate()
            scores.summarize()
            assert scores.stats[0] == 1
