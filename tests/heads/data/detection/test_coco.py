import json

import pytest

from heads import COCODetection

pytestmark = pytest.mark.filterwarnings("ignore:.*are missing. Scores on it", "ignore:Skipped in train")


def test_80_classes_in_the_order_of_their_ids():
    names = list(COCODetection().classes)
    assert len(names) == 80 and (names[0], names[11], names[79]) == ("person", "stop sign", "toothbrush")


def test_both_splits_are_read_and_test_is_the_validation_split(coco):
    data = COCODetection(str(coco), (48, 64), masks=True, num_workers=0)
    data.setup("fit")
    data.setup("test")
    assert [len(data.datasets[split]) for split in ("train", "val", "test")] == [4, 4, 4]
    assert data.datasets["train"].paths[0] == coco / "train2017" / "a.jpg"
    assert data.truth("test") is data.truth("val")
    described = data.describe("test")
    assert described["split"] == "val" and described["images_published"] == 5000
    assert described["annotations"] == "annotations/instances_val2017.json"


def test_the_published_box_without_height_is_passed_over(coco):
    data = COCODetection(str(coco), num_workers=0)
    data.setup("fit")
    assert len(data.datasets["train"].objects.labels) == 5 and "2206849" in data.skipped["train"][0]
    with pytest.raises(ValueError, match=r"instances_train2017\.json: .*2206849"):
        COCODetection(str(coco), skip_invalid=False).setup("fit")


def test_other_categories_are_refused(coco):
    path = coco / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    next(c for c in content["categories"] if c["name"] == "tv")["name"] = "television"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"instances_val2017\.json has no category 'tv'; expected the 80 classes"):
        COCODetection(str(coco)).setup("test")


def test_root_may_be_the_folder_above(coco):
    (coco / "coco").mkdir()
    for name in ("annotations", "train2017", "val2017"):
        (coco / name).rename(coco / "coco" / name)
    data = COCODetection(str(coco), num_workers=0)
    data.setup("test")
    assert data.describe("test")["annotations"] == "coco/annotations/instances_val2017.json"
