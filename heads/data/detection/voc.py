"""Detection data with annotations in Pascal VOC's XML: VOC itself, and custom folders in its layout."""

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

from ..classes import ClassSpec, class_colours
from ..layouts import base_folder, listed_names
from .annotations import Annotations
from .module import DetectionDataModule
from .published import PublishedDetection
from .truth_report import warn_of_alike
from .voc_xml import read_voc

_NAMES = """
aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep sofa
train tvmonitor
""".split()
_LISTS = Path("ImageSets", "Main")


class PascalVOCDetection(PublishedDetection):
    """Pascal VOC 2007 or 2012 with its 20 classes. Test is the test split in 2007, and the validation split in 2012.

    Args:
        root: ``VOCdevkit/VOC2012`` or ``VOCdevkit/VOC2007``, or a folder that contains it.
        img_size: Height and width [px] that images fit into.
        year: 2007 or 2012.
        train_set: train, or trainval, which adds the validation images, as for published test scores.
        keep_difficult: Keep objects marked as difficult and treat them like others; VOC's own scoring ignores them.
        shared: Arguments that all detection data modules share, see :class:`DetectionDataModule`.

    Raises:
        ValueError: Files are missing or wrong, or training would include the test images.

    Source: http://host.robots.ox.ac.uk/pascal/VOC
    """

    top: ClassVar[str] = "VOCdevkit/VOC"  # and the year
    markers: ClassVar[tuple[str, ...]] = ("JPEGImages",)
    layout: ClassVar[str] = "Annotations/*.xml\nJPEGImages/*.jpg\nImageSets/Main/{train,val,trainval,test}.txt"
    counts: ClassVar[dict[str, int]] = {
        "2007 train": 2_501,
        "2007 val": 2_510,
        "2007 trainval": 5_011,
        "2007 test": 4_952,
        "2012 train": 5_717,
        "2012 val": 5_823,
    }

    def __init__(
        self,
        root: str | None = None,
        img_size: tuple[int, int] = (512, 512),
        *,
        year: Literal[2007, 2012] = 2012,
        train_set: Literal["train", "trainval"] = "train",
        keep_difficult: bool = True,
        **shared: Any,
    ) -> None:
        super().__init__(_NAMES, root, img_size, **shared)
        _refuse_masks(self.masks)
        if (year, train_set) not in ((2007, "train"), (2007, "trainval"), (2012, "train")):
            raise ValueError(
                f"year is {year}, train_set {train_set!r}; expected 2007 with train or trainval, or 2012 with train, "
                "because 2012 is tested on its validation images."
            )
        self.year = year
        self.train_set = train_set
        self.keep_difficult = keep_difficult
        self.protocol |= {"year": year, "train_set": train_set, "keep_difficult": keep_difficult}
        if year == 2012:
            self.test_on_val()

    def base(self) -> Path:
        """The folder of the year."""
        return base_folder(self.root, f"{self.top}{self.year}", self.markers)

    def count_of(self, name: str) -> int:
        """Published number of images of a split in this year."""
        return self.counts[f"{self.year} {self._list(name)}"]

    def _list(self, name: str) -> str:
        return self.train_set if name == "train" else name

    def published(self, name: str, base: Path) -> Annotations:
        """A split from the XML of the images that its list names."""
        options = {"skip_invalid": self.skip_invalid, "keep_difficult": self.keep_difficult}
        return read_list_of_xml(base, self._list(name), classes=list(self.classes), **options)

    def image_folder(self, name: str) -> Path:
        """The folder of all images."""
        return self.base() / "JPEGImages"


class VOCFolder(DetectionDataModule):
    """Custom images with boxes in Pascal VOC's layout: Annotations/*.xml, JPEGImages, ImageSets/Main/*.txt.

    Args:
        root: Folder with these three; predict does not need it if ``classes`` is set.
        classes: Names of the classes, or names with colours, in the order of the labels; by default all names in the
            XML of all splits.
        img_size: Height and width [px] that images fit into.
        train_set: Name of the list of training images.
        val_set: Name of the list of validation images.
        test_set: Name of the list of test images; by default test is the validation split.
        first_pixel: Coordinate of the first pixel: 1 in VOC's own files, 0 in those of some tools.
        keep_difficult: Keep objects marked as difficult and treat them like others; VOC's own scoring ignores them.
        shared: Arguments that all detection data modules share, see :class:`DetectionDataModule`.

    Raises:
        ValueError: Files are missing or wrong, or an object has an unknown class.
    """

    def __init__(
        self,
        root: str | None = None,
        classes: ClassSpec | None = None,
        img_size: tuple[int, int] = (512, 512),
        *,
        train_set: str = "train",
        val_set: str = "val",
        test_set: str | None = None,
        first_pixel: int = 1,
        keep_difficult: bool = True,
        **shared: Any,
    ) -> None:
        super().__init__(classes, root, img_size, **shared)
        _refuse_masks(self.masks)
        self.lists = {"train": train_set, "val": val_set, "test": test_set or val_set}
        self.first_pixel = first_pixel
        self.keep_difficult = keep_difficult
        self.protocol |= {"first_pixel": first_pixel, "keep_difficult": keep_difficult}
        if test_set is None:
            self.test_on_val()
        if classes is None:
            self.take_classes()

    def take_classes(self) -> None:
        """Use the names in the XML of all splits as classes; a single small split may lack some.

        Raises:
            ValueError: Files are missing or wrong.
        """
        found = self._listed(*dict.fromkeys(self.lists.values()))
        warn_of_alike(found.names, str(self.base()))
        self.classes = class_colours(found.names, most=None)

    def annotations(self, name: str) -> Annotations:
        """A split from the XML of the images that its list names."""
        return self._listed(self.lists[name])

    def _listed(self, *lists: str) -> Annotations:
        classes = None if self.classes is None else list(self.classes)
        options = {"skip_invalid": self.skip_invalid, "keep_difficult": self.keep_difficult}
        return read_list_of_xml(self.base(), *lists, classes=classes, first_pixel=self.first_pixel, **options)

    def image_folder(self, name: str) -> Path:
        """The folder of all images."""
        return self.base() / "JPEGImages"


def read_list_of_xml(base: Path, *lists: str, classes: list[str] | None, **options: Any) -> Annotations:
    """Read the annotations of the images named in lists below ``ImageSets/Main``.

    Args:
        base: Folder of the dataset.
        lists: Names of the lists, without suffix.
        classes: Names of the classes; ``None`` for those found.
        options: Further arguments of :func:`read_voc`.

    Raises:
        ValueError: Files are missing or wrong.
    """
    paths = [base / _LISTS / f"{name}.txt" for name in lists]
    files: dict[Path, None] = {}
    for path in paths:
        named = [base / "Annotations" / f"{name}.xml" for name in listed_names(path, base)]
        missing = [file for file in named if not os.path.isfile(file)]  # of any name, even one too long for a file
        if missing:
            raise ValueError(
                f"No file {missing[0]}, which {path} names; {len(missing)} of its {len(named)} XML files are missing. "
                "Unpack the dataset again, or remove the names from the list."
            )
        files |= dict.fromkeys(named)
    return read_voc(list(files), base / "JPEGImages", str(paths[0]), classes=classes, **options)


def _refuse_masks(masks: bool) -> None:
    if masks:
        raise ValueError(
            "masks is set; Pascal VOC's XML has only boxes. Leave masks out, or convert the dataset to COCO's json."
        )
