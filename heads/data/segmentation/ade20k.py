"""ADE20K for scene parsing: 150 classes, 20,210 training and 2,000 validation images."""

from pathlib import Path
from typing import Any, ClassVar

from ..pairs import pair_folders
from .dataset import LABELS, LabelValues, Split
from .published import PublishedSegmentation

# first name of each class in the dataset's objectInfo150.txt, in its order
_NAMES = """
wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, door,
table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, field, armchair,
seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, signboard, chest of drawers,
counter, sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow,
screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop,
stove, palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck,
tower, chandelier, awning, streetlight, booth, television, airplane, dirt track, apparel, pole, land, bannister,
escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything,
swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade
name, microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic
light, tray, ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
"""
# their colours, as open-mmlab/mmsegmentation lists them
_COLOURS = """
787878b4787806e6e650323204c8037878508c8c8ccc05ffe6e6e604fa07e005ffebff0796053d78784608ff33ff06528fff8cccff04ff3307
cc46030066c83de6faff06330b66ffff0747ff09e00907e6dcdcdcff095c7009ff08ffd607ffe0ffb8060aff47ff290a07ffffe0ff086608ff
ff3d06ffc207ff7a0800ff14ff0829ff05990633ffeb0cffa0961400a3ff8c8c8cfa0a0f14ff001fff00ff1f00ffe00099ff000000ffff4700
00ebff00adff1f00ff0bc8c8ff520000fff5003dff00ff7000ff85ff0000ffa300ff6600c2ff00008fff33ff000052ff00ff2900ffad0a00ff
adff0000ff99ff5c00ff00ffff00f5ff0066ffad00ff0014ffb8b8001fff00ff3d0047ffff00cc00ffc200ff52000aff0070ff3300ff00c2ff
007aff00ffa3ff990000ff0aff70008fff005200ffa3ff00ffeb0008b8aa8500ff00ff5cb800ffff001f00b8ff00d6ffff00705cff0000e0ff
70e0ff46b8a0a300ff9900ff47ff00ff00a3ffcc00ff008f00ffeb85ff00ff00ebf500ffff007afff5000abed4d6ff0000ccff1400ffffff00
0099ff0029ff00ffcc2900ff29ff00ad00ff00f5ff4700ff7a00ff00ffb8005cffb8ff000085ffffd60019c2c266ff005c00ff
"""
CLASSES = dict(
    zip(
        " ".join(_NAMES.split()).split(", "),
        (list(c) for c in zip(*[iter(bytes.fromhex(_COLOURS))] * 3, strict=True)),
        strict=True,
    )
)


class ADE20K(PublishedSegmentation):
    """ADE20K with the 150 classes of the scene parsing challenge.

    Label value 0 ("other") is ignored, 1 to 150 are the classes. Test uses the validation split.

    Args:
        root: ``ADEChallengeData2016``, or the folder that holds it.
        img_size: Height and width [px] of training crops, and of test images unless test_short_side is set.
        shared: Arguments of :class:`SegmentationDataModule`.

    Raises:
        ValueError: Files are missing.

    Source: http://sceneparsing.csail.mit.edu
    """

    top: ClassVar[str] = "ADEChallengeData2016"
    markers: ClassVar[tuple[str, ...]] = ("images",)
    layout: ClassVar[str] = "images/{training,validation}/*.jpg\nannotations/{training,validation}/*.png"
    counts: ClassVar[dict[str, int]] = {"train": 20_210, "val": 2_000}

    def __init__(self, root: str | None = None, img_size: tuple[int, int] = (512, 512), **shared: Any) -> None:
        super().__init__(CLASSES, root, img_size, **shared)

    def published(self, name: str, base: Path) -> Split:
        """The pairs of train or val."""
        folder = {"train": "training", "val": "validation"}[name]
        pairs = pair_folders(base / "images" / folder, base / "annotations" / folder, LABELS)
        return Split(pairs, LabelValues(range(1, 151), [0]))
