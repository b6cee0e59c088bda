"""KITTI depth with Eigen's split, from BTS's lists."""

from functools import partial

from torchvision.transforms import v2

from ..layouts import check_count, data_root
from ..pairs import read_pair_list
from .depth_files import read_depth
from .folder import SurfacePairs
from .module import SurfaceModule
from .transforms import bts_transform, kb_crop

_COUNTS = {"train": 23158, "val": 652, "test": 652}  # pairs with a depth map; 45 of the 697 test images have none
_PER_METRE = 256.0


class KITTIEigen(SurfaceModule):
    """KITTI, Eigen's split: 23158 training images, and the 652 of 697 test images with depth (also validation).

    The network sees the benchmark's crop, 352 x 1216 px at the bottom. Labels keep their size at test time and
    are empty outside the crop. Garg's and Eigen's evaluation crops lie within it, so they apply as published.

    The lists are those of cleinc/bts. Images lie below ``root`` (``2011_09_26/..._sync/image_02/data``), depth below
    ``data_depth_annotated`` in it, with or without KITTI's folders ``train`` and ``val``.

    Args:
        root: Folder of the dataset.
        img_size: Height and width that the crop is resized to [px].
        train_list: List of the training pairs, below ``root``.
        test_list: List of the test pairs, which are also used for validation.
        predict_images: Any folder of images, for predict; whole images are resized to ``img_size``.
        crop: Size of the random crop in training [px]; ``None`` for ``img_size``.
        rotate: Largest random angle to either side in training [degrees].
        flip: Probability of the horizontal flip in training.
        colour: Probability of the colour augmentation in training.
        batch_size: Images per batch.
        num_workers: Worker processes per loader.
        seed: Seed of order and augmentation.

    Raises:
        ValueError: A list or a file that it names is missing, or a number is out of range.

    Source: cleinc/bts @ 29d6a32; Eigen et al., NeurIPS 2014.
    """

    stacked = ("image", "depth")

    def __init__(
        self,
        root: str | None = None,
        img_size: tuple[int, int] = (352, 1216),
        *,
        train_list: str = "eigen_train_files_with_gt.txt",
        test_list: str = "eigen_test_files_with_gt.txt",
        predict_images: str | None = None,
        crop: tuple[int, int] | None = (352, 704),
        rotate: float = 1.0,
        flip: float = 0.5,
        colour: float = 0.5,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(
            img_size,
            predict_images=predict_images,
            view=kb_crop,
            depth_range=(0.001, 80.0),
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.root = root
        self.lists = {"train": train_list, "val": test_list, "test": test_list}
        self.crop = crop
        self.rotate, self.flip, self.colour = rotate, flip, colour
        self.protocol = {"list": test_list, "view": "kb_crop", "images_published": _COUNTS["test"]}

    def train_transform(self) -> v2.Transform:
        """BTS's augmentation with its smaller brightness range for outdoor images."""
        return bts_transform(
            self.img_size,
            self.crop,
            rotate=self.rotate,
            flip=self.flip,
            colour=self.colour,
            brightness=(0.9, 1.1),
        )

    def source(self, split: str) -> SurfacePairs:
        """The pairs of a split."""
        root = data_root(self.root)
        truth = root / "data_depth_annotated"
        pairs = read_pair_list(root / self.lists[split], (root,), (truth, truth / "train", truth / "val"))
        check_count(str(root / self.lists[split]), len(pairs), _COUNTS[split])
        return SurfacePairs(pairs, root, "depth", partial(read_depth, scale=_PER_METRE))
