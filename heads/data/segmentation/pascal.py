"""Pascal VOC 2012 (21 classes) and Pascal Context (59 classes): list files beside JPEGs and label PNGs."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from ..layouts import listed
from .dataset import LabelValues, Split
from .published import PublishedSegmentation

_VOC = """
background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike
person pottedplant sheep sofa train tvmonitor
""".split()

# Alphabetical, as open-mmlab/mmsegmentation's converter numbers them. An older list of 60 classes for the same label
# PNGs has another order: VOC's 20 first.
_CONTEXT = """
aeroplane bag bed bedclothes bench bicycle bird boat book bottle building bus cabinet car cat ceiling
chair cloth computer cow cup curtain dog door fence floor flower food grass ground horse keyboard
light motorbike mountain mouse person plate platform pottedplant road rock sheep shelves sidewalk sign
sky snow sofa table track train tree truck tvmonitor wall water window wood
""".split()


def _colour(index: int) -> list[int]:
    """The colour of a label value in VOC's palette: its bits, spread over the channels from the highest bit down."""
    bits = [[index >> (3 * place + channel) & 1 for place in range(8)] for channel in range(3)]
    return [sum(bit << (7 - place) for place, bit in enumerate(channel)) for channel in bits]


class PascalVOC(PublishedSegmentation):
    """Pascal VOC 2012 with 20 classes and background; label value 255, the borders, is ignored.

    Test uses the validation split.

    Args:
        root: ``VOCdevkit/VOC2012``, or a folder that holds it.
        img_size: Height and width [px] of training crops, and of test images unless test_short_side is set.
        train_set: train: the 1,464 images of VOC. trainaug: these and the 9,118 of SBD, in the format of
            mmsegmentation's converter: labels in SegmentationClassAug, names in aug.txt.
        shared: What all segmentation data modules share, see :class:`SegmentationDataModule`.

    Raises:
        ValueError: Files are missing.

    Source: http://host.robots.ox.ac.uk/pascal/VOC/voc2012
    """

    top: ClassVar[str] = "VOCdevkit/VOC2012"
    markers: ClassVar[tuple[str, ...]] = ("JPEGImages",)
    layout: ClassVar[str] = (
        "JPEGImages/*.jpg\nSegmentationClass/*.png\nImageSets/Segmentation/{train,val}.txt\n"
        "and for trainaug: SegmentationClassAug/*.png\nImageSets/Segmentation/aug.txt"
    )
    counts: ClassVar[dict[str, int]] = {"train": 1_464, "trainaug": 10_582, "val": 1_449}

    def __init__(
        self,
        root: str | None = None,
        img_size: tuple[int, int] = (512, 512),
        *,
        train_set: Literal["train", "trainaug"] = "train",
        **shared: Any,
    ) -> None:
        super().__init__({name: _colour(i) for i, name in enumerate(_VOC)}, root, img_size, **shared)
        if train_set not in ("train", "trainaug"):
            raise ValueError(f"train_set is {train_set!r}; expected train or trainaug.")
        self.train_set = train_set
        self.protocol["train_set"] = train_set

    def list_of(self, name: str) -> str:
        """Published name of the list of train or val; training is train or trainaug."""
        return self.train_set if name == "train" else name

    def published(self, name: str, base: Path) -> Split:
        """The pairs of train or val."""
        images, lists = base / "JPEGImages", base / "ImageSets" / "Segmentation"
        pairs = listed(lists / f"{name}.txt", images, base / "SegmentationClass")
        if self.list_of(name) == "trainaug":
            if not (lists / "aug.txt").is_file():
                raise ValueError(
                    f"No file {lists / 'aug.txt'}, which lists the images that train_set trainaug adds. Convert SBD "
                    "first, or set data.train_set to train."
                )
            pairs += listed(lists / "aug.txt", images, base / "SegmentationClassAug")
        return Split(pairs, LabelValues(range(len(_VOC))))


class PascalContext(PublishedSegmentation):
    """Pascal Context with its 59 most frequent classes; label value 0, everything else, is ignored.

    Labels and lists are those that mmsegmentation's converter makes from ``trainval_merged.json``. Test uses the
    validation split.

    Args:
        root: ``VOCdevkit/VOC2010``, or a folder that holds it.
        img_size: Height and width [px] of training crops, and of test images unless test_short_side is set.
        shared: What all segmentation data modules share, see :class:`SegmentationDataModule`.

    Raises:
        ValueError: Files are missing.

    Source: open-mmlab/mmsegmentation, tools/dataset_converters/pascal_context.py
    """

    top: ClassVar[str] = "VOCdevkit/VOC2010"
    markers: ClassVar[tuple[str, ...]] = ("JPEGImages",)
    layout: ClassVar[str] = (
        "JPEGImages/*.jpg\nSegmentationClassContext/*.png\nImageSets/SegmentationContext/{train,val}.txt"
    )
    counts: ClassVar[dict[str, int]] = {"train": 4_998, "val": 5_105}

    def __init__(self, root: str | None = None, img_size: tuple[int, int] = (512, 512), **shared: Any) -> None:
        super().__init__(_CONTEXT, root, img_size, **shared)

    def published(self, name: str, base: Path) -> Split:
        """The pairs of train or val."""
        names = base / "ImageSets" / "SegmentationContext" / f"{name}.txt"
        pairs = listed(names, base / "JPEGImages", base / "SegmentationClassContext")
        return Split(pairs, LabelValues(range(1, 60), [0]))
