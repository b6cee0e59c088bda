import pytest

from heads.data.detection.annotation_checks import (
    complete,
    invalid_annotations,
    meant_as_corners,
    name_of,
    reference_problems,
    refuse,
)

IMAGES = {3: {"id": 3, "file_name": "cats.jpg", "width": 100, "height": 80}}


def row(box, **further):
    return {"id": 12, "image_id": 3, "category_id": 7, "bbox": list(box)} | further


def test_an_error_names_the_source_the_first_entry_the_remedy_and_how_many_more_there_are():
    with pytest.raises(ValueError, match=r"^a\.json: image 3 is wrong\. Correct it\. Other invalid images: 2\.$"):
        refuse("a.json", ["image 3 is wrong", "image 4 is", "image 5 is"], "images", "Correct it.")
    with pytest.raises(ValueError, match=r"^a\.json: image 3 is wrong\.$"):
        refuse("a.json", ["image 3 is wrong"], "images")


def test_an_annotation_is_called_by_its_id_and_image_or_by_its_place():
    assert name_of(row([1, 1, 2, 2]), IMAGES) == "annotation 12 of image 3, cats.jpg,"
    assert name_of({"id": 12, "image_id": [3]}, IMAGES) == "annotation 12 of image [3]"
    assert name_of({}, IMAGES, 5) == name_of("cat", IMAGES, 5) == "annotations[5]"


def test_all_categories_are_listed_up_to_ten():
    problem = reference_problems([row([1, 1, 2, 2])], IMAGES, {5, 6})
    assert problem == [
        "annotation 12 of image 3, cats.jpg, has category_id 7, which is not in categories; expected one of 5, 6"
    ]
    assert reference_problems([row([1, 1, 2, 2])], IMAGES, set(range(10, 90)))[0].endswith("18, 19, ... (80 of them)")


@pytest.mark.parametrize(("edge", "inside"), [(1.0, True), (1.01, False)])
@pytest.mark.parametrize("side", range(4))
def test_each_side_may_be_one_pixel_beyond_the_image(side, edge, inside):
    left, top, right, bottom = (10, 10, 60, 60)
    ends = [(-edge, top, right, bottom), (left, -edge, right, bottom)]
    ends += [(left, top, 100 + edge, bottom), (left, top, right, 80 + edge)]
    left, top, right, bottom = ends[side]
    invalid = invalid_annotations([row([left, top, right - left, bottom - top])], IMAGES, masks=False)
    assert (not invalid) == inside


@pytest.mark.parametrize(
    ("boxes", "certain", "hint"),
    [
        ([(50, 40, 90, 70), (10, 10, 20, 20)], True, True),
        ([(50, 40, 90, 70), (10, 10, 5, 5)], False, True),  # the second one is right as it is
        ([(50, 40, 90, 70), (10, 10, 5, -5)], True, True),  # the second one is wrong in any case
        ([(50, 40, 90, 70), (50, 40, 90, 30)], False, False),  # the second one leaves the image and is upside down
        ([(50, 40, 90, 70), (50, 40)], True, True),
        ([(10, 10, 5, -5)], False, False),
        ([(10, 10, 20, 20)], False, False),
    ],
)
def test_corners_are_known_by_the_boxes_that_leave_their_image(boxes, certain, hint):
    rows = [row(box, id=i) for i, box in enumerate(boxes)]
    text, found = meant_as_corners(rows, invalid_annotations(rows, IMAGES, masks=False), IMAGES)
    assert (found, bool(text)) == (certain, hint)


def test_what_is_absent_is_completed_and_what_is_there_stays():
    triangle = [[10, 10, 30, 10, 30, 30]]
    rows = [row([10, 10, 20, 20], segmentation=triangle) for _ in range(3)]
    rows[2] |= {"area": 7.5, "iscrowd": True}
    for entry, masks in zip(rows, (False, True, True), strict=True):
        complete(entry, IMAGES[3], masks=masks)
    assert [rows[i]["area"] for i in (0, 2)] == [400, 7.5] and 180 < rows[1]["area"] < 220
    assert [entry["iscrowd"] for entry in rows] == [0, 0, 1]
