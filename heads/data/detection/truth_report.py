"""Report suspicious annotations of a split; each of them may still be intended."""

from collections import defaultdict
from collections.abc import Sequence
from unicodedata import normalize

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from .annotations import Annotations, Entry
from .instance_masks import ROUNDING

_SHOWN = 10  # names listed in a message
_NEAREST = 1000  # most boxes that each box is compared with, which bounds the run time


def warn_of_alike(names: Sequence[str], source: str) -> None:
    """Warn of class names that differ only in case or whitespace, such as Car and car.

    Args:
        names: Names as in the files.
        source: What they were read from, for the message.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups["".join(normalize("NFKC", name).casefold().split())].append(name)
    alike = [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    if alike:
        rank_zero_warn(
            f"{source} has the classes {_listed(alike)}, which differ only in case or whitespace and are learned "
            "as separate classes. Give them one name, or list all of them in data.classes if they are intended."
        )


def doubts(annotations: Annotations) -> list[str]:
    """Sentences about likely mistakes: duplicate objects, classes without an object, more crowds than objects."""
    found = []
    twice = doubled(annotations)
    if twice:
        one, other = twice[0]
        found.append(
            f"{len(twice)} of {len(annotations.annotations)} objects are annotated twice, with the same class and box, "
            f"first annotations {one['id']} and {other['id']} of image {one['image_id']}. One of the two always counts "
            "as missed. Remove one of each pair."
        )
    single = {annotation["category_id"] for annotation in annotations.annotations if not annotation["iscrowd"]}
    without = [repr(category["name"]) for category in annotations.categories if category["id"] not in single]
    if without:
        found.append(
            f"No object of {_listed(without)} is among its {len(annotations.annotations)} annotations. Check the list "
            "of classes."
        )
    if _mostly_crowds(annotations):
        found.append(of_crowds(annotations))
    return found


def notes(annotations: Annotations) -> list[str]:
    """Sentences about common facts worth knowing: some crowds."""
    return [of_crowds(annotations)] if crowds(annotations) and not _mostly_crowds(annotations) else []


def _mostly_crowds(annotations: Annotations) -> bool:
    return 2 * crowds(annotations) > len(annotations.annotations)


def crowds(annotations: Annotations) -> int:
    """Number of annotations that are crowds."""
    return sum(annotation["iscrowd"] for annotation in annotations.annotations)


def of_crowds(annotations: Annotations) -> str:
    """A sentence on how crowds are treated, and how to correct them."""
    return (
        f"{crowds(annotations)} of {len(annotations.annotations)} annotations have iscrowd 1: they are crowds, which "
        "are excluded from training and ignored in scoring. Some tools save brush masks as crowds; set iscrowd to 0 "
        "for single objects."
    )


def doubled(annotations: Annotations) -> list[tuple[Entry, Entry]]:
    """Find duplicates: pairs of objects with the same image, class and box, up to rounding; without crowds."""
    rows = [annotation for annotation in annotations.annotations if not annotation["iscrowd"]]
    boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    kinds = np.array([(row["image_id"], row["category_id"]) for row in rows], np.int64).reshape(-1, 2)
    slack = np.minimum(ROUNDING, boxes[:, 2:].min(axis=1, initial=np.inf) / 4)  # small objects may be close together
    boxes[:, 2:] += boxes[:, :2]
    # Sorting by a weighted sum of the sides puts equal boxes next to each other, so not all pairs are compared. With
    # irrational weights different boxes hardly ever have the same sum.
    sums = boxes @ np.sqrt([2, 3, 5, 7])
    order = np.lexsort([sums, kinds[:, 1], kinds[:, 0]])
    earlier = _earlier(boxes[order], kinds[order], sums[order], slack[order])
    places = np.flatnonzero(earlier >= 0)
    return [(rows[order[earlier[place]]], rows[order[place]]) for place in places]


def _earlier(
    boxes: NDArray[np.float64], kinds: NDArray[np.int64], sums: NDArray[np.float64], slack: NDArray[np.float64]
) -> NDArray[np.int64]:
    """For each box the index of an equal box before it, or -1.

    Args:
        boxes: Boxes (left, top, right, bottom), sorted by kind, then by sum.
        kinds: Image and category of each.
        sums: Weighted sum of the sides of each.
        slack: Largest difference of a side [px].
    """
    found = np.full(len(boxes), -1)
    left = np.arange(len(boxes))
    # sums of equal boxes differ by less; boxes further back in the order differ even more, so the search can stop
    widest = ROUNDING * np.sqrt([2, 3, 5, 7]).sum()
    for step in range(1, min(_NEAREST, len(boxes))):
        left = left[(left >= step) & (found[left] < 0)]
        near = (kinds[left] == kinds[left - step]).all(axis=1) & (sums[left] - sums[left - step] <= widest)
        left = left[near]
        if not len(left):
            break
        same = (abs(boxes[left] - boxes[left - step]) < slack[left, None]).all(axis=1)
        found[left[same]] = left[same] - step
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
