"""Cityscapes: 19 classes, 2,975 training and 500 validation images of 2048 x 1024 px."""

from pathlib import Path
from typing import Any, ClassVar

from .dataset import LabelValues, Split
from .published import PublishedSegmentation

_IMAGE = "_leftImg8bit.png"

# name -> id in the label files, colour; in the order of the train ids (mcordts/cityscapesScripts, labels.py)
_LABELS = {
    "road": (7, [128, 64, 128]),
    "sidewalk": (8, [244, 35, 232]),
    "building": (11, [70, 70, 70]),
    "wall": (12, [102, 102, 156]),
    "fence": (13, [190, 153, 153]),
    "pole": (17, [153, 153, 153]),
    "traffic light": (19, [250, 170, 30]),
    "traffic sign": (20, [220, 220, 0]),
    "vegetation": (21, [107, 142, 35]),
    "terrain": (22, [152, 251, 152]),
    "sky": (23, [70, 130, 180]),
    "person": (24, [220, 20, 60]),
    "rider": (25, [255, 0, 0]),
    "car": (26, [0, 0, 142]),
    "truck": (27, [0, 0, 70]),
    "bus": (28, [0, 60, 100]),
    "train": (31, [0, 80, 100]),
    "motorcycle": (32, [0, 0, 230]),
    "bicycle": (33, [119, 11, 32]),
}
_IDS = [index for index, _ in _LABELS.values()]


class Cityscapes(PublishedSegmentation):
    """Cityscapes with fine labels and the 19 evaluated classes; all other ids are ignored.

    If every image has a ``labelTrainIds`` file, which cityscapesScripts can write, these files are read; otherwise the
    ``labelIds`` files of the archive. Test uses the validation split.

    Args:
        root: The folder with ``leftImg8bit`` and ``gtFine``.
        img_size: Height and width [px] of training crops, and of test images unless test_short_side is set.
        shared: Arguments of :class:`SegmentationDataModule`.

    Raises:
        ValueError: Files are missing.

    Source: https://www.cityscapes-dataset.com
    """

    top: ClassVar[str] = "cityscapes"
    markers: ClassVar[tuple[str, ...]] = ("leftImg8bit",)
    layout: ClassVar[str] = (
        "leftImg8bit/{train,val}/CITY/*_leftImg8bit.png\n"
        "gtFine/{train,val}/CITY/*_gtFine_labelIds.png (or *_gtFine_labelTrainIds.png)"
    )
    counts: ClassVar[dict[str, int]] = {"train": 2_975, "val": 500}

    def __init__(self, root: str | None = None, img_size: tuple[int, int] = (512, 512), **shared: Any) -> None:
        super().__init__({name: colour for name, (_, colour) in _LABELS.items()}, root, img_size, **shared)

    def published(self, name: str, base: Path) -> Split:
        """The pairs of train or val, over all cities."""
        folder = base / "leftImg8bit" / name
        images = sorted(folder.glob(f"*/*{_IMAGE}"))
        if not images:
            raise ValueError(f"{folder} holds no image; expected CITY/*{_IMAGE}.")
        masks = {kind: [_label(base, image, kind) for image in images] for kind in ("labelTrainIds", "labelIds")}
        if all(mask.is_file() for mask in masks["labelTrainIds"]):
            return Split(list(zip(images, masks["labelTrainIds"], strict=True)), LabelValues(range(len(_IDS))))
        missing = [mask for mask in masks["labelIds"] if not mask.is_file()]
        if missing:
            raise ValueError(f"{len(missing)} of {len(images)} images in {folder} have no label, first {missing[0]}.")
        others = [index for index in range(max(_IDS) + 1) if index not in _IDS]
        return Split(list(zip(images, masks["labelIds"], strict=True)), LabelValues(_IDS, others))


def _label(base: Path, image: Path, kind: str) -> Path:
    city, split = image.parent.name, image.parent.parent.name
    return base / "gtFine" / split / city / f"{image.name.removesuffix(_IMAGE)}_gtFine_{kind}.png"
