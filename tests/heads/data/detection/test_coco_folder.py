import json
import shutil

import pytest

from heads import COCOFolder


def test_the_categories_are_the_classes_in_the_order_of_their_ids(coco_folder):
    assert list(COCOFolder(str(coco_folder)).classes) == ["cat", "dog", "cow"]
    data = COCOFolder(str(coco_folder), {"cat": [1, 2, 3], "dog": [4, 5, 6], "cow": [7, 8, 9]})
    assert data.classes["dog"] == [4, 5, 6] and data.truth("val").names == ["cat", "dog", "cow"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["cat", "dog"], r"val\.json has a category 'cow' that is not among the 2 classes"),
        (["cat", "dog", "cow", "pig"], r"val\.json has no category 'pig'; expected the 4 classes"),
        (["dog", "cat", "cow"], r"val\.json has 'cat' as category 1 by id; expected 'dog', as in the classes"),
    ],
)
def test_other_classes_than_those_of_the_file_are_refused(coco_folder, classes, message):
    with pytest.raises(ValueError, match=message):
        COCOFolder(str(coco_folder), classes).truth("val")


def test_a_training_json_with_other_categories_than_the_validation_json_is_refused(coco_folder):
    path = coco_folder / "annotations" / "train.json"
    path.write_text(path.read_text().replace('"cow"', '"bull"'))
    with pytest.raises(ValueError, match=r"train\.json has no category 'cow'"):
        COCOFolder(str(coco_folder)).setup("fit")


def test_every_split_may_have_its_own_json_and_folder(coco_folder):
    shutil.move(coco_folder / "annotations" / "train.json", coco_folder / "other.json")
    shutil.copytree(coco_folder / "train", coco_folder / "photos")
    data = COCOFolder(str(coco_folder), test_annotations="other.json", test_images="photos", num_workers=0)
    data.setup("test")
    assert data.describe("test")["split"] == "test" and data.describe("test")["annotations"] == "other.json"
    assert data.datasets["test"].paths[0] == coco_folder / "photos" / "a.jpg"
    assert data.truth("test") is not data.truth("val")


def test_test_images_lie_with_the_validation_images_by_default(coco_folder):
    data = COCOFolder(str(coco_folder), test_annotations="annotations/train.json")
    assert data.image_folder("test") == coco_folder / "val"


def test_what_is_missing_is_named(coco_folder, tmp_path):
    with pytest.raises(ValueError, match=r"data\.root is not set; expected .* or data\.classes, .* predict"):
        COCOFolder()
    with pytest.raises(ValueError, match=r"No folder .*gone; expected data\.root"):
        COCOFolder(str(tmp_path / "gone"))
    with pytest.raises(ValueError, match=r"No file .*none\.json"):
        COCOFolder(str(coco_folder), val_annotations="none.json")
    with pytest.raises(ValueError, match=r"No folder .*photos; expected the images of .*train\.json"):
        COCOFolder(str(coco_folder), train_images="photos").setup("fit")


def test_a_file_name_that_leaves_the_folder_is_refused(coco_folder):
    path = coco_folder / "annotations" / "val.json"
    content = json.loads(path.read_text())
    content["images"][1]["file_name"] = "../train/b.jpg"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"val\.json: image 99, .*leaves the image folder"):
        COCOFolder(str(coco_folder))
