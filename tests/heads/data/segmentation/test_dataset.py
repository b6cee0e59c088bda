import numpy as np
import pytest
import torch
from PIL import Image

from heads.data.segmentation.dataset import LabelValues, SegmentationDataset, Split
from heads.data.segmentation.transforms import train_transform

VALUES = LabelValues(range(3))


@pytest.fixture
def pairs(tmp_path):
    """Five pairs; the mask of each holds its number modulo 3."""
    found = []
    for i in range(5):
        noise = np.random.default_rng(i).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.jpg")
        Image.fromarray(np.full((20, 30), i % 3, np.uint8)).save(tmp_path / f"{i}.png")
        found.append((tmp_path / f"{i}.jpg", tmp_path / f"{i}.png"))
    return found


def dataset(pairs, train=False, **kwargs):
    transform = train_transform((16, 16)) if train else None
    return SegmentationDataset(Split(pairs, VALUES), (16, 24), transform, **kwargs)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_values_become_classes_in_their_order_and_the_rest_is_ignored(tmp_path):
    Image.fromarray(np.array([[7, 11, 0, 255]], np.uint8)).save(tmp_path / "a.png")
    assert LabelValues([11, 7], [0]).read(tmp_path / "a.png").tolist() == [[1, 0, 255, 255]]


def test_a_zero_that_is_no_class_leaves_254_classes_and_255_as_it_is(tmp_path):
    Image.fromarray(np.array([[0, 1, 254, 255]], np.uint8)).save(tmp_path / "a.png")
    assert LabelValues(range(1, 255), [0]).read(tmp_path / "a.png").tolist() == [[255, 0, 253, 255]]


def test_a_value_past_the_classes_is_refused_by_name(tmp_path):
    Image.fromarray(np.array([[7, 8, 9, 12]], np.uint8)).save(tmp_path / "a.png")
    message = r"a\.png has label values \[9, 12\]; expected classes 7 to 8, 11 to 11, or \[255\] to ignore"
    with pytest.raises(ValueError, match=message):
        LabelValues([7, 8, 11]).read(tmp_path / "a.png")


def test_the_classes_of_a_whole_label_are_known_though_a_crop_lacks_some(pairs):
    label = np.zeros((20, 30), np.uint8)
    label[0, 0], label[0, 1] = 2, 255
    Image.fromarray(label).save(pairs[0][1])
    assert dataset(pairs)[0, 0]["classes_in"] == {0, 2, 255}
    cropped = [dataset(pairs, train=True)[epoch, 0] for epoch in range(8)]
    assert all(sample["classes_in"] == {0, 2, 255} for sample in cropped)
    assert not all((sample["mask"] == 2).any() for sample in cropped)


def test_short_side_keeps_the_shape_and_predictions_return(pairs):
    sample = SegmentationDataset(Split(pairs, VALUES), 10)[0, 0]
    assert sample["image"].shape == (3, 10, 15) and sample["mask"].shape == (20, 30)
    assert sample["geometry"].to_original(sample["image"]).shape == (3, 20, 30)


@pytest.mark.parametrize("kind", [0, 1])
def test_a_damaged_file_stops_a_run_unless_asked(pairs, kind):
    cut(pairs[1][kind])
    with pytest.raises(ValueError, match=rf"1\.{('jpg', 'png')[kind]} is (damaged|not an image)"):
        dataset(pairs, train=True)[0, 1]


def test_in_training_the_next_that_can_be_read_takes_the_place_of_a_damaged_one(pairs):
    cut(pairs[4][0])
    cut(pairs[0][1])
    data = dataset(pairs, train=True, skip_corrupt=True)
    sample = data[3, 4]
    assert sample["image_id"] == "1" and [r.split(" is ")[0][-5:] for r in sample["skipped"]] == ["4.jpg", "0.png"]
    assert torch.equal(data[3, 4]["image"], sample["image"])
    assert not torch.equal(data[3, 1]["image"], sample["image"])  # augmented by its own key, not twice the same
    assert data[3, 2]["skipped"] == []


def test_in_a_test_a_damaged_one_counts_for_nothing(pairs):
    cut(pairs[2][0])
    sample = dataset(pairs, skip_corrupt=True)[0, 2]
    assert sample["image_id"] == "2" and (sample["mask"] == 255).all() and len(sample["skipped"]) == 1
    assert sample["image"].shape == (3, 16, 24) and sample["mask"].shape == (16, 24) == sample["original_size"]


def test_where_nothing_can_be_read_training_stops(pairs):
    for image, _ in pairs:
        cut(image)
    with pytest.raises(ValueError, match=r"None of the 5 pairs can be read.*3\.jpg is damaged"):
        dataset(pairs, train=True, skip_corrupt=True)[0, 3]


@pytest.mark.parametrize("bad", ["missing", "size", "value", "colour"])
def test_only_damage_is_skipped(pairs, bad):
    image, mask = pairs[1]
    if bad == "missing":
        image.unlink()
    elif bad == "size":
        Image.open(mask).resize((30, 21)).save(mask)
    elif bad == "colour":
        Image.open(mask).convert("RGB").save(mask)
    else:
        Image.fromarray(np.full((20, 30), 9, np.uint8)).save(mask)
    messages = {"missing": "No file", "size": "same size", "value": r"values \[9\]", "colour": "mode RGB; expected one"}
    with pytest.raises(ValueError, match=messages[bad]):
        dataset(pairs, train=True, skip_corrupt=True)[0, 1]
