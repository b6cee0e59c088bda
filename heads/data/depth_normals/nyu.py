"""NYU Depth V2 depth: the labelled frames of the MATLAB file, and the frames in BTS's layout."""

from dataclasses import dataclass
from pathlib import Path

from torchvision.transforms import v2

from ..layouts import check_count, data_root
from ..pairs import read_pair_list
from .depth_files import read_depth
from .folder import SurfacePairs
from .module import Reading, SurfaceModule, camera
from .nyu_files import DepthKey, Frames, read_frame, read_splits
from .transforms import NYU_BORDER, bts_transform

NYU_CAMERA = camera(518.85790117450188, 519.46961112127485, 325.08244941119034, 253.23616633400465)
"""Camera of the 640 x 480 frames: the toolbox's, which has pixel centres at 1, 2, ..., so half a pixel less here."""

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


class NYUv2(SurfaceModule):
    """The 1449 labelled frames of NYU Depth V2: 795 for training, 654 for testing and validation.

    Args:
        root: Folder with ``nyu_depth_v2_labeled.mat`` and ``splits.mat``.
        img_size: Height and width that images are resized to [px]; they are 480 x 640.
        depth: ``depths`` (holes filled in) or ``rawDepths`` (with holes, as in BTS's copies).
        black_border: Blacken the images outside rows 7:474 and columns 7:632, as in BTS's copies.
        predict_images: Any folder of images, for predict.
        crop: Size of the random crop in training [px]; ``None`` keeps the whole image, with its border.
        rotate: Largest random angle to either side in training [degrees].
        flip: Probability of the horizontal flip in training.
        colour: Probability of the colour augmentation in training.
        batch_size: Images per batch.
        num_workers: Worker processes per loader.
        seed: Seed of order and augmentation.

    Raises:
        ValueError: A file is missing or of another kind, or a number is out of range.

    Source: Silberman et al., ECCV 2012; the augmentation is BTS's, see :func:`bts_transform`.
    """

    stacked = ("image", "depth", "intrinsics")

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
        flip: float = 0.5,
        colour: float = 0.5,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(
            img_size,
            predict_images=predict_images,
            depth_range=_RANGE,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.root = root
        self.depth = depth
        self.black_border = black_border
        self.augmentation = (crop, rotate, flip, colour)
        self.protocol = {"depth": depth, "black_border": black_border, "images_published": _LABELLED["test"]}

    def train_transform(self) -> v2.Transform:
        """BTS's augmentation; the border is removed if a crop follows."""
        return _bts(self.img_size, *self.augmentation)

    def source(self, split: str) -> LabelledNYU:
        """The frames of a split."""
        root = data_root(self.root)
        train, test = read_splits(root / "splits.mat")
        frames = train if split == "train" else test
        check_count(f"{split} of {root}", len(frames), _LABELLED[split])
        return LabelledNYU(root / "nyu_depth_v2_labeled.mat", frames, self.depth, self.black_border)


class NYUv2BTS(SurfaceModule):
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
        flip: Probability of the horizontal flip in training.
        colour: Probability of the colour augmentation in training.
        batch_size: Images per batch.
        num_workers: Worker processes per loader.
        seed: Seed of order and augmentation.

    Raises:
        ValueError: A list or a file that it names is missing, or a number is out of range.

    Source: cleinc/bts @ 29d6a32.
    """

    stacked = ("image", "depth", "intrinsics")

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
        flip: float = 0.5,
        colour: float = 0.5,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(
            img_size,
            predict_images=predict_images,
            depth_range=_RANGE,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.root = root
        self.lists = {"train": train_list, "val": test_list, "test": test_list}
        self.augmentation = (crop, rotate, flip, colour)
        self.protocol = {"list": test_list, "images_published": _BTS["test"]}

    def train_transform(self) -> v2.Transform:
        """BTS's augmentation; the border is removed if a crop follows."""
        return _bts(self.img_size, *self.augmentation)

    def source(self, split: str) -> SurfacePairs:
        """The pairs of a split."""
        root = data_root(self.root)
        roots = (root / "sync", root) if split == "train" else (root / "official_splits" / "test", root)
        pairs = read_pair_list(root / self.lists[split], roots, roots)
        check_count(f"{root / self.lists[split]}", len(pairs), _BTS[split])
        return SurfacePairs(pairs, root, "depth", read_depth, NYU_CAMERA)


def _bts(
    img_size: tuple[int, int], crop: tuple[int, int] | None, rotate: float, flip: float, colour: float
) -> v2.Transform:
    border = None if crop is None else NYU_BORDER
    return bts_transform(img_size, crop, border=border, rotate=rotate, flip=flip, colour=colour)
