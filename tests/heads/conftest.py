"""A checkpoint written by transformers and a small data set in the CamVid layout, both made anew for each session."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

CLASSES = {"sky": [0, 0, 255], "road": [90, 90, 90], "car": [200, 0, 0]}
IGNORED = 7  # label value that the data set uses for "unlabelled"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """Directory of a tiny SiglipModel, vision and text, as save_pretrained writes it."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), seed=0)


@pytest.fixture(scope="session")
def other_checkpoint(tmp_path_factory) -> Path:
    """The same architecture with other weights."""
    return write_checkpoint(tmp_path_factory.mktemp("other"), seed=1)


def write_checkpoint(folder: Path, seed: int) -> Path:
    from transformers import SiglipConfig, SiglipModel

    sizes = {"hidden_size": 96, "num_attention_heads": 3}
    vision = sizes | {"num_hidden_layers": 4, "intermediate_size": 384, "patch_size": 8, "image_size": 128}
    text = sizes | {"num_hidden_layers": 1, "intermediate_size": 96, "vocab_size": 99, "projection_size": 96}
    text |= {"bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(seed)
    SiglipModel(SiglipConfig(vision_config=vision, text_config=text)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """Six training and three validation pairs of 48 x 64 px: sky above road, a car on it, one unlabelled corner."""
    root = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for i in range(count):
            labels = np.zeros((48, 64), np.uint8)
            horizon, left = rng.integers(12, 30), rng.integers(0, 40)
            labels[horizon:] = 1
            labels[horizon + 4 : horizon + 14, left : left + 20] = 2
            image = np.array(list(CLASSES.values()), np.uint8)[labels] // 2 + rng.integers(0, 99, (48, 64, 3), np.uint8)
            labels[:6, :6] = IGNORED
            save(image, root / split / f"{i}.png")
            save(labels, root / f"{split}annot" / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """Makes a data set of 2 training and 2 validation pairs of 40 x 56 px in its published layout; returns its root."""

    def make(name: str) -> Path:
        root = tmp_path_factory.mktemp(name)
        write_published(name, root)
        return root

    return make


# images and labels of a split, with a place for the number, and the label values that occur
LAYOUTS = {
    "ADE20K": (
        "ADEChallengeData2016/images/{long}/ADE_{split}_0000000{i}.jpg",
        "ADEChallengeData2016/annotations/{long}/ADE_{split}_0000000{i}.png",
        [*range(151), 255],
    ),
    "PascalVOC": (
        "VOCdevkit/VOC2012/JPEGImages/2007_{split}{i}.jpg",
        "VOCdevkit/VOC2012/SegmentationClass/2007_{split}{i}.png",
        [*range(21), 255],
    ),
    "PascalContext": (
        "VOCdevkit/VOC2010/JPEGImages/2008_{split}{i}.jpg",
        "VOCdevkit/VOC2010/SegmentationClassContext/2008_{split}{i}.png",
        [*range(60), 255],
    ),
    "Cityscapes": (
        "leftImg8bit/{split}/bonn/bonn_00000{i}_000019_leftImg8bit.png",
        "gtFine/{split}/bonn/bonn_00000{i}_000019_gtFine_labelIds.png",
        [*range(34), 255],
    ),
    "COCOStuff": (
        "images/{split}2017/00000000000{i}.jpg",
        "stuffthingmaps/{split}2017/00000000000{i}.png",
        [*range(182), 255],
    ),
}


def write_published(name: str, root: Path) -> None:
    image, mask, values = LAYOUTS[name]
    rng = np.random.default_rng(0)
    for split, long in (("train", "training"), ("val", "validation")):
        names = []
        for i in range(2):
            places = {"split": split, "long": long, "i": i}
            path = save(rng.integers(0, 256, (40, 56, 3), np.uint8), root / image.format(**places))
            names.append(path.stem)
            labels = Image.fromarray(rng.choice(values, (40, 56)).astype(np.uint8))
            if name == "PascalVOC":
                labels.putpalette(list(range(255, -1, -1)) * 3)  # colours that are not the indices
            (root / mask.format(**places)).parent.mkdir(parents=True, exist_ok=True)
            labels.save(root / mask.format(**places))
        lists = {"PascalVOC": "VOCdevkit/VOC2012/ImageSets/Segmentation"}
        lists["PascalContext"] = "VOCdevkit/VOC2010/ImageSets/SegmentationContext"
        if name in lists:
            (root / lists[name]).mkdir(parents=True, exist_ok=True)
            (root / lists[name] / f"{split}.txt").write_text("\n".join(names) + "\n")


def save(array: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def data(scenes):
    """A data module over the scenes, without worker processes."""
    from heads import SegmentationFolder

    return SegmentationFolder(
        str(scenes),
        CLASSES,
        (48, 64),
        ignore_values=[IGNORED],
        batch_size=2,
        num_workers=0,
        predict_images=str(scenes / "val"),
    )


@pytest.fixture
def task(checkpoint):
    """A linear probe on the tiny checkpoint."""
    from heads import SegmentationTask

    torch.manual_seed(0)
    return SegmentationTask(str(checkpoint), CLASSES, (48, 64), warmup_steps=2)


@pytest.fixture
def trainer(tmp_path):
    """Makes quiet trainers that write below tmp_path; keyword arguments go to Lightning."""
    from lightning.pytorch import Trainer

    def make(**kwargs):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        return Trainer(**({"default_root_dir": tmp_path, "accelerator": "cpu", "max_epochs": 2} | quiet | kwargs))

    return make


@pytest.fixture
def coco_of_scenes(tmp_path) -> Path:
    """Generated scenes as an own data set in COCO's format: three images of 48 x 64 px a split."""
    from heads import GeneratedScenes

    root = tmp_path / "coco_of_scenes"
    data = GeneratedScenes((48, 64), val_images=3, num_workers=0)
    data.setup("validate")
    for split in ("train", "val"):
        truth = data.truth("val").coco()
        images = [image | {"file_name": f"{image['id']}.png"} for image in truth["images"]]
        seen = {annotation["category_id"] for annotation in truth["annotations"]}
        truth["categories"] = [category for category in truth["categories"] if category["id"] in seen]
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(truth | {"images": images}))
        for image in images:
            pixels = data.datasets["val"][0, image["id"]]["image"]
            save((pixels * 255).round().byte().permute(1, 2, 0).numpy(), root / split / image["file_name"])
    return root
