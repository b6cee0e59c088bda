import shutil

import pytest

from heads import LVIS

pytestmark = pytest.mark.filterwarnings("ignore:.*are missing. Scores on it")


def test_names_are_read_from_the_validation_json_or_are_numbers(lvis):
    assert list(LVIS(str(lvis)).classes) == [f"thing_{i}" for i in range(5)]
    assert len(LVIS().classes) == 1203


def test_images_lie_where_their_url_says(lvis):
    data = LVIS(str(lvis), (48, 64), masks=True, num_workers=0)
    data.setup("fit")
    paths = [path.relative_to(lvis).as_posix() for path in data.datasets["val"].paths]
    assert paths == ["train2017/val_100.jpg", "val2017/val_99.jpg", "val2017/val_98.jpg", "val2017/val_97.jpg"]
    assert data.datasets["train"][0, 0]["image_id"] == 100


def test_what_federated_scoring_needs_is_in_the_truth(lvis):
    data = LVIS(str(lvis))
    assert data.lvis and data.test_split == "val"
    assert [category["frequency"] for category in data.truth("test").categories] == ["r", "f", "f", "c", "r"]
    assert data.truth("test").images[0]["neg_category_ids"] == [1, 3]


def test_the_json_may_lie_in_annotations(lvis):
    (lvis / "annotations").mkdir()
    for split in ("train", "val"):
        shutil.move(lvis / f"lvis_v1_{split}.json", lvis / "annotations")
    data = LVIS(str(lvis), num_workers=0)
    data.setup("test")
    assert data.describe("test") | {"annotations": "annotations/lvis_v1_val.json"} == data.describe("test")


def test_a_missing_json_is_answered_with_the_expected_tree(lvis):
    (lvis / "lvis_v1_val.json").unlink()
    with pytest.raises(ValueError, match=r"No file .*lvis_v1_val\.json") as error:
        LVIS(str(lvis))
    assert LVIS.layout in str(error.value)
