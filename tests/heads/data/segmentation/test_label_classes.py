import numpy as np
import pytest
from PIL import Image

from heads import SegmentationFolder
from heads.data.segmentation.dataset import LabelValues
from heads.data.segmentation.label_classes import has_two_classes


@pytest.fixture
def labels(tmp_path):
    """Saves labels, each of some values, and returns their files."""

    def save(*values):
        paths = [tmp_path / f"{number}.png" for number in range(len(values))]
        for path, found in zip(paths, values, strict=True):
            Image.fromarray(np.resize(np.array(found, np.uint8), (4, 6))).save(path)
        return paths

    return save


@pytest.mark.parametrize("classes", [2, 3])
def test_labels_of_one_class_and_ignored_pixels_are_refused(labels, classes):
    masks = labels([0, 255], [0], [255])
    names = ["background", "object", "more"][:classes]
    with pytest.raises(ValueError, match=r"The 3 train labels, .*'background' and ignored pixels, none of 'object'"):
        has_two_classes(masks, LabelValues(range(classes)), names, "train")


def test_an_ignored_zero_may_be_a_class_as_well(labels):
    with pytest.raises(ValueError, match=r"none of 'object'\. Label values \[0, 255\] are ignored.*reduce_zero_label"):
        has_two_classes(labels([0, 1]), LabelValues([1, 2], [0]), ["background", "object"], "train")


def test_one_label_with_both_classes_is_enough(labels):
    values, names = LabelValues(range(3)), ["background", "object", "more"]
    assert has_two_classes(labels(*[[0, 255]] * 20, [0, 1]), values, names, "train")
    assert has_two_classes(labels([0, 255], [1]), values, names, "train")


def test_without_ignored_pixels_or_other_classes_nothing_is_refused(labels):
    masks = labels([0], [0])
    assert not has_two_classes(masks, LabelValues(range(2)), ["background", "object"], "train")
    assert not has_two_classes(labels([0, 255]), LabelValues(range(1)), ["object"], "train")
    assert not has_two_classes(labels([255]), LabelValues(range(2)), ["background", "object"], "train")


def test_what_cannot_be_read_is_left_to_its_turn(labels):
    masks = labels([0, 9], [0, 1])
    masks[0].with_suffix(".txt").write_bytes(b"no image")
    assert has_two_classes([masks[0].with_suffix(".txt"), *masks], LabelValues(range(2)), ["a", "b"], "train")


def folder(root, train, val):
    for split, values in (("train", train), ("val", val)):
        for name in (split, f"{split}annot"):
            (root / name).mkdir()
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(root / split / "a.png")
        Image.fromarray(np.resize(np.array(values, np.uint8), (4, 6))).save(root / f"{split}annot" / "a.png")
    return SegmentationFolder(str(root), ["background", "object"], (8, 8), num_workers=0)


def test_a_folder_of_0_and_255_is_refused_before_anything_is_trained_or_scored(tmp_path):
    for stage in ("fit", "validate", "test"):
        (tmp_path / stage).mkdir()
        with pytest.raises(ValueError, match="none of 'object'"):
            folder(tmp_path / stage, [0, 255], [0, 255]).setup(stage)


def test_a_validation_split_may_lack_a_class_that_the_training_split_has(tmp_path):
    folder(tmp_path, [0, 1, 255], [0, 255]).setup("fit")
