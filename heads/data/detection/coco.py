"""COCO 2017: 80 thing classes with boxes, masks and crowds, 118,287 training and 5,000 validation images."""

from pathlib import Path
from typing import Any, ClassVar

from .annotations import Annotations
from .coco_json import read_coco
from .published import PublishedDetection

# in the order of their category ids, which run from 1 to 90 with gaps
_NAMES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote,
keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush
"""


class COCODetection(PublishedDetection):
    """COCO 2017 with the official split. Test is the validation split, because the annotations of test are not public.

    Args:
        root: Folder with ``annotations``, ``train2017`` and ``val2017``.
        img_size: Height and width [px] that images fit into.
        skip_invalid: Skip invalid boxes. On by default, because the published training split has boxes of height 0.
        shared: Arguments that all detection data modules share, see :class:`DetectionDataModule`.

    Raises:
        ValueError: Files are missing or wrong.

    Source: https://cocodataset.org
    """

    top: ClassVar[str] = "coco"
    markers: ClassVar[tuple[str, ...]] = ("annotations",)
    layout: ClassVar[str] = "annotations/instances_{train,val}2017.json\n{train,val}2017/*.jpg"
    counts: ClassVar[dict[str, int]] = {"train": 118_287, "val": 5_000}

    def __init__(
        self,
        root: str | None = None,
        img_size: tuple[int, int] = (512, 512),
        *,
        skip_invalid: bool = True,
        **shared: Any,
    ) -> None:
        super().__init__(" ".join(_NAMES.split()).split(", "), root, img_size, skip_invalid=skip_invalid, **shared)
        self.test_on_val()

    def published(self, name: str, base: Path) -> Annotations:
        """Read a split from its json."""
        path = base / "annotations" / f"instances_{name}2017.json"
        return read_coco(path, skip_invalid=self.skip_invalid, masks=self.masks, as_published=True)

    def image_folder(self, name: str) -> Path:
        """The folder of a split's images."""
        return self.base() / f"{name}2017"
