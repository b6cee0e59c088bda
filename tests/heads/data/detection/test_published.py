"""What every public data set of detection does where a part of it or all of it is missing."""

import pytest

import heads

CASES = {
    "COCODetection": ("coco", "4 images in .*val2017.json; expected 5000, 4996 are missing"),
    "LVIS": ("lvis", "4 images in .*lvis_v1_val.json; expected 19809, 19805 are missing"),
    "PascalVOCDetection": ("voc", "1 images in .*val.txt; expected 5823, 5822 are missing"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_part_is_a_warning_that_names_what_is_missing_once(name, request, recwarn):
    fixture, message = CASES[name]
    root = str(request.getfixturevalue(fixture))
    with pytest.warns(UserWarning, match=rf"{name} val has {message}\. Scores on it"):
        data = getattr(heads, name)(root, num_workers=0)
        data.setup("test")
    recwarn.clear()
    data.setup("test")
    assert not recwarn.list and data.describe("test")["images_published"] > data.describe("test")["images"]


@pytest.mark.parametrize(
    ("name", "options", "folder"),
    [
        ("COCODetection", {}, "annotations in .* coco"),
        ("LVIS", {}, "annotations or val2017 or train2017 in .* lvis"),
        ("PascalVOCDetection", {}, "JPEGImages in .* VOCdevkit/VOC2012"),
        ("PascalVOCDetection", {"year": 2007}, "JPEGImages in .* VOCdevkit/VOC2007"),
    ],
)
def test_a_wrong_root_is_answered_with_the_expected_tree(name, options, folder, tmp_path):
    kind = getattr(heads, name)
    with pytest.raises(ValueError, match=rf"No folder {folder}") as error:
        kind(str(tmp_path), **options).setup("test")
    assert kind.layout in str(error.value)
    with pytest.raises(ValueError, match=r"data\.root is not set; expected the folder"):
        kind(**options).setup("test")
