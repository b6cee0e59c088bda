import numpy as np
import pytest
from PIL import Image

from heads import SegmentationFolder
from heads.data.segmentation.dataset import LabelValues
from heads.data.segmentation.label_check import has_two_classes

NAMES = ["background", "object", "more", "d", "e", "f", "g", "h"]


@pytest.fixture
def labels(tmp_path):
    """Saves labels, each with some values, and returns their files."""

    def save(*values):
        paths = [tmp_path / f"{number}.png" for number in range(len(values))]
        for path, found in zip(paths, values, strict=True):
            Image.fromarray(np.resize(np.array(found, np.uint8), (4, 6))).save(path)
        return paths

    return save


@pytest.mark.parametrize("masks", [([0, 255], [0], [255]), ([0], [0, 255], [0])])
def test_labels_of_one_class_and_ignored_pixels_are_refused(labels, masks):
    message = (
        r"labels of train, such as .*\d\.png, have only the values \[0, 255\]: 0 is 'background', and 255 is ignored\. "
        r"No pixel is left for 'object' \(1\)\. If ignored pixels .* save them with its value"
    )
    with pytest.raises(ValueError, match=message) as error:
        has_two_classes(labels(*masks), LabelValues(range(2)), NAMES[:2], "train")
    assert any(f"{number}.png" in str(error.value) for number, values in enumerate(masks) if 255 in values)


def test_an_ignored_zero_may_be_a_class_as_well(labels):
    message = r"values \[0, 1\]: 1 is 'background', and 0 is ignored.*'object' \(2\)\..*data\.reduce_zero_label"
    with pytest.raises(ValueError, match=message):
        has_two_classes(labels([0, 1]), LabelValues([1, 2], [0]), NAMES[:2], "train")


def test_a_long_list_of_classes_is_cut(labels):
    with pytest.raises(ValueError, match=r"left for 'object' \(1\), 'more' \(2\), .*'f' \(5\) and 2 more\. If"):
        has_two_classes(labels([0, 255]), LabelValues(range(8)), NAMES, "train")


def test_one_label_with_both_classes_is_enough(labels):
    values = LabelValues(range(3))
    assert has_two_classes(labels(*[[0, 255]] * 20, [0, 1]), values, NAMES[:3], "train")
    assert has_two_classes(labels([0, 255], [1]), values, NAMES[:3], "train")


def test_without_ignored_pixels_or_without_other_classes_nothing_is_refused(labels):
    assert not has_two_classes(labels([0], [0]), LabelValues(range(2)), NAMES[:2], "train")
    assert not has_two_classes(labels([255]), LabelValues(range(2)), NAMES[:2], "train")
    assert has_two_classes(labels([0, 255]), LabelValues(range(1)), NAMES[:1], "train")


def test_a_label_that_cannot_be_read_is_left_to_its_turn(labels, tmp_path):
    masks = labels([0, 9], [0, 255])
    (tmp_path / "text.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"such as .*1\.png, have only the values \[0, 255\]"):
        has_two_classes([tmp_path / "text.png", *masks], LabelValues(range(2)), NAMES[:2], "train")


def folder(root, train, val):
    for split, values in (("train", train), ("val", val)):
        for name in (split, f"{split}annot"):
            (root / name).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(root / split / "a.png")
        Image.fromarray(np.resize(np.array(values, np.uint8), (4, 6))).save(root / f"{split}annot" / "a.png")
    return SegmentationFolder(str(root), NAMES[:2], (8, 8), num_workers=0)


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_a_folder_of_0_and_255_is_refused_before_anything_is_trained_or_scored(tmp_path, stage):
    with pytest.raises(ValueError, match=r"No pixel is left for 'object'"):
        folder(tmp_path, [0, 255], [0, 255]).setup(stage)


def test_a_validation_split_may_lack_a_class_that_the_training_split_has(tmp_path):
    folder(tmp_path, [0, 1, 255], [0, 255]).setup("fit")
