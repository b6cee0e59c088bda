"""Surface normals of NYU Depth V2."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torchvision.transforms import v2

from ..layouts import data_root, warn_of_count
from ..sizes import Size
from .module import Reading, Source, SurfaceModule
from .normal_files import OWN_AXES, Axes, check_axes
from .nyu_files import NYU_CAMERA, Frames, read_frame, read_frame_normals, read_geonet, read_splits
from .transforms import Part, probe3d_transform

_COUNTS = {"train": 795, "val": 654, "test": 654}
_FARTHEST = 10.0  # [m]; normals at larger depths are dropped
_BAD = (6919, 21181)  # indices in GeoNet's sorted files that Probe3D leaves out


@dataclass(frozen=True)
class LabelledNormals:
    """Frames of ``nyu_depth_v2_labeled.mat`` with normals from another file, kept where raw depth has a reading."""

    path: Path
    frames: Frames
    normals: Path
    key: str
    axes: Axes

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, index: int) -> Reading:
        """One frame."""
        frame = self.frames[index]
        image, depth = read_frame(self.path, frame, "rawDepths")
        normal = read_frame_normals(self.normals, self.key, frame, self.axes)
        normal = torch.where((depth > 0) & (depth <= _FARTHEST), normal, 0)
        return Reading(self.path, f"{frame + 1:04d}", image, normal=normal, intrinsics=NYU_CAMERA)


@dataclass(frozen=True)
class GeoNetNormals:
    """GeoNet's training files."""

    paths: list[Path]
    axes: Axes

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> Reading:
        """One file."""
        path = self.paths[index]
        image, depth, normal = read_geonet(path, self.axes)
        normal = torch.where(depth <= _FARTHEST, normal, 0)
        return Reading(path, path.stem, image, normal=normal, intrinsics=NYU_CAMERA)


class NYUv2Normals(SurfaceModule):
    """NYU Depth V2 with normals: 795 labelled or 30 thousand GeoNet training frames, and 654 labelled test frames.

    Supported files: normals of all 1449 labelled frames in a MATLAB 7.3 file (GeoNet's ``norm_gt_l.mat``: Ladicky's
    normals) or an npy array ``(1449, 480, 640, 3)``, and GeoNet's training files (MATLAB 5 with img, depth, norm).
    ``all_normals.pklz``, which Probe3D tests on, is a pickle and is not read; save its array as npy. For normal maps as
    PNG use :class:`heads.NormalsFolder`. The axes depend on the publisher: set ``axes``; a wrong third axis is an
    error.

    Args:
        root: Folder with ``nyu_depth_v2_labeled.mat``, ``splits.mat`` and the normals.
        img_size: Height and width that images are resized to [px].
        normals: File of the normals, below ``root``.
        normals_key: Name of its array, if it is a MATLAB file.
        axes: Directions of the components of the normals.
        geonet: Folder of GeoNet's training files, below ``root``; without it the 795 labelled frames are used.
        geonet_axes: Directions of the components of GeoNet's normals; ``axes`` by default.
        square: Use the central 480 x 480 crop of each image, as Probe3D does.
        predict_images: Any folder of images, for predict.
        jitter: Probability of the colour jitter in training.
        crop: Probability of a random crop in training.
        flip: Probability of the horizontal flip in training.
        shared: Arguments of :class:`SurfaceModule`.

    Raises:
        ValueError: A file is missing or of another kind, or the axes are wrong.

    Source: ``nyu.py`` of mbanani/probe3d @ 1fff822. The number of GeoNet's files is not checked: sources give 30907
    and 30914.
    """

    stacked: ClassVar[tuple[str, ...]] = ("image", "normal", "intrinsics")

    def __init__(
        self,
        root: str | None = None,
        img_size: tuple[int, int] = (480, 640),
        *,
        normals: str = "norm_gt_l.mat",
        normals_key: str = "norm_gt_l",
        axes: tuple[str, str, str] = OWN_AXES,
        geonet: str | None = None,
        geonet_axes: tuple[str, str, str] | None = None,
        square: bool = False,
        predict_images: str | None = None,
        jitter: float = 0.8,
        crop: float = 0.5,
        flip: float = 0.0,
        **shared: Any,
    ) -> None:
        super().__init__(root, img_size, predict_images=predict_images, **shared)
        self.view = _square if square else None
        self.normals, self.normals_key, self.axes = normals, normals_key, check_axes(axes)
        self.geonet, self.geonet_axes = geonet, check_axes(geonet_axes or axes)
        self.augmentation = {"jitter": jitter, "crop": crop, "flip": flip}
        self.protocol = {"normals": normals, "square": square, "images_published": _COUNTS["test"]}

    def train_transform(self) -> v2.Transform:
        """Probe3D's augmentation."""
        return probe3d_transform(self.img_size, **self.augmentation)

    def source(self, split: str) -> Source:
        """The frames of a split."""
        root = data_root(self.root)
        if split == "train" and self.geonet is not None:
            return GeoNetNormals(_geonet_files(root / self.geonet), self.geonet_axes)
        train, test = read_splits(root / "splits.mat")
        frames = train if split == "train" else test
        warn_of_count(f"NYUv2Normals {split}", len(frames), str(root), _COUNTS[split])
        labelled, normals = root / "nyu_depth_v2_labeled.mat", root / self.normals
        return LabelledNormals(labelled, frames, normals, self.normals_key, self.axes)


def _square(size: Size) -> Part:
    side = min(size)
    return Part((size[0] - side) // 2, (size[1] - side) // 2, side, side)


def _geonet_files(folder: Path) -> list[Path]:
    """The files in order, without the two that Probe3D leaves out."""
    paths = sorted(folder.glob("*.mat"), key=lambda p: p.name)
    if not paths:
        raise ValueError(f"No .mat files in {folder}; expected GeoNet's training files.")
    return [path for i, path in enumerate(paths) if i not in _BAD]
