"""Consistency of boxes and masks: where an object has both, the box must match the extent of the mask."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from .annotation_checks import Invalid, is_box, name_of
from .annotations import Entry
from .instance_masks import Extent, rle_extent, rle_extents, without_pixel

_SLACK = 3.0  # [px] tolerance between box and mask edges: both are rounded, and masks come from smaller images
_SHARE = 0.05  # additional tolerance, as a fraction of the mask's width or height
_ELSEWHERE = "Correct the boxes. If they are meant to differ from the masks, leave segmentation out of the file."

Boxes = NDArray[np.float64]
"""``(N, 4)`` [px]."""


class BoxesAndMasks:
    """Compares the boxes of a file with the extents of their masks.

    Crowds and annotations without a readable box and mask are ignored.

    Args:
        rows: Annotations with valid ids.
        images: The images by id, with ``width`` and ``height``.
        extents: The extent of each annotation's polygons; ``None`` for invalid polygons and for RLE.

    Attributes:
        elsewhere: Annotations whose box differs from the extent of the mask by more than 3 px plus a twentieth of the
            mask's side, each with the problem. Empty if all boxes are relative (at most 1): ``read_coco`` reports
            that.
        most: Whether these are more than half of the annotations that have both.
    """

    def __init__(self, rows: Sequence[Entry], images: Mapping[int, Entry], extents: Sequence[Extent | None]) -> None:
        extents = _with_rle(rows, images, extents)
        both = [
            (row, extent)
            for row, extent in zip(rows, extents, strict=True)
            if extent is not None and not row.get("iscrowd") and is_box(row.get("bbox"))
        ]
        self.rows = [row for row, _ in both]
        self.images = images
        self.boxes = _array(row["bbox"] for row in self.rows)
        self.masks = _array(extent for _, extent in both)
        self._off = self._find_off()
        self.elsewhere = [self._problem(place) for place in self._off]
        self.most = 2 * len(self.elsewhere) > len(both)

    def lines(self) -> list[str]:
        """One line for each annotation in ``elsewhere``."""
        return [f"{name_of(row, self.images)} {problem}" for row, problem in self.elsewhere]

    def hint(self) -> str:
        """The box format that fits most masks, if there is one, and the remedy."""
        readings = self._readings()
        fits = {name: int(self._agree(boxes).sum()) for name, boxes in readings.items()}
        best = max(fits, key=lambda name: fits[name])
        total = len(self.rows)
        if 2 * fits[best] <= total:
            return f"This affects {len(self.elsewhere)} of {total} boxes, and no other common format fits. {_ELSEWHERE}"
        left, top, right, bottom = readings[best][self._off[0]]
        meant = ", ".join(f"{value:.6g}" for value in (left, top, right - left, bottom - top))
        return (
            f"This affects {len(self.elsewhere)} of {total} boxes. Read as {best}, {fits[best]} of {total} lie around "
            f"their masks. If that is their format, write [left, top, width, height] from the upper left corner of "
            f"the image, in its pixels, here [{meant}]."
        )

    def _find_off(self) -> list[int]:
        """Indices of the boxes that do not lie around their masks."""
        if not len(self.boxes) or self.boxes.max() <= 1:  # relative boxes are reported by read_coco
            return []
        corners = _read_as_is(self.boxes)
        for place in np.flatnonzero(~self._agree(corners)):
            row, image = self.rows[place], self.images[self.rows[place]["image_id"]]
            if isinstance(row["segmentation"], dict):  # the fast extent may be too large: decode the few suspects
                exact = rle_extent(row["segmentation"], image["height"], image["width"])
                self.masks[place] = corners[place] if exact is None else exact
        return [int(place) for place in np.flatnonzero(~self._agree(corners))]

    def _agree(self, boxes: Boxes) -> NDArray[np.bool_]:
        """Whether boxes (left, top, right, bottom) lie around their masks, within the tolerance."""
        sides = self.masks[:, 2:] - self.masks[:, :2]
        near: NDArray[np.bool_] = np.abs(boxes - self.masks) <= _SLACK + _SHARE * np.tile(sides, 2)
        return np.asarray(near.all(axis=1))

    def _problem(self, place: int) -> Invalid:
        left, top, right, bottom = self.masks[place].tolist()
        mask = ", ".join(f"{value:.6g}" for value in (left, top, right - left, bottom - top))
        row = self.rows[place]
        return row, f"has bbox {row['bbox']}, and its mask spans [{mask}]; expected a box around the mask"

    def _readings(self) -> dict[str, Boxes]:
        """The boxes read in other common formats, each converted to left, top, right, bottom."""
        sizes = np.array([(self.images[row["image_id"]][side]) for row in self.rows for side in ("width", "height")])
        width, height = sizes.reshape(-1, 2).T.astype(np.float64)
        a, b, c, d = self.boxes.T
        found = {
            "[left, top, right, bottom]": (a, b, c, d),
            "[left, top measured from below, width, height]": (a, height - b, a + c, height - b + d),
            "[left, bottom measured from below, width, height]": (a, height - b - d, a + c, height - b),
            "[left, bottom, right, top], all measured from below": (a, height - d, c, height - b),
            "boxes of the mirrored image": (width - a - c, b, width - a, b + d),
            "[centre x, centre y, width, height]": (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
            "[top, left, height, width]": (b, a, b + d, a + c),
            "[top, left, bottom, right]": (b, a, d, c),
        }
        return {name: np.stack(sides, axis=1) for name, sides in found.items()} | self._scaled(width, height)

    def _scaled(self, width: NDArray[np.float64], height: NDArray[np.float64]) -> dict[str, Boxes]:
        """The boxes rescaled to the size of their masks: by one factor per axis, or from one size of resized images.

        The medians are robust to single wrong boxes.
        """
        sides, masks = self.boxes[:, 2:], self.masks[:, 2:] - self.masks[:, :2]
        seen = (sides > 0).all(axis=1) & (masks > 0).all(axis=1)
        if not seen.any():
            return {}
        corners, images = _read_as_is(self.boxes), np.stack([width, height], axis=1)
        x, y = np.median(masks[seen] / sides[seen], axis=0)
        factor = f"{x:.3g}" if abs(x - y) <= 0.01 * x else f"{x:.3g} in x and {y:.3g} in y"
        across, down = np.median((images * sides)[seen] / masks[seen], axis=0)
        return {
            f"boxes of another scale, to multiply by {factor}": corners * [x, y, x, y],
            f"boxes of images resized to {across:.4g} x {down:.4g} px": corners * np.tile(images / [across, down], 2),
        }


def empty_masks(rows: Sequence[Entry], images: Mapping[int, Entry]) -> list[Invalid]:
    """Find annotations whose mask is well-formed but covers no pixel.

    Args:
        rows: Annotations, each with a well-formed segmentation.
        images: The images by id, with ``width`` and ``height``.
    """
    problem = "has a segmentation that covers no pixel; expected the outline of the object, or run lengths with pixels"
    sizes = ((row, images[row["image_id"]]) for row in rows)
    return [(row, problem) for row, i in sizes if without_pixel(row["segmentation"], i["height"], i["width"])]


def _with_rle(
    rows: Sequence[Entry], images: Mapping[int, Entry], extents: Sequence[Extent | None]
) -> list[Extent | None]:
    """Add the extents of RLE masks, which may be too large where RLE has empty runs."""
    found = list(extents)
    places = [
        place for place, row in enumerate(rows) if isinstance(row.get("segmentation"), dict) and not row.get("iscrowd")
    ]
    shapes = [images[rows[place]["image_id"]] for place in places]
    sizes = [(image["height"], image["width"]) for image in shapes]
    for place, extent in zip(
        places, rle_extents([rows[place]["segmentation"] for place in places], sizes), strict=True
    ):
        found[place] = extent
    return found


def _array(rows: Iterable[Sequence[float]]) -> Boxes:
    """Rows of four numbers as an array; ``np.array`` on a list of lists takes three times as long."""
    return np.fromiter(chain.from_iterable(rows), np.float64).reshape(-1, 4)


def _read_as_is(boxes: Boxes) -> Boxes:
    """Convert (left, top, width, height) to (left, top, right, bottom)."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
