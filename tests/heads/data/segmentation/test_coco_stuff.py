import shutil

import numpy as np
import pytest
from PIL import Image

import heads
from heads.data.segmentation.coco_stuff import _USED

pytestmark = pytest.mark.filterwarnings("ignore:.*are missing. Scores on it")


def test_171_of_the_182_ids_are_classes():
    names = list(heads.COCOStuff().classes)
    assert len(names) == 171 and (names[0], names[79], names[80], names[-1]) == (
        "person",
        "toothbrush",
        "banner",
        "wood",
    )
    assert sorted({*range(182)} - {*_USED}) == [11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90]  # COCO's gaps, less one


def test_pixels_hold_the_id_less_one(published):
    root = published("COCOStuff")
    path = root / "stuffthingmaps" / "val2017" / "000000000000.png"
    Image.fromarray(np.array([[0, 10, 11, 12, 91, 181, 255]], np.uint8)).save(path)
    data = heads.COCOStuff(str(root))
    data.setup("test")
    assert data.datasets["test"].values.read(path).tolist() == [[0, 10, 255, 11, 80, 170, 255]]


def test_folders_may_be_called_as_in_the_archives_and_in_mmsegmentation(published):
    root = published("COCOStuff")
    for name in ("train2017", "val2017"):
        shutil.move(root / "images" / name, root / name)
    shutil.move(root / "stuffthingmaps", root / "annotations")
    for path in list((root / "annotations" / "val2017").iterdir()):
        shutil.copy(path, path.with_name(f"{path.stem}_labelTrainIds.png"))  # its own copies stay unread
    shutil.rmtree(root / "images")
    data = heads.COCOStuff(str(root))
    data.setup("fit")
    assert [p.name for p in data.datasets["val"].pairs[0]] == ["000000000000.jpg", "000000000000.png"]
