"""NYU Depth V2 depth: the labelled frames of the MATLAB file, and the frames in BTS's layout."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..layouts import data_root, warn_of_count
from ..pairs import read_pair_list
from .bts import BTSModule
from .depth_files import read_depth
from .module import Reading, SurfacePairs
from .nyu_files import NYU_CAMERA, DepthKey, Frames, read_frame, read_splits
from .transforms import NYU_BORDER, Part

_LABELLED = {"train": 795, "val": 654, "test": 654}
_BTS = {"train": 24231, "val": 654, "test": 654}
_RANGE = (0.001, 10.0)


@dataclass(frozen=True)
class LabelledNYU:
    """Frames of ``nyu_depth_v2_labeled.mat``.

    Attributes:
        path: The file.
        frames: Indices of its frames, from 0.
        depth: In-filled or raw depth.
        black_border: Blacken the image border as in BTS's copies.
    """

    path: Path
    frames: Frames
    depth: DepthKey
    black_border: bool

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, index: int) -> Reading:
        """One frame."""
        frame = self.frames[index]
        image, depth = read_frame(self.path, frame, self.depth)
        if self.black_border:
            image[:, :7], image[:, 474:], image[:, :, :7], image[:, :, 632:] = 0, 0, 0, 0
        return Reading(self.path, f"{frame + 1:04d}", image, depth, intrinsics=NYU_CAMERA)


class NYUv2(BTSModule):
    """The 1449 labelled frames of NYU Depth V2: 795 for training, 654 for testing and validation.

    Args:
        root: Folder with ``nyu_depth_v2_labeled.mat`` and ``splits.mat``.
        img_size: Height and width that images are resized to [px]; they are 480 x 640.
        depth: ``depths`` (holes filled in) or ``rawDepths`` (with holes, as in BTS's copies).
        black_border: Blacken the images outside rows 7:474 and columns 7:632, as in BTS's copies.
        predict_images: Any folder of images, for predict.
        crop: Size of the random crop in training [px]; ``None`` keeps the whole image, with its border.
        rotate: Largest random angle to either side in training [degrees].
        shared: Arguments of :class:`BTSModule` and :class:`SurfaceModule`.

    Raises:
        ValueError: A file is missing or of another kind, or a number is out of range.

    Source: Silberman et al., ECCV 2012; the augmentation is BTS's, see :func:`bts_transform`.
    """

    stacked: ClassVar[tuple[str, ...]] = ("image", "depth", "intrinsics")
    border: ClassVar[Part | None] = NYU_BORDER

    def __init__(
        self,
        root: str | None = None,
        img_size: tuple[int, int] = (480, 640),
        *,
        depth: DepthKey = "rawDepths",
        black_border: bool = False,
        predict_images: str | None = None,
        crop: tuple[int, int] | None = (416, 544),
        rotate: float = 2.5,
        **shared: Any,
    ) -> None:
        super().__init__(root, img_size, predict_images=predict_images, crop=crop, rotate=rotate, **shared)
        self.depth_range = _RANGE
        self.depth = depth
        self.black_border = black_border
        self.protocol = {"depth": depth, "black_border": black_border, "images_published": _LABELLED["test"]}

    def source(self, split: str) -> LabelledNYU:
        """The frames of a split."""
        root = data_root(self.root)
        train, test = read_splits(root / "splits.mat")
        frames = train if split == "train" else test
        warn_of_count(f"NYUv2 {split}", len(frames), str(root), _LABELLED[split])
        return LabelledNYU(root / "nyu_depth_v2_labeled.mat", frames, self.depth, self.black_border)


class NYUv2BTS(BTSModule):
    """NYU Depth V2 in BTS's layout: 24231 synchronised training frames, and the official 654 test frames.

    The lists are those of cleinc/bts. Training pairs lie below ``sync`` or ``root`` itself, test pairs below
    ``official_splits/test`` or ``root`` itself; their images have a black border already.

    Args:
        root: Folder of the dataset.
        img_size: Height and width that images are resized to [px]; they are 480 x 640.
        train_list: List of the training pairs, below ``root``.
        test_list: List of the test pairs, which are also used for validation.
        predict_images: Any folder of images, for predict.
        crop: Size of the random crop in training [px]; ``None`` keeps the whole image, with its border.
        rotate: Largest random angle to either side in training [degrees].
        shared: Arguments of :class:`BTSModule` and :class:`SurfaceModule`.

    Raises:
        ValueError: A list or a file that it names is missing, or a number is out of range.

    Source: cleinc/bts @ 29d6a32.
    """

    stacked: ClassVar[tuple[str, ...]] = ("image", "depth", "intrinsics")
    border: ClassVar[Part | None] = NYU_BORDER

    def __init__(
        self,
        root: str | None = None,
        img_size: tuple[int, int] = (480, 640),
        *,
        train_list: str = "nyudepthv2_train_files_with_gt.txt",
        test_list: str = "nyudepthv2_test_files_with_gt.txt",
        predict_images: str | None = None,
        crop: tuple[int, int] | None = (416, 544),
        rotate: float = 2.5,
        **shared: Any,
    ) -> None:
        super().__init__(root, img_size, predict_images=predict_images, crop=crop, rotate=rotate, **shared)
        self.depth_range = _RANGE
        self.lists = {"train": train_list, "val": test_list, "test": test_list}
        self.protocol = {"list": test_list, "images_published": _BTS["test"]}

    def source(self, split: str) -> SurfacePairs:
        """The pairs of a split."""
        root = data_root(self.root)
        roots = (root / "sync", root) if split == "train" else (root / "official_splits" / "test", root)
        pairs = read_pair_list(root / self.lists[split], roots, roots)
        warn_of_count(f"NYUv2BTS {split}", len(pairs), str(root / self.lists[split]), _BTS[split])
        return SurfacePairs(pairs, root, "depth", read_depth, NYU_CAMERA)
