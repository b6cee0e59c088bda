"""Base dataset and data module for images with depth, normals or both."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

from siglip2_backbone.preprocess import squash

from ...geometry.record import Geometry
from ..checks import Range, check_size
from ..image_folder import described
from ..images import read_image
from ..label_sizes import other_size
from ..module import DenseDataModule
from ..pairs import Pair
from ..sampling import EpochDataset, Sample, SampleKey, sample_seed
from ..sizes import Size
from .depth_files import check_unit
from .maps import DepthMap, Intrinsics, NormalMap
from .transforms import Part

View = Callable[[Size], Part]
"""Maps the size (height, width) of an image to the part that the network sees, in training and testing."""


@dataclass(frozen=True)
class Reading:
    """An image with its labels, as read from files.

    Attributes:
        path: The file of the image.
        name: Name of the sample, unique in its split.
        image: uint8 ``(3, H, W)``.
        depth: Depth [m], float32 ``(1, H, W)``; 0 means no reading.
        normal: Unit normals, float32 ``(3, H, W)``; 0 means no reading.
        intrinsics: Camera matrix [px], float32 ``(3, 3)``; pixel i covers [i, i + 1).
    """

    path: Path
    name: str
    image: Tensor
    depth: Tensor | None = None
    normal: Tensor | None = None
    intrinsics: Tensor | None = None

    @property
    def size(self) -> Size:
        """Height and width [px]."""
        return self.image.shape[1], self.image.shape[2]

    def labels(self) -> Iterator[tuple[str, Tensor]]:
        """Name and map of each label that is present."""
        yield from ((k, v) for k, v in (("depth", self.depth), ("normal", self.normal)) if v is not None)


class Source(Protocol):
    """The readings of a split."""

    def __len__(self) -> int:
        """Number of readings."""

    def read(self, index: int) -> Reading:
        """Read one image with its labels."""


def camera(fx: float, fy: float, cx: float, cy: float) -> Tensor:
    """A camera matrix, float32 ``(3, 3)``, from focal lengths and principal point [px]."""
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float32)


@dataclass(frozen=True)
class SurfacePairs:
    """Readings of image and label files.

    Attributes:
        pairs: Paths of image and label.
        root: Folder that sample names are relative to.
        kind: depth or normal.
        read_label: Reads a label.
        intrinsics: Camera matrix of all images [px], if known.
    """

    pairs: list[Pair]
    root: Path
    kind: Literal["depth", "normal"]
    read_label: Callable[[Path], Tensor]
    intrinsics: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> Reading:
        """One pair."""
        path, label = self.pairs[index]
        inside = path.is_relative_to(self.root)
        name = (path.relative_to(self.root) if inside else path).with_suffix("").as_posix()
        labels = {self.kind: self.read_label(label)}
        return Reading(path, name, read_image(path), **labels, intrinsics=self.intrinsics)


class SurfaceDataset(EpochDataset):
    """Samples with ``depth``, ``normal`` and ``intrinsics``, as far as the source has them.

    In training the maps have the size of the network's input. At test time they keep their original size, with 0
    outside the part that the network sees. ``intrinsics`` always belongs to the image as the network sees it.

    Args:
        source: The readings.
        img_size: Height and width that test images are resized to [px].
        transform: Augmentation of image, maps, geometry and camera together; ``None`` at test time.
        view: The part of each image that is used.
        seed: Seed of the augmentation.
    """

    def __init__(
        self, source: Source, img_size: Size, transform: v2.Transform | None, view: View | None, seed: int
    ) -> None:
        self.source = source
        self.img_size = img_size
        self.transform = transform
        self.view = view
        self.seed = seed

    def __len__(self) -> int:
        return len(self.source)

    def sample(self, key: SampleKey) -> Sample:
        """One sample, augmented in training."""
        reading = self.source.read(key[1])
        for name, values in reading.labels():
            if values.shape[1:] != reading.size:
                found = (values.shape[1], values.shape[2])
                label = f"The {name} of {reading.path}"
                raise ValueError(other_size(label, found, reading.path, reading.size))
        sample = self._test(reading) if self.transform is None else self._train(reading, self.transform, key)
        return sample | {"image_id": reading.name}

    def _train(self, reading: Reading, transform: v2.Transform, key: SampleKey) -> Sample:
        sample = {"image": tv_tensors.Image(reading.image), "geometry": Geometry.of(reading.size)}
        kinds: dict[str, Any] = {"depth": DepthMap, "normal": NormalMap}
        sample |= {name: kinds[name](values) for name, values in reading.labels()}
        if self.view is not None:
            window = self.view(reading.size)
            sample = {name: V.crop(values, *window) for name, values in sample.items()}
        if reading.intrinsics is not None:
            sample["intrinsics"] = reading.intrinsics.as_subclass(Intrinsics)
        with sample_seed(self.seed, key):
            sample = transform(sample)
        plain = {k: v.as_subclass(Tensor) for k, v in sample.items() if k not in ("image", "geometry")}
        if "intrinsics" in plain:
            plain["intrinsics"] = sample["geometry"].intrinsics(plain["intrinsics"])
        return described(reading.path, sample["image"].as_subclass(Tensor), sample["geometry"]) | plain

    def _test(self, reading: Reading) -> Sample:
        image, geometry, labels = reading.image, Geometry.of(reading.size), dict(reading.labels())
        if self.view is not None:
            window = self.view(reading.size)
            image, geometry = V.crop(image, *window), V.crop(geometry, *window)
            labels = {name: _only(values, window) for name, values in labels.items()}
        geometry = V.resize(geometry, list(self.img_size))
        if reading.intrinsics is not None:
            labels["intrinsics"] = geometry.intrinsics(reading.intrinsics)
        return described(reading.path, squash(image, self.img_size), geometry) | labels


def _only(values: Tensor, window: Part) -> Tensor:
    """The map with 0 outside the window."""
    rows = slice(window.top, window.top + window.height)
    columns = slice(window.left, window.left + window.width)
    kept = torch.zeros_like(values)
    kept[:, rows, columns] = values[:, rows, columns]
    return kept


class SurfaceModule(DenseDataModule):
    """Base of the depth and normal data modules; subclasses define the source of a split and the augmentation.

    They may set ``view``, the part of each image that is used, and if they read metric depth, ``depth_range``, the
    range of depths that is expected [m].

    Args:
        root: Folder of the dataset; needed for everything but predict.
        img_size: Height and width that whole images are resized to [px].
        predict_images: Any folder of images, for predict.
        batch_size: Images per batch.
        num_workers: Worker processes per loader.
        seed: Seed of order and augmentation.

    Raises:
        ValueError: A size or number is too small.
    """

    def __init__(
        self,
        root: str | None,
        img_size: Size,
        *,
        predict_images: str | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.root = root
        self.img_size = check_size("img_size", img_size)
        self.predict_images = predict_images
        self.test_size = self.img_size
        self.view: View | None = None
        self.depth_range: Range | None = None
        self.test_split = "test"

    def source(self, split: str) -> Source:
        """The readings of train, val or test."""
        raise NotImplementedError

    def train_transform(self) -> v2.Transform:
        """The training augmentation."""
        raise NotImplementedError

    def dataset(self, split: str) -> "SurfaceDataset":
        """The dataset of a split; checks the unit of a few depth maps first."""
        source = self.source(split)
        if self.depth_range is not None:
            check_unit(len(source), partial(_depth, source), self.depth_range)
        transform = self.train_transform() if split == "train" else None
        return SurfaceDataset(source, self.img_size, transform, self.view, self.seed)


def _depth(source: Source, index: int) -> Tensor:
    reading = source.read(index)
    return dict(reading.labels())["depth"]
