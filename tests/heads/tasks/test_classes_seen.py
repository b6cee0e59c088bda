import warnings
from types import SimpleNamespace

import pytest

from heads import SegmentationFolder, SegmentationTask
from heads.tasks.classes_seen import ClassesSeen

TRAINER = SimpleNamespace(sanity_checking=False)


def epoch(seen, *labels, split="train"):
    note = {"train": seen.on_train_batch_end, "val": seen.on_validation_batch_end, "test": seen.on_test_batch_end}
    say = {"train": seen.on_train_epoch_end, "val": seen.on_validation_epoch_end, "test": seen.on_test_epoch_end}
    for label in labels:
        note[split](TRAINER, None, None, {"classes_in": [label]}, 0)
    say[split](TRAINER, None)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_class_without_a_pixel_is_named_once_for_each_split(split):
    seen = ClassesSeen(["sky", "road", "car"])
    message = rf"The 2 {split} labels that were read have no pixel of 'car'\. Check that .* files\.$"
    with pytest.warns(UserWarning, match=message):
        epoch(seen, (0,), (0, 1), split=split)
    epoch(seen, (0,), split=split)


def test_ignored_pixels_are_mentioned():
    with pytest.warns(UserWarning, match=r"no pixel of 'road', 'car'\. .*value 255 are ignored"):
        epoch(ClassesSeen(["sky", "road", "car"]), (0, 255))


def test_nothing_is_said_where_all_classes_are_there_or_nothing_is_known():
    epoch(ClassesSeen(["sky", "road"]), (0,), (1, 255))
    epoch(ClassesSeen(["sky", "road"]))
    epoch(ClassesSeen(["sky", "road"]), (255,))
    seen = ClassesSeen(["sky", "road"])
    seen.on_train_batch_end(TRAINER, None, None, {"mask": None}, 0)  # of a data set of somebody else
    seen.on_train_epoch_end(TRAINER, None)


def test_a_sanity_check_says_nothing():
    seen, checking = ClassesSeen(["sky", "road"]), SimpleNamespace(sanity_checking=True)
    seen.on_validation_batch_end(checking, None, None, {"classes_in": [(0,)]}, 0)
    seen.on_validation_epoch_end(checking, None)
    epoch(seen, (0, 1), split="val")


def test_a_run_says_it_of_each_split_once_and_looks_at_whole_labels(scenes, checkpoint, trainer):
    names = ["sky", "road", "car", "bicycle"]
    data = SegmentationFolder(
        str(scenes), names, (16, 16), scale=(2.0, 2.0), ignore_values=[7], batch_size=2, num_workers=0
    )
    task = SegmentationTask(str(checkpoint), names, (16, 16), warmup_steps=1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer(max_epochs=2).fit(task, data)
    found = [str(one.message) for one in said if "no pixel" in str(one.message)]
    assert len(found) == 2 and all("have no pixel of 'bicycle'. " in one for one in found)
    assert [sum(one.startswith(f"The {what} ") for one in found) for what in ("3 val labels", "6 train labels")] == [
        1,
        1,
    ]
