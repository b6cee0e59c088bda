"""Readers of a dataset's lists: pairs of paths, names of images, and NAVI's annotations."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import heads

from .mutations import json_damaged, list_damaged


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _all_inside(files: Sequence[Path], root: Path) -> list[str]:
    """The files, which must exist below the root."""
    assert files
    for file in files:
        assert file.is_file() and file.resolve().is_relative_to(root.resolve()), f"read {file}"
    return list(map(str, files))


class _Lists:
    """One of several list files of a dataset."""

    name = "list.txt"

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text
        path.parent.mkdir(parents=True, exist_ok=True)

    def damage(self, rng: random.Random) -> None:
        self.path.write_bytes(list_damaged(rng, self.text))


class PairLists(_Lists):
    """Lists of image and label, as KITTI, NYU in BTS's layout, and custom folders have them."""

    def __init__(self, folder: Path) -> None:
        for i in range(3):
            for top in ("", "sync", "data_depth_annotated/train"):
                _save(folder / top / f"a/{i}.png", np.full((4, 4, 3), 9, np.uint8))
                _save(folder / top / f"d/{i}.png", np.full((4, 4), 1500, np.uint16))
        super().__init__(folder / self.name, "".join(f"/a/{i}.png d/{i}.png 518.8\n" for i in range(3)))
        root, name = str(folder), self.name
        self.modules: list[Callable[[], Any]] = [
            lambda: heads.KITTIEigen(root, train_list=name, test_list=name),
            lambda: heads.NYUv2BTS(root, train_list=name, test_list=name),
            lambda: heads.DepthFolder(root, train_list=name, val_list=name),
            lambda: heads.NormalsFolder(root, train_list=name, val_list=name),
        ]

    def damage(self, rng: random.Random) -> None:
        super().damage(rng)
        self.module, self.split = rng.choice(self.modules), rng.choice(("train", "val"))

    def read(self) -> Any:
        pairs = self.module().source(self.split).pairs
        return _all_inside([file for pair in pairs for file in pair], self.path.parent)


class NameLists(_Lists):
    """Lists of names without suffix, as Pascal VOC, Pascal Context and VOC's detection have them."""

    name = "train.txt"
    _SETS = ("Segmentation", "SegmentationContext", "Main")

    def __init__(self, folder: Path) -> None:
        for i in range(3):
            _save(folder / f"JPEGImages/2007_{i:06}.jpg", np.full((4, 4, 3), 9, np.uint8))
            for labels in ("SegmentationClass", "SegmentationClassAug", "SegmentationClassContext"):
                _save(folder / labels / f"2007_{i:06}.png", np.full((4, 4), 1, np.uint8))
            xml = folder / f"Annotations/2007_{i:06}.xml"
            xml.parent.mkdir(exist_ok=True)
            box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>"
            size = "<size><width>4</width><height>4</height></size>"
            xml.write_text(f"<annotation>{size}<object><name>cat</name>{box}</object></annotation>")
        self.root = folder
        super().__init__(folder / "ImageSets" / self._SETS[0] / self.name, "".join(f"2007_{i:06}\n" for i in range(3)))

    def damage(self, rng: random.Random) -> None:
        which = rng.randrange(3)
        self.path = self.root / "ImageSets" / self._SETS[which] / self.name
        self.path.parent.mkdir(exist_ok=True)
        super().damage(rng)
        self.which = which

    def read(self) -> Any:
        if self.which < 2:
            module = (heads.PascalVOC, heads.PascalContext)[self.which](str(self.root))
            return _all_inside([file for pair in module.split("train").pairs for file in pair], self.root)
        if self.path.stat().st_size % 2:
            return heads.VOCFolder(str(self.root), ["cat"]).annotations("train")
        return heads.PascalVOCDetection(str(self.root)).annotations("train")


class Navi:
    """``annotations.json`` of a scene of NAVI."""

    name = "annotations.json"

    def __init__(self, folder: Path) -> None:
        self.root, self.rows = folder, []
        for scene in ("multiview-00-pixel_5", "wild_set"):
            for i in range(2):
                _save(folder / "dino" / scene / "images" / f"{i:03}.jpg", np.full((8, 6, 3), 9, np.uint8))
                _save(folder / "dino" / scene / "depth" / f"{i:03}.png", np.full((8, 6), 1100, np.uint16))
        for i in range(2):
            camera = {"q": [1, 0, 0, 0], "focal_length": 3000.0}
            self.rows.append({"filename": f"{i:03}.jpg", "image_size": [4000, 3000], "camera": camera})
        self.path = folder / "dino" / "wild_set" / self.name

    def damage(self, rng: random.Random) -> None:
        self.path.write_bytes(json_damaged(rng, self.rows))

    def read(self) -> Any:
        source = heads.NAVI(str(self.root), stride=1).source("val")
        for i in range(len(source)):
            reading = source.read(i)
            assert reading.intrinsics is not None and reading.intrinsics.isfinite().all()
            assert (reading.intrinsics.diagonal() > 0).all()
        return _all_inside([file for view in source.views for file in (view.image, view.depth)], self.root)

    def library(self) -> Any:
        json.loads(self.path.read_text(encoding="utf-8"))
