import json
import re
from pathlib import Path

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from heads.data.detection.coco_json import read_coco
from heads.data.detection.instance_masks import encode

SAMPLE = Path(__file__).parents[5] / "shared" / "data" / "coco_sample" / "annotations"
TRIANGLE = [[5, 5, 25, 5, 25, 25]]


def content(boxes=((5, 5, 20, 20), (30, 10, 15.5, 30)), **further):
    """Two images of 100 x 80 px, the boxes on the first one, and categories that stand out of order."""
    annotations = [
        {"id": i, "image_id": 3, "category_id": 7, "bbox": list(box), "area": 400, "iscrowd": 0}
        for i, box in enumerate(boxes, 11)
    ]
    images = [{"id": i, "file_name": name, "width": 100, "height": 80} for i, name in ((3, "cats.jpg"), (4, "sea.jpg"))]
    categories = [{"id": 7, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories} | further


def lvis():
    found = content()
    for category in found["categories"]:
        category["frequency"] = "r"
    for image in found["images"]:
        image |= {"neg_category_ids": [2], "not_exhaustive_category_ids": []}
        image["coco_url"] = f"http://images.cocodataset.org/train2017/{image.pop('file_name')}"
    for annotation in found["annotations"]:
        del annotation["iscrowd"]
    return found


@pytest.fixture
def read(tmp_path):
    def read(found, **options):
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(found))
        return read_coco(path, **options)

    return read


def refused(read, found, message, **options):
    with pytest.raises(ValueError, match=r"instances\.json.*" + message):
        read(found, **options)


def test_a_file_is_read_with_its_categories_sorted_and_its_empty_images_kept(read, tmp_path):
    found = read(content())
    assert (found.source, found.skipped) == (str(tmp_path / "instances.json"), [])
    assert (found.category_ids, found.names) == ([2, 7], ["dog", "cat"])
    assert {i: [a["id"] for a in rows] for i, rows in found.by_image().items()} == {3: [11, 12], 4: []}
    assert found.annotations[1]["bbox"] == [30, 10, 15.5, 30]


def test_what_may_be_absent_is_added(read):
    found = content()
    for annotation, triangle in zip(found["annotations"], (TRIANGLE, [[30, 10, 45.5, 10, 45.5, 40]]), strict=True):
        del annotation["area"], annotation["iscrowd"]
        annotation["segmentation"] = triangle
    boxes, masks = read(found), read(found, masks=True)
    assert [(a["area"], a["iscrowd"]) for a in boxes.annotations] == [(400, 0), (465, 0)]
    assert all(150 < a["area"] < 250 for a in masks.annotations)  # half of the boxes
    assert boxes.annotations[0]["segmentation"] == TRIANGLE  # kept though not looked at


def test_a_segmentation_is_looked_at_only_where_masks_are_wanted(read):
    found = content()
    found["annotations"][0]["segmentation"] = [[1, 2]]
    assert len(read(found).annotations) == 2
    refused(read, found, "annotation 11 of image 3, cats.jpg, has a segmentation whose polygon 1 has 2", masks=True)


def test_a_perfect_answer_scores_1_though_ids_begin_with_0(read):
    found = content()
    found["annotations"][0]["id"] = 0  # pycocotools takes it for no match
    truth = COCO()
    truth.dataset = read(found).coco()
    truth.createIndex()
    assert sorted(truth.anns) == [12, 13]
    answer = [a | {"score": 0.9} for a in truth.dataset["annotations"]]
    scoring = COCOeval(
        truth, truth.loadRes([{k: a[k] for k in ("image_id", "category_id", "bbox", "score")} for a in answer]), "bbox"
    )
    scoring.evaluate()
    scoring.accumulate()
    scoring.summarize()
    assert scoring.stats[0] == pytest.approx(1.0)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_byte_order_marks_and_windows_line_ends_are_read(tmp_path, line_end, mark):
    path = tmp_path / "instances.json"
    path.write_bytes(mark + json.dumps(content(), indent=1).replace("\n", line_end).encode())
    assert len(read_coco(path).annotations) == 2


def test_truncated_json_says_where_it_ends(tmp_path):
    path = tmp_path / "instances.json"
    text = json.dumps(content(), indent=1)
    for end in (1, len(text) // 3, len(text) // 2, len(text) - 1, text.index("}") + 1):
        path.write_text(text[:end])
        with pytest.raises(
            ValueError, match=r"instances\.json is truncated: it ends after \d+ characters \(.*line \d+ col"
        ):
            read_coco(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"instances\.json is truncated: it ends after 0 characters"),
        (b'{"images": [}]}', r"instances\.json is not valid json \(Expecting value: line 1 column 13"),
        (b"\xff\xfe{\x00", r"instances\.json is not UTF-8 text"),
        (b"\x1f\x8b\x08\x00", r"instances\.json is not UTF-8 text"),
        (b"[" * 200_000, r"instances\.json cannot be read as json"),
        (b"1" * 5000, r"instances\.json cannot be read as json"),
        (b"3", r"instances\.json holds 3; expected COCO's object annotations"),
        (b"[]", r"instances\.json holds a list; expected COCO's object annotations"),
        (b'[{"image_id": 1, "score": 0.5}]', r"instances\.json holds results, a list of boxes with scores; expected"),
        (
            b'{"info": {}}',
            r"has no list images and no list annotations and no list categories; it holds info; expected",
        ),
        (b"{}", r"has no list images .*; it holds nothing"),
        (
            b'{"images": {}, "annotations": [], "categories": []}',
            r"has no list images; it holds images, annotations, cat",
        ),
    ],
)
def test_files_that_are_no_annotations(tmp_path, data, message):
    path = tmp_path / "instances.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_coco(path)


def test_a_file_that_is_missing(tmp_path):
    for path in (tmp_path / "instances.json", tmp_path):
        with pytest.raises(ValueError, match=rf"No file {re.escape(str(path))}; expected COCO's object annotations"):
            read_coco(path)


@pytest.mark.parametrize(("key", "kind"), [("segments_info", "panoptic segments"), ("caption", "captions")])
def test_other_annotations_of_coco_are_known_by_name(read, key, kind):
    found = {"images": [], "annotations": [{"image_id": 1, key: []}]}
    refused(read, found, rf"holds {kind}; .*Pass instances_\*\.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 7.0}, r"categories\[1\] is .*expected an object with id, a whole number, and name"),
        ({"name": None}, r"categories\[1\] is .*expected an object with id"),
        ({"id": 7}, r"categories\[1\] has id 7, like another category; expected each id once"),
        ({"name": "cat"}, r"categories\[1\] has name 'cat', like another category; expected each name once"),
    ],
)
def test_categories_that_are_wrong(read, change, message):
    found = content()
    found["categories"][1] |= change
    refused(read, found, message)


def test_lists_without_entries(read):
    refused(read, content(categories=[]), "has no category")
    refused(read, content(categories=[3]), r"categories\[0\] is 3; expected an object")
    refused(read, content(images=[]), "has no image")
    assert read(content(annotations=[])).by_image() == {3: [], 4: []}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": True}, r"images\[1\] is .*expected an object with id, a whole number"),
        ({"id": 3}, r"image 3, sea\.jpg, has the id of cats\.jpg; expected each id once"),
        ({"width": 0}, r"image 4, sea\.jpg, has width 0; expected a whole number of pixels from 1 to 1000000"),
        ({"width": 10**400}, r"image 4, sea\.jpg, has width 10+\.\.\.0+; expected"),
        ({"height": 80.5}, r"image 4, sea\.jpg, has height 80\.5; expected"),
        ({"height": None}, r"image 4, sea\.jpg, has height None; expected"),
        ({"file_name": None}, r"image 4, None, has no file_name; expected the image's path"),
        ({"file_name": 4}, r"image 4, 4, has no file_name"),
    ],
)
def test_images_that_are_wrong(read, change, message):
    found = content()
    found["images"][1] |= change
    refused(read, found, message + r".*Correct the entry\.$")


@pytest.mark.parametrize(
    "name", ["/etc/x.jpg", "../x.jpg", "a/../../x.jpg", "a\\x.jpg", "C:/x.jpg", "C:x.jpg", "x\0.jpg"]
)
def test_a_file_name_that_leaves_the_image_folder(read, name):
    found = content()
    found["images"][1]["file_name"] = name
    refused(read, found, rf"image 4, {re.escape(name)}, leaves the image folder; expected a path below it")
    del found["images"][1]["file_name"]
    found["images"][1]["coco_url"] = "http://images.cocodataset.org/../x.jpg"
    refused(read, found, r"image 4, \.\./x\.jpg, leaves the image folder")


def test_a_file_name_may_have_folders(read):
    found = content()
    found["images"][1]["file_name"] = "val2017/..sea.jpg"
    assert read(found).images[1]["file_name"] == "val2017/..sea.jpg"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"id": 11},
            r"annotation 11 of image 3, cats\.jpg, has the id of another annotation; expected each id once",
        ),
        ({"id": "12"}, r"annotations\[1\] has id '12'; expected a whole number"),
        ({"id": True}, r"annotations\[1\] has id True; expected a whole number"),
        ({"image_id": 99}, r"annotation 12 of image 99 has an image_id that is not in images"),
        ({"image_id": None}, r"annotation 12 of image None has image_id None; expected a whole number"),
        (
            {"category_id": 9},
            r"annotation 12 of image 3, cats\.jpg, has category_id 9, which is not in categories; .*2, 7",
        ),
        ({"iscrowd": 2}, r"annotation 12 of image 3, cats\.jpg, has iscrowd 2; expected 0 or 1"),
    ],
)
def test_ids_that_do_not_fit_are_refused_though_wrong_boxes_are_skipped(read, change, message):
    found = content()
    found["annotations"][1] |= change
    refused(read, found, message, skip_invalid=True)


def test_annotations_without_ids_or_that_are_no_objects(read):
    found = content()
    del found["annotations"][1]["id"]
    refused(read, found, r"annotations\[1\] has no id; expected a whole number")
    found["annotations"][0] = 5
    refused(read, found, r"annotations\[0\] is 5; expected an object.* Other invalid annotations: 1\.$")


WRONG = [
    ({"bbox": [5, 5, 0, 20]}, r"has bbox \[5, 5, 0, 20\]; expected a width and a height above 0"),
    ({"bbox": [5, 5, 20, -3]}, r"has bbox \[5, 5, 20, -3\]; expected a width and a height above 0"),
    ({"bbox": [90, 5, 12, 20]}, r"has bbox \[90, 5, 12, 20\], which extends beyond its image of 100 x 80 px; expected"),
    ({"bbox": [5, 70, 10, 12]}, r"has bbox \[5, 70, 10, 12\], which extends beyond its image"),
    ({"bbox": [-2, 5, 10, 12]}, r"has bbox \[-2, 5, 10, 12\], which extends beyond its image"),
    ({"bbox": [100, 5, 1, 20]}, r"has bbox \[100, 5, 1, 20\], which extends beyond its image"),
    ({"bbox": [5, 80, 20, 0.8]}, r"has bbox \[5, 80, 20, 0\.8\], which extends beyond its image"),
    ({"bbox": [5, 5, 20]}, r"has bbox \[5, 5, 20\]; expected four finite numbers"),
    ({"bbox": [5, 5, 20, float("nan")]}, r"has bbox \[5, 5, 20, nan\]; expected four finite numbers"),
    ({"bbox": [5, 5, 20, float("inf")]}, r"has bbox \[5, 5, 20, inf\]; expected four finite numbers"),
    ({"bbox": ["5", "5", "20", "20"]}, r"has bbox \['5', '5', '20', '20'\]; expected four finite numbers"),
    ({"bbox": None}, r"has bbox None; expected four finite numbers"),
    ({"area": 0}, r"has area 0; expected a number of pixels above 0"),
    ({"area": float("nan")}, r"has area nan; expected"),
    ({"area": 10**400}, r"has area 10+\.\.\.0+; expected"),
    ({"area": "400"}, r"has area '400'; expected"),
    ({"segmentation": None}, r"has no segmentation; expected a list of polygons"),
    ({"segmentation": {"size": [80, 90], "counts": [7200]}}, r"has RLE of size \[80, 90\]; expected .*\[80, 100\]"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_cannot_be_right_is_refused_or_skipped(read, change, message):
    found = content()
    for annotation in found["annotations"]:
        annotation["segmentation"] = TRIANGLE
    found["annotations"][1] |= change
    named = r"annotation 12 of image 3, cats\.jpg, " + message
    refused(read, found, named + r".*set skip_invalid to skip it\.$", masks=True)
    kept = read(found, masks=True, skip_invalid=True)
    assert [a["id"] for a in kept.annotations] == [11] and len(kept.images) == 2
    assert len(kept.skipped) == 1 and re.match(named, kept.skipped[0])


def test_one_pixel_beyond_the_image_is_rounding_and_stays(read):
    boxes = [(-1, -1, 102, 82), (0.4, 79, 100, 2)]
    assert [tuple(a["bbox"]) for a in read(content(boxes)).annotations] == boxes


def test_the_first_of_many_is_named_and_the_others_are_counted(read):
    found = content([(5, 5, 0, 20)] * 4 + [(5, 5, 9, 9)])
    refused(read, found, r"annotation 11 .* Other invalid annotations: 3\.$")
    found["annotations"].pop()
    refused(read, found, r"annotation 11 .* No valid annotation is left\. Other .*: 3\.$", skip_invalid=True)


def test_corners_where_width_and_height_are_due_are_noticed_and_never_skipped(read):
    found = content([(10, 10, 40, 40), (50, 40, 90, 70)])  # the first one could be either
    message = r"annotation 12 .*would be valid and no other box invalid.*here \[50, 40, 40, 30\]\.$"
    refused(read, found, message)
    refused(read, found, message, skip_invalid=True)


def test_one_wrong_box_among_right_ones_is_skipped_though_it_could_be_corners(read):
    found = content([(50, 40, 10, 10), (50, 40, 90, 70)])
    refused(read, found, r"annotation 12 .*all boxes that extend beyond their image would be valid\.")
    assert [a["id"] for a in read(found, skip_invalid=True).annotations] == [11]
    with pytest.raises(ValueError, match="set skip_invalid") as raised:
        read(content([(10, 10, 40, 40), (50, 40, 103, 70)]))  # right neither way
    assert "Read as" not in str(raised.value)


def test_boxes_relative_to_their_image_are_noticed(read):
    refused(read, content([(0.1, 0.1, 0.5, 0.3)]), r"no box has a number above 1; expected pixels\. Multiply")


def test_lvis_takes_its_paths_from_the_url_and_has_no_crowds(read):
    found = read(lvis(), lvis=True)
    assert [i["file_name"] for i in found.images] == ["train2017/cats.jpg", "train2017/sea.jpg"]
    assert [a["iscrowd"] for a in found.annotations] == [0, 0]


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        ("categories", {"frequency": "x"}, r"categories\[0\] \(cat\) has frequency 'x'; expected r, c or f"),
        (
            "images",
            {"neg_category_ids": None},
            r"image 3, train2017/cats\.jpg, has neg_category_ids None; expected a list",
        ),
        ("images", {"not_exhaustive_category_ids": [99]}, r"has not_exhaustive_category_ids \[99\]; expected"),
    ],
)
def test_what_federated_scoring_needs_is_asked_for(read, where, change, message):
    found = lvis()
    found[where][0] |= change
    refused(read, found, message, lvis=True)
    assert len(read(found).annotations) == 2


@pytest.mark.parametrize(("name", "other"), [("./cats.jpg", "cats.jpg"), ("a//b.jpg", "a/b.jpg"), ("c.jpg", "c.jpg")])
def test_one_file_under_two_ids_is_refused_and_both_are_named(read, name, other):
    found = content()
    for image, file_name in zip(found["images"], (other, name), strict=True):
        image["file_name"] = file_name
    message = rf"image 4, {re.escape(name)}, is the same file as image 3, {re.escape(other)}; expected one entry"
    refused(read, found, message)


def rle_of(*runs):
    return {"size": [80, 100], "counts": list(runs)}


@pytest.mark.parametrize(
    "segmentation",
    [
        [[10, 10, 10, 10, 10, 10]],
        [[10, 10, 20, 20, 30, 30]],
        [[10, 10, 20, 20, 10, 10], [40, 10, 40, 20, 40, 30]],
        [[10, 10, 20, 20, 20, 10, 20, 20]],
        rle_of(8000),
        rle_of(100, 0, 7900),
        encode(torch.zeros(80, 100, dtype=torch.bool)),
    ],
)
def test_a_mask_without_a_pixel_is_wrong_where_masks_are_read(read, segmentation):
    found = content()
    for annotation in found["annotations"]:
        left, top, width, height = annotation["bbox"]
        annotation["segmentation"] = [[left, top, left + width, top, left + width, top + height]]
    found["annotations"][1]["segmentation"] = segmentation
    message = r"annotation 12 of image 3, cats\.jpg, has a segmentation that covers no pixel"
    refused(read, found, message + ".*set skip_invalid", masks=True)
    kept = read(found, masks=True, skip_invalid=True)
    assert [a["id"] for a in kept.annotations] == [11] and re.match(message, kept.skipped[0])
    assert len(read(found, masks=True, as_published=True).annotations) == 2


def test_a_polygon_that_crosses_itself_and_one_beside_a_flat_one_have_pixels(read):
    crossed = [[5, 5, 25, 25, 25, 5, 5, 25]]  # its halves cancel in the shoelace formula
    beside = [[30, 10, 40, 20, 30, 10], [30, 10, 45.5, 10, 45.5, 40]]
    found = content()
    for annotation, segmentation in zip(found["annotations"], (crossed, beside), strict=True):
        annotation["segmentation"] = segmentation
    assert len(read(found, masks=True).annotations) == 2


def test_sides_that_contradict_each_other_are_refused_though_masks_are_not_wanted(read):
    found = content([(5, 5, 20, 20), (30, 10, 15, 30), (60, 30, 20, 20)])
    for annotation in found["annotations"]:
        left, top, width, height = annotation["bbox"]
        annotation["segmentation"] = [[left, top, left + width, top, left + width, top + height]]
    found["annotations"][2]["bbox"] = [20, 30, 20, 20]
    message = r"annotation 13 of image 3, cats\.jpg, has bbox \[20, 30, 20, 20\], and its mask spans \[60, 30, 20, 20\]"
    for masks in (False, True):
        refused(read, found, message + ".*set skip_invalid", masks=masks)
        kept = read(found, masks=masks, skip_invalid=True)
        assert [a["id"] for a in kept.annotations] == [11, 12] and re.match(message, kept.skipped[0])
        assert len(read(found, masks=masks, as_published=True).annotations) == 3


def test_a_file_whose_boxes_lie_elsewhere_than_their_masks_is_never_skipped(read):
    found = content([(8, 50, 20, 12), (30, 60, 20, 8)])
    for annotation in found["annotations"]:
        left, below, width, height = annotation["bbox"]
        top = 80 - below - height
        annotation["segmentation"] = [[left, top, left + width, top, left + width, top + height]]
    message = r"annotation 11 .*2 of 2 boxes\. Read as \[left, bottom measured from below.*here \[8, 18, 20, 12\]\."
    for options in ({}, {"skip_invalid": True}, {"masks": True}, {"as_published": True}):
        refused(read, found, message, **options)


def test_boxes_relative_to_their_image_are_noticed_beside_masks(read):
    found = content([(0.05, 0.1, 0.5, 0.3)])
    found["annotations"][0]["segmentation"] = [[5, 8, 55, 8, 55, 32]]
    refused(read, found, r"no box has a number above 1; expected pixels\. Multiply")


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="needs ../shared/data/coco_sample")
@pytest.mark.parametrize(("split", "images", "annotations"), [("train", 26, 181), ("val", 27, 174)])
def test_the_sample_of_coco_is_read(split, images, annotations):
    found = read_coco(SAMPLE / f"instances_{split}2017.json", masks=True)
    assert [len(rows) for rows in (found.images, found.annotations, found.categories)] == [images, annotations, 80]
    assert found.category_ids[-1] == 90 and found.names[-1] == "toothbrush"
    with pytest.raises(ValueError, match=rf"panoptic_{split}2017\.json holds panoptic segments"):
        read_coco(SAMPLE / f"panoptic_{split}2017.json")
