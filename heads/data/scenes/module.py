"""Generated scenes as a data module: rooms with solids, rendered on demand."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...geometry.record import Geometry
from ..checks import Range, check_count, check_size
from ..detection.annotations import Annotations, Entry
from ..detection.instance_masks import encode
from ..image_folder import described
from ..module import DenseDataModule
from ..sampling import EpochDataset, Sample, SampleKey
from .render import CLASSES, render

_STREAMS = {"train": 0, "val": 1, "test": 2}


class GeneratedScenes(DenseDataModule):
    """Scenes with classes, depth, normals, boxes, instances and captions; see :mod:`heads.data.scenes.render`.

    A scene depends only on the seed, the split and its index, and with ``fresh`` in training also on the epoch. No two
    splits share a scene. Nothing is read from disk or network.

    Args:
        img_size: Height and width [px].
        train_images: Scenes per training epoch.
        val_images: Number of validation scenes.
        test_images: Number of test scenes.
        fresh: New training scenes in every epoch.
        batch_size: Images per batch.
        num_workers: Worker processes per loader.
        seed: Seed of scenes and sampling order.
        predict_images: Folder of images to predict.

    Raises:
        ValueError: A size or number is too small.
    """

    stacked: ClassVar[tuple[str, ...]] = ("image", "mask", "depth", "normal", "intrinsics")
    lvis: ClassVar[bool] = False
    masks: ClassVar[bool] = True
    depth_range: ClassVar[Range | None] = None

    def __init__(
        self,
        img_size: tuple[int, int] = (128, 128),
        *,
        train_images: int = 1000,
        val_images: int = 100,
        test_images: int = 100,
        fresh: bool = True,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
        predict_images: str | None = None,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        counts = {"train": train_images, "val": val_images, "test": test_images}
        for split, count in counts.items():
            check_count(f"{split}_images", count)
        check_count("seed", seed, least=0)
        self.classes = CLASSES
        self.img_size = self.test_size = check_size("img_size", img_size, least=16)
        self.counts = counts
        self.fresh = fresh
        self.predict_images = predict_images
        self.test_split = "test"
        self._truth: dict[str, Annotations] = {}

    def truth(self, split: str) -> Annotations:
        """The ground truth of val or test in COCO's format: boxes and masks of visible solids; rendered once.

        An image's id is its index, a category's id its label plus 1. Every class is a category, also those of the room.
        """
        if split not in self._truth:
            self._truth[split] = _annotations(f"generated scenes, {split}", self.dataset(split))
        return self._truth[split]

    def dataset(self, split: str) -> "SceneDataset":
        """The scenes of train, val or test."""
        fresh = self.fresh and split == "train"
        return SceneDataset(split, self.counts[split], self.img_size, self.seed, fresh)


class SceneDataset(EpochDataset):
    """Scenes by (epoch, index), with every batch key that they can fill.

    Args:
        split: train, val or test.
        count: Number of scenes.
        img_size: Height and width [px].
        seed: Seed of the scenes, at least 0.
        fresh: New scenes in every epoch.
    """

    def __init__(self, split: str, count: int, img_size: tuple[int, int], seed: int, fresh: bool = False) -> None:
        self.split = split
        self.count = count
        self.img_size = img_size
        self.seed = seed
        self.fresh = fresh

    def __len__(self) -> int:
        return self.count

    def sample(self, key: SampleKey) -> Sample:
        """The scene of an index; with ``fresh`` another one in each epoch."""
        epoch, index = key[0] if self.fresh else 0, key[1]
        scene = render((self.seed, _STREAMS[self.split], index, epoch), self.img_size)
        name = f"{self.split}-{index:06d}" + (f"-{epoch}" if self.fresh else "")
        arrays: dict[str, Any] = {
            key: torch.from_numpy(getattr(scene, key))
            for key in ("mask", "depth", "normal", "boxes", "labels", "instance_masks", "intrinsics")
        }
        image: Tensor = torch.from_numpy(scene.image).permute(2, 0, 1).contiguous()
        arrays["area"] = arrays["instance_masks"].sum((1, 2)).float()
        arrays["iscrowd"] = torch.zeros(len(scene.labels), dtype=torch.bool)
        sample = described(Path(name), image, Geometry.of(self.img_size))
        return sample | arrays | {"caption": scene.caption, "image_id": index}


def _annotations(source: str, scenes: SceneDataset) -> Annotations:
    """The solids of the scenes in COCO's format."""
    images: list[Entry] = []
    found: list[Entry] = []
    for index in range(len(scenes)):
        sample = scenes[0, index]
        height, width = sample["size"]
        images.append({"id": index, "file_name": sample["path"], "height": height, "width": width})
        found += [_annotation(sample, place) for place in range(len(sample["labels"]))]
    for number, annotation in enumerate(found, 1):  # from 1, because pycocotools takes 0 for no match
        annotation["id"] = number
    categories: list[Entry] = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    return Annotations(source, images, categories, found)


def _annotation(sample: Sample, place: int) -> Entry:
    """The annotation of one solid, without its id."""
    left, top, right, bottom = sample["boxes"][place].tolist()
    return {
        "image_id": sample["image_id"],
        "category_id": int(sample["labels"][place]) + 1,
        "bbox": [left, top, right - left, bottom - top],
        "area": float(sample["area"][place]),
        "iscrowd": 0,
        "segmentation": encode(sample["instance_masks"][place]),
    }
