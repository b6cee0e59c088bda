"""COCO-Stuff 164k: 171 classes, 118,287 training and 5,000 validation images."""

from pathlib import Path
from typing import Any, ClassVar

from ..layouts import first_folder
from ..pairs import pair_folders
from .dataset import LABELS, LabelValues, Split
from .published import PublishedSegmentation

# ids 1 to 182 of nightrome/cocostuff's labels.txt; - marks an id that COCO never annotated
_NAMES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, -, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, -, backpack, umbrella, -, -,
handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
surfboard, tennis racket, bottle, -, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, -, dining table, -, -, toilet, -, tv,
laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, -, book, clock, vase,
scissors, teddy bear, hair drier, toothbrush, -, banner, blanket, branch, bridge, building-other, bush, cabinet, cage,
cardboard, carpet, ceiling-other, ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt,
door-stuff, fence, floor-marble, floor-other, floor-stone, floor-tile, floor-wood, flower, fog, food-other, fruit,
furniture-other, grass, gravel, ground-other, hill, house, leaves, light, mat, metal, mirror-stuff, moss, mountain,
mud, napkin, net, paper, pavement, pillow, plant-other, plastic, platform, playingfield, railing, railroad, river,
road, rock, roof, rug, salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, straw,
structural-other, table, tent, textile-other, towel, tree, vegetable, wall-brick, wall-concrete, wall-other,
wall-panel, wall-stone, wall-tile, wall-wood, water-other, waterdrops, window-blind, window-other, wood
"""
_ALL = " ".join(_NAMES.split()).split(", ")
_USED = [index for index, name in enumerate(_ALL) if name != "-"]


class COCOStuff(PublishedSegmentation):
    """COCO-Stuff with its 80 thing and 91 stuff classes, from the label maps ``stuffthingmaps_trainval2017``.

    A pixel holds the COCO id minus one; 255 and the 11 unused ids are ignored. Test uses the validation split.

    Args:
        root: The folder with the images and the label maps; mmsegmentation's folder names work as well.
        img_size: Height and width [px] of training crops, and of test images unless test_short_side is set.
        shared: Arguments of :class:`SegmentationDataModule`.

    Raises:
        ValueError: Files are missing.

    Source: https://github.com/nightrome/cocostuff
    """

    top: ClassVar[str] = "coco_stuff164k"
    markers: ClassVar[tuple[str, ...]] = ("images", "train2017", "val2017")
    layout: ClassVar[str] = (
        "images/{train,val}2017/*.jpg (or {train,val}2017/*.jpg)\n"
        "stuffthingmaps/{train,val}2017/*.png (or annotations/{train,val}2017/*.png)"
    )
    counts: ClassVar[dict[str, int]] = {"train": 118_287, "val": 5_000}

    def __init__(self, root: str | None = None, img_size: tuple[int, int] = (512, 512), **shared: Any) -> None:
        super().__init__([_ALL[index] for index in _USED], root, img_size, **shared)

    def published(self, name: str, base: Path) -> Split:
        """The pairs of train or val."""
        images = first_folder(base, (f"images/{name}2017", f"{name}2017"))
        masks = first_folder(base, (f"stuffthingmaps/{name}2017", f"annotations/{name}2017"))
        unused = [index for index in range(len(_ALL)) if index not in _USED]
        return Split(pair_folders(images, masks, LABELS, ("_labelTrainIds.png",)), LabelValues(_USED, unused))
