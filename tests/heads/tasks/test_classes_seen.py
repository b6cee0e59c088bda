import warnings
from types import SimpleNamespace

import pytest

from heads import SegmentationFolder, SegmentationTask
from heads.tasks import classes_seen
from heads.tasks.classes_seen import ClassesSeen

NAMES = ["sky", "road", "car"]


def trainer_of(**options):
    whole = {"limit_train_batches": 1.0, "limit_val_batches": 1.0, "limit_test_batches": 1.0}
    return SimpleNamespace(**({"sanity_checking": False, "is_last_batch": True} | whole | options))


def epoch(seen, *labels, split="train", **options):
    trainer = trainer_of(**options)
    collect = {"train": seen.on_train_batch_end, "val": seen.on_validation_batch_end, "test": seen.on_test_batch_end}
    end = {"train": seen.on_train_epoch_end, "val": seen.on_validation_epoch_end, "test": seen.on_test_epoch_end}
    for label in labels:
        collect[split](trainer, None, None, {"classes_in": [frozenset(label)]}, 0)
    end[split](trainer, None)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_class_without_a_pixel_is_named_once_for_each_split(split):
    seen = ClassesSeen(NAMES)
    message = rf"^No label of {split} has a pixel of 'car' \(2 labels were read\)\. Check that .* as the files\.$"
    with pytest.warns(UserWarning, match=message):
        epoch(seen, {0}, {0, 1}, split=split)
    epoch(seen, {0}, split=split)


def test_ignored_pixels_are_mentioned_and_a_long_list_is_cut():
    with pytest.warns(UserWarning, match=r"pixel of 'road', 'car' \(.*stored as 255 is ignored: store it as its index"):
        epoch(ClassesSeen(NAMES), {0, 255})
    with pytest.warns(UserWarning, match=r"of 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k' and 2 more \("):
        epoch(ClassesSeen("abcdefghijklm"), {0})


def test_nothing_is_said_where_every_class_is_there_or_nothing_is_known():
    epoch(ClassesSeen(NAMES), {0, 2}, {1, 255})
    epoch(ClassesSeen(NAMES))
    epoch(ClassesSeen(NAMES), {255})
    seen = ClassesSeen(NAMES)
    seen.on_train_batch_end(trainer_of(), None, None, {"mask": None}, 0)  # of a user's own dataset
    seen.on_train_batch_end(trainer_of(), None, None, [1, 2], 0)
    seen.on_train_epoch_end(trainer_of(), None)


@pytest.mark.parametrize(
    ("split", "options"),
    [
        ("val", {"sanity_checking": True}),
        ("val", {"limit_val_batches": 1}),
        ("train", {"limit_train_batches": 0.5}),
        ("train", {"is_last_batch": False}),
        ("test", {"limit_test_batches": 2}),
    ],
)
def test_part_of_a_split_gives_no_warning_and_all_of_it_later_does(split, options):
    seen = ClassesSeen(NAMES)
    epoch(seen, {0}, split=split, **options)
    with pytest.warns(UserWarning, match="pixel of .*'car'"):
        epoch(seen, {1}, split=split)


def test_several_processes_count_together(monkeypatch):
    other: dict = {"found": ({1}, 3)}
    monkeypatch.setattr(classes_seen, "gather_objects", lambda found: [found, other["found"]])
    with pytest.warns(UserWarning, match=r"pixel of 'car' \(4 labels"):
        epoch(ClassesSeen(NAMES), {0})
    other["found"] = ({1, 2}, 3)
    epoch(ClassesSeen(NAMES), {0})


def test_a_file_that_was_skipped_is_no_label(monkeypatch):
    with pytest.warns(UserWarning, match=r"\(2 labels were read\)"):
        epoch(ClassesSeen(NAMES), {0}, set(), {1})


def test_a_run_says_it_of_each_split_once_and_looks_at_whole_labels(scenes, checkpoint, trainer):
    names = [*NAMES, "bicycle"]
    options = {"scale": (2.0, 2.0), "ignore_values": [7], "batch_size": 2, "num_workers": 0}  # crops of 16 x 16 px
    data = SegmentationFolder(str(scenes), names, (16, 16), **options)
    task = SegmentationTask(str(checkpoint), names, (16, 16), warmup_steps=1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer(max_epochs=2).fit(task, data)
    found = [str(one.message) for one in said if "No label of" in str(one.message)]
    assert len(found) == 2 and all("has a pixel of 'bicycle' (" in one for one in found)
    assert sum("of val has a pixel of 'bicycle' (3 labels" in one for one in found) == 1
    assert sum("of train has a pixel of 'bicycle' (6 labels" in one for one in found) == 1
