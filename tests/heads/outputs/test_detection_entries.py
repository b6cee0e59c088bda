import pytest
import torch
from torchvision.transforms.v2 import functional as V

from heads.data.detection.instance_masks import instance_mask
from heads.geometry.boxes import pasted
from heads.geometry.record import Geometry
from heads.outputs.detection_entries import entries_of, original

SIZE = (40, 60)


def found(boxes, **more):
    return {"boxes": torch.tensor(boxes), "scores": torch.tensor([0.9, 0.5]), "labels": torch.tensor([2, 0])} | more


def seen(resize=(80, 90), flip=False):
    """An image of 40 x 60 px, resized, and padded as in a batch."""
    geometry = V.resize(Geometry.of(SIZE), list(resize))
    return V.pad(V.horizontal_flip(geometry) if flip else geometry, [0, 0, 7, 9])


def test_boxes_come_back_to_the_pixels_of_the_original_and_end_at_its_border():
    in_original = torch.tensor([[3.25, 4.5, 30.0, 20.75], [10.0, 10.0, 60.0, 40.0]])
    for flip in (False, True):
        geometry = seen(flip=flip)
        boxes = geometry.boxes(in_original)
        boxes[1] += torch.tensor([0.0, 0.0, 5.0, 5.0])  # into the padding, or beyond the border
        result = original(found(boxes.tolist()), geometry)
        assert (result["boxes"][0] - in_original[0]).abs().max() < 0.01
        assert (result["boxes"] <= torch.tensor([60.0, 40, 60, 40])).all() and (result["boxes"] >= 0).all()
    assert result["size"] == SIZE and result["labels"].tolist() == [2, 0]


def test_masks_fill_their_boxes_at_the_original_size():
    left_half = torch.zeros(28, 28)
    left_half[:, :14] = 1
    masks = torch.stack([torch.ones(28, 28), left_half])[:, None]
    geometry = seen(resize=SIZE)
    result = original(found([[10.0, 5, 30, 25], [20.0, 10, 60, 40]], masks=masks), geometry)
    whole, half = (instance_mask({"segmentation": rle}, *SIZE) for rle in result["segmentations"])
    assert whole[5:25, 10:30].all() and whole.sum() == 20 * 20
    assert half[10:, 20:40].all() and half.sum() == 30 * 20


@pytest.mark.parametrize(
    "box", [(10.4, 5, 30.4, 25), (10.6, 5, 30.6, 25), (0, 0, 60, 40), (3, 3, 3.9, 30), (7, 9, 7, 9)]
)
def test_a_mask_has_the_pixels_whose_middle_is_in_it(box):
    left, top, right, bottom = box
    y, x = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(60) + 0.5, indexing="ij")
    expected = (x > left) & (x < right) & (y > top) & (y < bottom)
    assert torch.equal(pasted(torch.ones(28, 28), torch.tensor(box), SIZE), expected)


def test_small_ellipses_come_back_from_their_grid():
    y, x = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(60) + 0.5, indexing="ij")
    cells = (torch.arange(28) + 0.5) / 14 - 1
    disc = (cells**2 + cells[:, None] ** 2 < 1).float()
    for shift in (0.0, 0.3, 0.7):
        box = torch.tensor([10.0, 5, 22, 14]) + shift
        inside = ((x - 16 - shift) / 6) ** 2 + ((y - 9.5 - shift) / 4.5) ** 2 < 1
        found = pasted(disc, box, SIZE)
        assert (found & inside).sum() / (found | inside).sum() > 0.95


@pytest.mark.parametrize("count", [0, 1, 17])
def test_any_number_of_masks(count):
    boxes = torch.tensor([[0.0, 0, 20, 20]]).expand(count, 4)
    some = {"boxes": boxes, "scores": torch.ones(count), "labels": torch.zeros(count, dtype=torch.int64)}
    assert len(original(some | {"masks": torch.rand(count, 1, 28, 28)}, seen())["segmentations"]) == count


def test_entries_have_the_ids_of_the_annotation_file_and_corner_with_size():
    result = original(found([[10.0, 5, 30, 25], [20.0, 10, 60, 40]]), Geometry.of(SIZE))
    first, second = entries_of(result, 17, [3, 5, 90])
    assert first == {"image_id": 17, "category_id": 90, "bbox": [10, 5, 20, 20], "score": pytest.approx(0.9)}
    assert second["category_id"] == 3 and second["bbox"] == [20, 10, 40, 30]
