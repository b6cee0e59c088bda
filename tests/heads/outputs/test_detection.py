import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from heads.data.detection.instance_masks import encode, instance_mask
from heads.outputs.detection import DetectionFiles, draw
from heads.outputs.options import Drawing

COLOURS = {"cat": [200, 0, 0], "dog": [0, 0, 200]}


def found(boxes=((4.0, 20, 30, 44), (50.0, 10, 90, 50)), scores=(0.9, 0.4), labels=(0, 1), masks=False):
    result = {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "scores": torch.tensor(scores),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "size": (60, 100),
    }
    if masks:
        inside = torch.zeros(len(boxes), 60, 100, dtype=torch.bool)
        for mask, (left, top, right, bottom) in zip(inside, boxes, strict=True):
            mask[int(top) : int(bottom), int(left) : int(right)] = True
        result["segmentations"] = [encode(mask) for mask in inside]
    return result


def pixels(drawing, colours=COLOURS, **options):
    photo = Image.new("RGB", (100, 60), (100, 100, 100))
    before = photo.copy()
    drawn = np.array(draw(found(**options), photo, colours, drawing))
    assert np.array_equal(np.array(photo), np.array(before))
    return drawn


def test_boxes_above_the_threshold_are_drawn_in_the_colours_of_their_classes():
    drawn = pixels(Drawing(threshold=0.5))
    assert drawn[30, 4].tolist() == [200, 0, 0] and drawn[43, 20].tolist() == [200, 0, 0]
    assert drawn[44, 20].tolist() == [100, 100, 100]
    assert (drawn[:, 45:] == 100).all()
    drawn = pixels(Drawing(threshold=0.4))
    assert drawn[30, 50].tolist() == [0, 0, 200] and drawn[25, 20].tolist() == [100, 100, 100]


@pytest.mark.parametrize(("opacity", "expected"), [(0.0, [100, 100, 100]), (1.0, [200, 0, 0]), (0.5, [150, 50, 50])])
def test_masks_are_laid_over_the_photograph(opacity, expected):
    drawn = pixels(Drawing(opacity, threshold=0.5), masks=True)
    assert drawn[35, 20].tolist() == expected and drawn[25, 70].tolist() == [100, 100, 100]


def test_labels_stay_within_the_picture():
    drawn = pixels(Drawing(), boxes=((0.0, 0, 100, 60),), scores=(0.9,), labels=(0,))
    assert (drawn[2:10, 2:40] == [200, 0, 0]).all(axis=-1).any()  # below the upper edge, where there is none above
    drawn = pixels(Drawing(), boxes=((95.0, 20, 99, 40),), scores=(0.9,), labels=(0,))
    assert (drawn[12:18, 65:90] != 100).any(axis=-1).mean() > 0.9  # to the left, where it is too wide


def test_all_four_sides_of_a_box_are_seen_that_fills_the_picture():
    drawn = pixels(Drawing(), boxes=((0.0, 0, 100, 60),), scores=(0.9,), labels=(0,))
    sides = drawn[20:, 0], drawn[0, 80:], drawn[:, -1], drawn[-1]  # beside the label
    assert all((side == [200, 0, 0]).all() for side in sides)


@pytest.mark.parametrize("name", ["", "two\nlines", "Katze/貓", "\ud800", "a" * 500])
@pytest.mark.parametrize("box", [(4.0, 20, 30, 44), (99.0, 59, 100, 60), (7.0, 7, 7, 7)])
def test_any_name_and_any_box_are_drawn(name, box):
    drawn = pixels(Drawing(), {name: [200, 0, 0]}, boxes=(box,), scores=(0.9,), labels=(0,))
    assert (drawn == [200, 0, 0]).all(axis=-1).any()


def test_one_json_holds_the_photographs_by_name_and_what_was_found_in_them(tmp_path):
    files = DetectionFiles(COLOURS)
    for name in ("b.png", "a.png"):
        Image.new("RGB", (100, 60)).save(tmp_path / name)
        files.write(found(masks=name == "a.png"), tmp_path / name, tmp_path / "out", Drawing())
    files.write_together(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "drawings").iterdir()} == {"a.jpg", "b.jpg"}
    dataset = COCO(str(tmp_path / "out" / "detections.json"))
    assert [dataset.imgs[i]["file_name"] for i in (1, 2)] == ["a.png", "b.png"]
    assert [c["name"] for c in dataset.loadCats(dataset.getCatIds())] == ["cat", "dog"]
    first, last = dataset.anns[1], dataset.anns[4]
    assert first["bbox"] == [4, 20, 26, 24] and first["area"] == 26 * 24
    assert instance_mask(first, 60, 100).sum() == 26 * 24
    assert last["image_id"] == 2 and last["category_id"] == 2 and last["score"] == pytest.approx(0.4)
    assert "segmentation" not in last
    files.write_together(tmp_path / "empty")  # nothing is written twice
    assert json.loads((tmp_path / "empty" / "detections.json").read_text())["images"] == []
