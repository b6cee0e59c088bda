"""Detection data from folders of images and json files in COCO's format."""

from pathlib import Path
from typing import Any

from ..classes import ClassSpec
from .annotations import Annotations
from .coco_json import read_coco
from .module import DetectionDataModule


class COCOFolder(DetectionDataModule):
    """Images in folders below one root, with a json in COCO's format for each split.

    Args:
        root: Folder that the other paths are relative to; predict does not need it if ``classes`` is set.
        classes: Names of the categories, or names with colours, in the order of their ids; by default those of
            the validation json.
        img_size: Height and width [px] that images fit into.
        train_annotations: Json of the training images, below ``root``.
        val_annotations: Json of the validation images.
        test_annotations: Json of the test images; by default test is the validation split.
        train_images: Folder that each ``file_name`` of the training images is relative to.
        val_images: The same for the validation images.
        test_images: The same for the test images; by default that of the validation images.
        shared: Arguments that all detection data modules share, see :class:`DetectionDataModule`.

    Raises:
        ValueError: Files are missing or wrong, or the categories differ from ``classes``.
    """

    def __init__(
        self,
        root: str | None = None,
        classes: ClassSpec | None = None,
        img_size: tuple[int, int] = (512, 512),
        *,
        train_annotations: str = "annotations/train.json",
        val_annotations: str = "annotations/val.json",
        test_annotations: str | None = None,
        train_images: str = "train",
        val_images: str = "val",
        test_images: str | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(classes, root, img_size, **shared)
        self.files = {"train": train_annotations, "val": val_annotations, "test": test_annotations}
        self.folders = {"train": train_images, "val": val_images, "test": test_images or val_images}
        if test_annotations is None:
            self.test_on_val()
        if classes is None:
            self.take_classes()

    def annotations(self, name: str) -> Annotations:
        """Read a split from its json."""
        path = self.base() / str(self.files[name])
        return read_coco(path, skip_invalid=self.skip_invalid, masks=self.masks)

    def image_folder(self, name: str) -> Path:
        """The folder of a split's images."""
        return self.base() / self.folders[name]
