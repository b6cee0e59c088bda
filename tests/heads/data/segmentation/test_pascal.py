from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import heads

SAMPLE = Path(__file__).parents[5] / "shared" / "data" / "voc2012_mini" / "VOCdevkit" / "VOC2012"
pytestmark = pytest.mark.filterwarnings("ignore:.*are missing. Scores on it")


def test_colours_of_voc_are_those_of_its_palette():
    colours = heads.PascalVOC().classes
    assert [colours[name] for name in ("background", "aeroplane", "tvmonitor")] == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 64, 128],
    ]
    if SAMPLE.is_dir():
        palette = Image.open(SAMPLE / "SegmentationClass" / "2007_000063.png").getpalette()
        assert [value for colour in colours.values() for value in colour] == palette[: 3 * 21]


def test_context_has_59_classes_in_the_order_of_its_labels():
    names = list(heads.PascalContext().classes)
    assert len(names) == 59 and names == sorted(names)  # the ids that are numbered through are alphabetical


def test_training_with_sbd_reads_its_own_list_and_folder_as_well(published):
    root = published("PascalVOC") / "VOCdevkit" / "VOC2012"
    (root / "SegmentationClassAug").mkdir()
    Image.fromarray(np.full((40, 56), 3, np.uint8)).save(root / "SegmentationClassAug" / "2009_000001.png")
    Image.fromarray(np.zeros((40, 56, 3), np.uint8)).save(root / "JPEGImages" / "2009_000001.jpg")
    (root / "ImageSets" / "Segmentation" / "aug.txt").write_text("2009_000001\n")
    data = heads.PascalVOC(str(root), (32, 32), train_set="trainaug", num_workers=0)
    with pytest.warns(UserWarning, match=r"PascalVOC trainaug has 3 images in .*; expected 10582"):
        data.setup("fit")
    assert [len(data.datasets[split]) for split in ("train", "val")] == [3, 2]
    mask = data.datasets["train"].values.read(data.datasets["train"].pairs[2][1])
    assert torch.equal(mask, torch.full((40, 56), 3)) and data.protocol["train_set"] == "trainaug"


def test_training_with_sbd_says_what_it_needs(published):
    with pytest.raises(
        ValueError,
        match=r"(?s)No file .*aug\.txt.*set data\.train_set to train\..*Expected below data.root.*SegmentationClassAug",
    ):
        heads.PascalVOC(str(published("PascalVOC")), train_set="trainaug").setup("fit")
    with pytest.raises(ValueError, match="train_set is 'val'; expected train or trainaug"):
        heads.PascalVOC(train_set="val")


def test_a_mask_that_was_saved_in_its_colours_is_refused_by_name(published):
    root = published("PascalVOC") / "VOCdevkit" / "VOC2012"
    path = root / "SegmentationClass" / "2007_val0.png"
    Image.open(path).convert("RGB").save(path)
    data = heads.PascalVOC(str(root), (32, 32), num_workers=0)
    data.setup("test")
    with pytest.raises(ValueError, match=r"2007_val0\.png has mode RGB; expected one channel of class indices"):
        list(data.test_dataloader())


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "~nobody"])
def test_a_name_that_no_file_can_have_is_missing(published, name):
    root = published("PascalVOC") / "VOCdevkit" / "VOC2012"
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text(f"2007_val0\n{name}\n")
    with pytest.raises(ValueError, match=r"val\.txt names 2 images, but 2 of their files are missing"):
        heads.PascalVOC(str(root), (32, 32)).setup("test")
