"""KITTI depth with Eigen's split, from BTS's lists."""

from functools import partial
from typing import Any, ClassVar

from ..layouts import data_root, warn_of_count
from ..pairs import read_pair_list
from .bts import BTSModule
from .depth_files import read_depth
from .module import SurfacePairs
from .transforms import kb_crop

_COUNTS = {"train": 23158, "val": 652, "test": 652}  # pairs with a depth map; 45 of the 697 test images have none
_PER_METRE = 256.0


class KITTIEigen(BTSModule):
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
        shared: Arguments of :class:`BTSModule` and :class:`SurfaceModule`.

    Raises:
        ValueError: A list or a file that it names is missing, or a number is out of range.

    Source: cleinc/bts @ 29d6a32; Eigen et al., NeurIPS 2014.
    """

    stacked: ClassVar[tuple[str, ...]] = ("image", "depth")
    brightness: ClassVar[tuple[float, float]] = (0.9, 1.1)  # BTS's for outdoor images

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
        **shared: Any,
    ) -> None:
        super().__init__(root, img_size, predict_images=predict_images, crop=crop, rotate=rotate, **shared)
        self.view = kb_crop
        self.depth_range = (0.001, 80.0)
        self.lists = {"train": train_list, "val": test_list, "test": test_list}
        self.protocol = {"list": test_list, "view": "kb_crop", "images_published": _COUNTS["test"]}

    def source(self, split: str) -> SurfacePairs:
        """The pairs of a split."""
        root = data_root(self.root)
        truth = root / "data_depth_annotated"
        pairs = read_pair_list(root / self.lists[split], (root,), (truth, truth / "train", truth / "val"))
        warn_of_count(f"KITTIEigen {split}", len(pairs), str(root / self.lists[split]), _COUNTS[split])
        return SurfacePairs(pairs, root, "depth", partial(read_depth, scale=_PER_METRE))
