import numpy as np
import pytest
import torch

from heads.data.detection.boxes_and_masks import BoxesAndMasks
from heads.data.detection.instance_masks import encode

IMAGES = {
    1: {"id": 1, "file_name": "a.jpg", "width": 200, "height": 160},
    2: {"id": 2, "file_name": "b.jpg", "width": 300, "height": 240},
}
PLACES = [(1, [20, 10, 40, 24]), (1, [90, 100, 60, 30]), (2, [40, 150, 70, 50]), (2, [200, 20, 50, 90])]


def rows(change=lambda left, top, width, height, image: [left, top, width, height], places=PLACES):
    return [
        {"id": number, "image_id": image, "bbox": change(*box, IMAGES[image]), "segmentation": [[0] * 6]}
        for number, (image, box) in enumerate(places, 1)
    ]


def extents(places=PLACES):
    return [(left, top, left + width, top + height) for _, (left, top, width, height) in places]


def test_boxes_around_their_masks_are_right_up_to_some_pixels():
    def rounded(left, top, width, height, image):
        return [left - 3, top + 2, width + 4, height - 3]

    for change in (rows(), rows(rounded)):
        found = BoxesAndMasks(change, IMAGES, extents())
        assert (found.elsewhere, found.most, found.lines()) == ([], False, [])
    assert not BoxesAndMasks([], IMAGES, []).most


def test_one_that_lies_elsewhere_is_named_and_a_crowd_is_not():
    entries = rows()
    entries[1]["bbox"] = [90, 90, 60, 30]
    found = BoxesAndMasks(entries, IMAGES, extents())
    (line,) = found.lines()
    assert line == (
        "annotation 2 of image 1, a.jpg, has bbox [90, 90, 60, 30], and its mask spans [90, 100, 60, 30]; expected a "
        "box around the mask"
    )
    assert not found.most
    entries[1]["iscrowd"] = 1
    assert not BoxesAndMasks(entries, IMAGES, extents()).elsewhere


def test_what_has_no_box_or_no_mask_that_can_be_read_is_left_aside():
    entries = rows()
    entries[0]["bbox"] = [1, 2]
    entries[1]["bbox"] = None
    assert not BoxesAndMasks(entries, IMAGES, [*extents()[:2], None, None]).elsewhere


@pytest.mark.parametrize(
    ("change", "reading", "meant"),
    [
        (lambda x, y, w, h, i: [x, y, x + w, y + h], r"[left, top, right, bottom]", "[20, 10, 40, 24]"),
        (lambda x, y, w, h, i: [x, i["height"] - y, w, h], "[left, top measured from below, width", "[20, 10, 40, 24]"),
        (
            lambda x, y, w, h, i: [x, i["height"] - y - h, w, h],
            "[left, bottom measured from below, w",
            "[20, 10, 40, 24",
        ),
        (
            lambda x, y, w, h, i: [x, i["height"] - y - h, x + w, i["height"] - y],
            "[left, bottom, right, top]",
            "[20, 10",
        ),
        (lambda x, y, w, h, i: [i["width"] - x - w, y, w, h], "boxes of the mirrored image", "[20, 10, 40, 24]"),
        (lambda x, y, w, h, i: [x + w / 2, y + h / 2, w, h], "[centre x, centre y, width, height]", "[20, 10, 40, 24]"),
        (lambda x, y, w, h, i: [y, x, h, w], "[top, left, height, width]", "[20, 10, 40, 24]"),
        (lambda x, y, w, h, i: [y, x, y + h, x + w], "[top, left, bottom, right]", "[20, 10, 40, 24]"),
        (
            lambda x, y, w, h, i: [x / 2, y / 2, w / 2, h / 2],
            "boxes of another scale, to multiply by 2,",
            "[20, 10, 40, 24]",
        ),
        (
            lambda x, y, w, h, i: [x * 2, y * 4, w * 2, h * 4],
            "boxes of another scale, to multiply by 0.5 in x and 0.25 in y,",
            "[20, 10, 40, 24]",
        ),
        (
            lambda x, y, w, h, i: [
                v * 640 / i[side] for v, side in zip((x, y, w, h), ("width", "height") * 2, strict=True)
            ],
            "boxes of images resized to 640 x 640 px,",
            "[20, 10, 40, 24]",
        ),
    ],
)
def test_the_reading_that_fits_most_boxes_is_said(change, reading, meant):
    found = BoxesAndMasks(rows(change), IMAGES, extents())
    assert found.most
    assert f"Read as {reading}" in found.hint()
    assert f"here {meant}" in found.hint() and "4 of 4 lie around their masks" in found.hint()


def test_boxes_that_fit_no_reading_are_said_to():
    rng = np.random.default_rng(0)
    found = BoxesAndMasks(rows(lambda *_: rng.integers(1, 90, 4).tolist()), IMAGES, extents())
    assert found.most and "no other common format fits" in found.hint() and "leave segmentation out" in found.hint()


def mask(box, size):
    left, top, width, height = box
    found = torch.zeros(*size, dtype=torch.bool)
    found[top : top + height, left : left + width] = True
    return encode(found)


def test_run_lengths_are_looked_at_as_polygons_are():
    entries = rows()
    for entry, (image, box) in zip(entries, PLACES, strict=True):
        entry["segmentation"] = mask(box, (IMAGES[image]["height"], IMAGES[image]["width"]))
    assert not BoxesAndMasks(entries, IMAGES, [None] * 4).elsewhere
    entries[3]["bbox"] = [20, 20, 50, 90]
    assert [row["id"] for row, _ in BoxesAndMasks(entries, IMAGES, [None] * 4).elsewhere] == [4]
    entries[3]["segmentation"]["counts"] = "oooooooooo"  # what cannot be read contradicts nothing
    assert not BoxesAndMasks(entries, IMAGES, [None] * 4).elsewhere


def test_empty_runs_at_the_end_do_not_move_a_mask():
    entries = rows(places=PLACES[:1])
    first, inside = 20 * 160 + 10, [number for _ in range(40) for number in (24, 136)]
    counts = [first, *inside[:-1], 32000 - first - sum(inside[:-1]), 0, 0, 0]
    entries[0]["segmentation"] = {"size": [160, 200], "counts": counts}
    assert not BoxesAndMasks(entries, IMAGES, [None]).elsewhere
