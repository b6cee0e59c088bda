import numpy as np
import pytest
import torch
from PIL import Image

import heads

pytestmark = pytest.mark.filterwarnings("ignore:.*are missing. Scores on it")


def label(data, index=0):
    data.setup("test")
    dataset = data.datasets["test"]
    return dataset.values.read(dataset.pairs[index][1])


def test_ids_become_train_ids(published):
    root = published("Cityscapes")
    path = root / "gtFine" / "val" / "bonn" / "bonn_000000_000019_gtFine_labelIds.png"
    Image.fromarray(np.array([[0, 7, 8, 9, 33, 255]], np.uint8)).save(path)
    assert label(heads.Cityscapes(str(root))).tolist() == [[255, 0, 1, 255, 18, 255]]


def test_train_ids_are_read_where_every_image_has_them(published):
    root = published("Cityscapes")
    folder = root / "gtFine" / "val" / "bonn"
    for i in range(2):
        before = label(heads.Cityscapes(str(root)))
        Image.fromarray(np.full((40, 56), 18, np.uint8)).save(folder / f"bonn_00000{i}_000019_gtFine_labelTrainIds.png")
        assert torch.equal(label(heads.Cityscapes(str(root))), before if i == 0 else torch.full((40, 56), 18))


def test_an_image_without_label_and_a_split_without_image_are_refused(published):
    root = published("Cityscapes")
    (root / "gtFine" / "val" / "bonn" / "bonn_000001_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 images in .*val have no label, first .*bonn_000001_.*labelIds\.png"):
        heads.Cityscapes(str(root)).setup("test")
    for path in (root / "leftImg8bit" / "val" / "bonn").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"val holds no image; expected CITY"):
        heads.Cityscapes(str(root)).setup("test")
