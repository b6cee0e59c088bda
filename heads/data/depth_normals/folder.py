"""Custom depth and normal datasets: pairs of image and label in folders, or in list files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

from ..checks import check_range
from ..layouts import data_root
from ..pairs import pair_folders, read_pair_list
from .bts import BTSModule
from .depth_files import read_depth
from .module import SurfacePairs, camera
from .normal_files import OWN_AXES, check_axes, read_normals


class SurfaceFolder(BTSModule):
    """Pairs below one root, matched by file name or from list files; subclasses define how to read labels.

    Args:
        root: Folder that the other paths are relative to.
        img_size: Height and width that whole images are resized to [px].
        folders: Folders of images and labels of train, val and test.
        lists: List files of train, val and test in place of folders.
        read_label: Reads a label.
        predict_images: Any folder of images, for predict.
        intrinsics: fx, fy, cx, cy of all images [px]; pixel i covers [i, i + 1).
        crop: Size of the random crop in training [px]; ``None`` for ``img_size``.
        rotate: Largest random angle to either side in training [degrees].
        shared: Arguments of :class:`BTSModule` and :class:`SurfaceModule`.

    Raises:
        ValueError: ``intrinsics`` are not four numbers, or a number is out of range.
    """

    kind: ClassVar[Literal["depth", "normal"]]
    suffixes: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        root: str | None,
        img_size: tuple[int, int],
        *,
        folders: dict[str, tuple[str, str]],
        lists: dict[str, str | None],
        read_label: Callable[[Path], Tensor],
        predict_images: str | None = None,
        intrinsics: list[float] | None = None,
        crop: tuple[int, int] | None = None,
        rotate: float = 0.0,
        **shared: Any,
    ) -> None:
        super().__init__(root, img_size, predict_images=predict_images, crop=crop, rotate=rotate, **shared)
        if intrinsics is not None and len(intrinsics) != 4:
            raise ValueError(f"intrinsics is {intrinsics}; expected fx, fy, cx and cy [px].")
        self.folders = folders
        self.lists = lists
        self.read_label = read_label
        self.intrinsics = None if intrinsics is None else camera(*intrinsics)
        self.stacked = ("image", self.kind) + (("intrinsics",) if intrinsics else ())  # type: ignore[misc]  # some folders have one camera
        self.protocol = {"list": lists["test"]} if lists["test"] else {"folders": list(folders["test"])}

    def source(self, split: str) -> SurfacePairs:
        """The pairs of a split."""
        root = data_root(self.root)
        listed = self.lists[split]
        if listed is not None:
            pairs = read_pair_list(root / listed, (root,), (root,))
        else:
            images, labels = self.folders[split]
            pairs = pair_folders(root / images, root / labels, self.suffixes)
        return SurfacePairs(pairs, root, self.kind, self.read_label, self.intrinsics)


class DepthFolder(SurfaceFolder):
    """Images and depth maps in folders below one root, paired by file name without suffix, or by list files.

    A depth map is a 16-bit grey PNG or a float npy array, as large as its image; 0, NaN and the values in ``invalid``
    mean no reading.

    Args:
        root: Folder that the other paths are relative to; needed for everything but predict.
        img_size: Height and width that images are resized to [px]. Depth maps keep their size at test time, and
            resizing never scales their values; see :mod:`heads.data.depth_normals.maps`.
        train_images: Folder of training images, below ``root``.
        train_depth: Folder of their depth maps.
        val_images: Folder of validation images.
        val_depth: Folder of their depth maps.
        test_images: Folder of test images; the validation images by default.
        test_depth: Folder of their depth maps; the validation ones by default.
        train_list: List file below ``root`` that replaces the two folders: an image and its depth map on each line.
        val_list: The same for validation.
        test_list: The same for test; by default that of validation.
        predict_images: Any folder of images, for predict.
        depth_scale: Values per metre: by default 1000 (millimetres) for a PNG, and 1 for an array.
        depth_range: Expected range of depths [m]; a median outside it causes a warning.
        invalid: Values that mean no reading besides 0 and NaN, before scaling.
        shared: Arguments of :class:`SurfaceFolder`, :class:`BTSModule` and :class:`SurfaceModule`: the camera, the
            augmentation and the loaders.

    Raises:
        ValueError: A folder, list or label is missing, or a number is out of range.
    """

    kind = "depth"
    suffixes = (".png", ".npy")

    def __init__(
        self,
        root: str | None = None,
        img_size: tuple[int, int] = (480, 640),
        *,
        train_images: str = "train",
        train_depth: str = "train_depth",
        val_images: str = "val",
        val_depth: str = "val_depth",
        test_images: str | None = None,
        test_depth: str | None = None,
        train_list: str | None = None,
        val_list: str | None = None,
        test_list: str | None = None,
        predict_images: str | None = None,
        depth_scale: float | None = None,
        depth_range: tuple[float, float] = (0.001, 10.0),
        invalid: list[float] | None = None,
        **shared: Any,
    ) -> None:
        if depth_scale is not None and not 0 < depth_scale < float("inf"):
            raise ValueError(f"depth_scale is {depth_scale}; expected values per metre, such as 1000 for millimetres.")
        folders = {"train": (train_images, train_depth), "val": (val_images, val_depth)}
        folders["test"] = (test_images or val_images, test_depth or val_depth)
        super().__init__(
            root,
            img_size,
            folders=folders,
            lists={"train": train_list, "val": val_list, "test": test_list or val_list},
            read_label=partial(read_depth, scale=depth_scale, invalid=tuple(invalid or ())),
            predict_images=predict_images,
            **shared,
        )
        self.depth_range = check_range("depth_range", depth_range, "distances", zero=True)
        self.protocol |= {"depth_scale": depth_scale, "invalid": invalid or []}


class NormalsFolder(SurfaceFolder):
    """Images and normal maps in folders below one root, paired by file name without suffix, or by list files.

    A normal map is an RGB PNG with (n + 1) / 2 * 255, black for no reading, as large as its image.

    Args:
        root: Folder that the other paths are relative to; needed for everything but predict.
        img_size: Height and width that images are resized to [px]. Normal maps keep their size at test time.
        axes: Directions of red, green and blue: right or left, down or up, away or towards (the camera).
        train_images: Folder of training images, below ``root``.
        train_normals: Folder of their normal maps.
        val_images: Folder of validation images.
        val_normals: Folder of their normal maps.
        test_images: Folder of test images; the validation images by default.
        test_normals: Folder of their normal maps; the validation ones by default.
        train_list: List file below ``root`` that replaces the two folders: an image and its normal map on each line.
        val_list: The same for validation.
        test_list: The same for test; by default that of validation.
        shared: Arguments of :class:`SurfaceFolder`, :class:`BTSModule` and :class:`SurfaceModule`: the camera, the
            augmentation and the loaders.

    Raises:
        ValueError: A folder, list or label is missing, or a number is out of range.
    """

    kind = "normal"
    suffixes = (".png",)

    def __init__(
        self,
        root: str | None = None,
        img_size: tuple[int, int] = (480, 640),
        axes: tuple[str, str, str] = OWN_AXES,
        *,
        train_images: str = "train",
        train_normals: str = "train_normals",
        val_images: str = "val",
        val_normals: str = "val_normals",
        test_images: str | None = None,
        test_normals: str | None = None,
        train_list: str | None = None,
        val_list: str | None = None,
        test_list: str | None = None,
        **shared: Any,
    ) -> None:
        folders = {"train": (train_images, train_normals), "val": (val_images, val_normals)}
        folders["test"] = (test_images or val_images, test_normals or val_normals)
        super().__init__(
            root,
            img_size,
            folders=folders,
            lists={"train": train_list, "val": val_list, "test": test_list or val_list},
            read_label=partial(read_normals, axes=check_axes(axes)),
            **shared,
        )
        self.protocol |= {"axes": list(axes)}
