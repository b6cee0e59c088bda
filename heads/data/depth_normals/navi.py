"""NAVI: objects with depth from 3D scans, with Probe3D's protocol."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

from siglip2_backbone.json_files import parse_json

from ...geometry.record import Geometry
from ..checks import check_count
from ..images import read_image
from ..label_sizes import other_size
from ..layouts import data_root, warn_of_count
from .depth_files import read_inverse_depth
from .maps import DepthMap, NormalMap
from .module import Reading, SurfaceModule, camera
from .normal_files import normals_from_depth
from .transforms import Part, probe3d_transform

Quantity = Literal["depth", "normal"]

_COUNTS = {"train": 8217, "val": 2298, "test": 2298}
_PUBLISHED = 575  # test images of Probe3D, which takes every fourth one
_SIDE = 512  # of the labels [px]
_NEAREST, _LEAST_SPAN = 0.01, 0.01  # relative depth of the nearest point; smallest depth span [m]


@dataclass(frozen=True)
class Photo:
    """A photograph of an object.

    Attributes:
        image: Image file.
        depth: Depth file.
        name: Object, scene and file name.
        focal_length: Focal length in the published image [px].
        short_side: Short side of the published image [px].
    """

    image: Path
    depth: Path
    name: str
    focal_length: float
    short_side: int


class NAVI(SurfaceModule):
    """NAVI v1.5 (or v1.0): training on the multiview scenes, testing (and validation) on the photographs in the wild.

    Images and labels are cropped to a square around the object and resized to 512 px. Depth is relative to
    the object: 0.01 at its nearest point and 1 at its farthest. Normals come from the metric depth.

    Args:
        root: Folder with one folder for each object.
        img_size: Height and width that the squares are resized to [px]; labels stay at 512 px at test time.
        targets: depth, normal, or both.
        relative: Use relative depth; otherwise metres.
        stride: Use every n-th image of the sorted list.
        prefix: Prefix of the file names, such as ``downsampled_`` for the copies made by Probe3D's script.
        predict_images: Any folder of images, for predict.
        jitter: Probability of the colour jitter in training.
        crop: Probability of a random crop of the square in training; Probe3D uses none.
        shared: Arguments of :class:`SurfaceModule`.

    Raises:
        ValueError: A file is missing or damaged, or an option is out of range.

    Source: Jampani et al., NeurIPS 2023; ``navi.py`` of mbanani/probe3d @ 1fff822. Differences: Probe3D crops the
    square from an image downsized to 512 px and enlarges it, here it is cropped from the image at full size; a square
    beyond the image's edge is moved as little as possible; Probe3D does not define the order from which it takes every
    fourth image, here it is the sorted one.
    """

    stacked: ClassVar[tuple[str, ...]] = ("image", "depth", "normal", "intrinsics")

    def __init__(
        self,
        root: str | None = None,
        img_size: tuple[int, int] = (512, 512),
        *,
        targets: list[Quantity] | None = None,
        relative: bool = True,
        stride: int = 4,
        prefix: str = "",
        predict_images: str | None = None,
        jitter: float = 0.8,
        crop: float = 0.0,
        **shared: Any,
    ) -> None:
        super().__init__(root, img_size, predict_images=predict_images, **shared)
        self.targets = ["depth"] if targets is None else list(targets)
        if not self.targets or set(self.targets) - {"depth", "normal"}:
            raise ValueError(f"targets is {targets}; expected depth, normal or both.")
        check_count("stride", stride)
        self.relative, self.stride, self.prefix = relative, stride, prefix
        self.jitter, self.crop = jitter, crop
        self.stacked = ("image", *self.targets, "intrinsics")  # type: ignore[misc]  # a module reads one or both
        self.protocol = {"relative": relative, "stride": stride, "images_published": _PUBLISHED}

    def train_transform(self) -> v2.Transform:
        """Probe3D's augmentation."""
        return probe3d_transform(self.img_size, crop=self.crop, jitter=self.jitter)

    def source(self, split: str) -> "NAVIViews":
        """The views of a split."""
        root = data_root(self.root)
        views = list(list_views(root, split, self.prefix))
        if not views:
            raise ValueError(
                f"{root} holds no object; expected folders with both multiview scenes and a wild_set, as in NAVI."
            )
        warn_of_count(f"NAVI {split}", len(views), str(root), _COUNTS[split])
        return NAVIViews(views[:: self.stride], tuple(self.targets), self.relative)


@dataclass(frozen=True)
class NAVIViews:
    """Readings of views, cropped to the object.

    Attributes:
        views: The photographs.
        targets: depth, normal, or both.
        relative: Use relative depth; otherwise metres.
    """

    views: list[Photo]
    targets: tuple[str, ...]
    relative: bool

    def __len__(self) -> int:
        return len(self.views)

    def read(self, index: int) -> Reading:
        """One view."""
        view = self.views[index]
        image, depth = read_image(view.image), read_inverse_depth(view.depth)
        size = (image.shape[1], image.shape[2])
        found = (depth.shape[1], depth.shape[2])
        if found != size:
            raise ValueError(other_size(str(view.depth), found, view.image, size))
        focal = view.focal_length * min(size) / view.short_side
        matrix = camera(focal, focal, size[1] / 2, size[0] / 2)
        parts = [tv_tensors.Image(image), DepthMap(depth), Geometry.of(size)]
        cut = [V.crop(part, *object_window(depth[0])) for part in parts]
        image, depth, geometry = (V.resize(part, [_SIDE, _SIDE], antialias=True) for part in cut)
        distance = depth.as_subclass(Tensor)
        shown = relative_depth(distance) if self.relative else distance
        labels = {
            "depth": shown if "depth" in self.targets else None,
            "normal": _normals(cut[1], cut[2], matrix, min(size)) if "normal" in self.targets else None,
        }
        return Reading(
            view.image, view.name, image.as_subclass(Tensor), **labels, intrinsics=geometry.intrinsics(matrix)
        )


def _normals(depth: DepthMap, geometry: Geometry, matrix: Tensor, short_side: int) -> Tensor:
    """Normals of a square crop, from its depth at the scale at which the short side of the image is 512 px.

    This is Probe3D's scale. At a larger scale neighbouring depths differ by less than the steps of NAVI's encoding.
    """
    side = max(3, round(depth.shape[-1] * min(1.0, _SIDE / short_side)))
    coarse, record = (V.resize(part, [side, side]) for part in (depth, geometry))
    normal = NormalMap(normals_from_depth(coarse.as_subclass(Tensor), record.intrinsics(matrix)))
    enlarged: Tensor = V.resize(normal, [_SIDE, _SIDE]).as_subclass(Tensor)
    return enlarged


def relative_depth(depth: Tensor) -> Tensor:
    """Depth between 0.01 (nearest) and 1 (farthest reading); no reading stays 0.

    The span is at least 1 cm, so a flatter object does not reach 1.

    Source: mbanani/probe3d @ 1fff822.
    """
    read = depth > 0
    if not read.any():
        return depth
    near, far = depth[read].min(), depth[read].max()
    return torch.where(read, (depth - near) / (far - near).clamp(min=_LEAST_SPAN) * (1 - _NEAREST) + _NEAREST, 0)


def object_window(depth: Tensor) -> Part:
    """The square around all pixels with depth, inside the largest central square of an image.

    Args:
        depth: Depth ``(H, W)``; 0 means no reading.
    """
    height, width = depth.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    rows, columns = (depth[top : top + side, left : left + side] > 0).nonzero(as_tuple=True)
    if not len(rows):
        return Part(top, left, side, side)
    starts = [int(rows.min()), int(columns.min())]
    extents = [int(rows.max()) + 1 - starts[0], int(columns.max()) + 1 - starts[1]]
    box = max(*extents, 2)
    # centre the square on the object, then move it inside the central square
    y, x = (min(max(s - (box - e) // 2, 0), side - box) for s, e in zip(starts, extents, strict=True))
    return Part(top + y, left + x, box, box)


def list_views(root: Path, split: Literal["train", "val", "test"] | str, prefix: str = "") -> Iterator[Photo]:
    """The views of a split, sorted: multiview scenes for train, wild sets otherwise, of objects that have both.

    Raises:
        ValueError: An annotation file is missing or damaged, or names a missing file.
    """
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        scenes = sorted([*folder.glob("multiview-*"), *folder.glob("multiview_*")])
        wild = folder / "wild_set"
        if scenes and wild.is_dir():
            for scene in scenes if split == "train" else [wild]:
                yield from _scene(scene, prefix)


def _scene(scene: Path, prefix: str) -> Iterator[Photo]:
    path = scene / "annotations.json"
    if not path.is_file():
        raise ValueError(f"No file {path}; expected NAVI's annotations of {scene.name}.")
    try:
        rows: list[dict[str, Any]] = parse_json(path.read_text(encoding="utf-8"))
        found = sorted(_row(row) for row in rows)
    except (ValueError, KeyError, TypeError, OverflowError, OSError) as error:
        raise ValueError(
            f"{path} is damaged or another file ({error!r}); expected a list with filename, camera.focal_length and "
            "image_size."
        ) from error
    for name, focal_length, short_side in found:
        if Path(name).name != name:
            raise ValueError(f"{path} names {name!r}; expected a plain file name in its folder images.")
        image = scene / "images" / f"{prefix}{name}"
        depth = scene / "depth" / f"{prefix}{Path(name).stem}.png"
        for file in (image, depth):
            if not os.path.isfile(file):  # of any name, even one too long for a file
                raise ValueError(f"No file {file}, which {path} names. Unpack the dataset again.")
        yield Photo(image, depth, f"{scene.parent.name}/{scene.name}/{Path(name).stem}", focal_length, short_side)


def _row(row: dict[str, Any]) -> tuple[str, float, int]:
    """File name, focal length [px] and short side [px] of an entry.

    Raises:
        ValueError: The focal length is not finite and above 0, or the size is not two whole numbers above 0.
    """
    name, focal_length, size = str(row["filename"]), float(row["camera"]["focal_length"]), row["image_size"]
    if not 0 < focal_length < float("inf"):
        raise ValueError(f"{name} has focal_length {focal_length}; expected a number of pixels above 0")
    if len(size) != 2 or any(type(side) is not int or side <= 0 for side in size):
        raise ValueError(f"{name} has image_size {str(size)[:100]}; expected height and width, whole numbers above 0")
    return name, focal_length, min(size)
