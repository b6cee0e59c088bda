"""What is worth a look in the annotations of a split, though each of them may be right."""

from collections import defaultdict
from collections.abc import Sequence
from unicodedata import normalize

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from .annotations import Annotations, Entry
from .instance_masks import ROUNDING

_SHOWN = 5  # names of a list
_NEAREST = 1000  # boxes that one is compared with; more are not of one object


def warn_of_alike(names: Sequence[str], source: str) -> None:
    """Warn where names of classes differ in case or blanks alone, as Car and car do.

    Args:
        names: As the files have them.
        source: What they were read from.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups["".join(normalize("NFKC", name).casefold().split())].append(name)
    alike = [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    if alike:
        rank_zero_warn(
            f"{source} has the classes {_listed(alike)}, which differ in case or blanks alone and are learned as "
            "classes of their own. Give them one name, or list all in data.classes if they are meant to be several."
        )


def doubts(annotations: Annotations) -> list[str]:
    """A sentence about each thing that is hardly meant: doubled objects, more crowds than objects."""
    found = []
    twice = doubled(annotations)
    if twice:
        one, other = twice[0]
        found.append(
            f"{len(twice)} of {len(annotations.annotations)} objects are there twice, of one class and in one place, "
            f"first annotations {one['id']} and {other['id']} of image {one['image_id']}: one of the two counts as "
            "missed, whatever is found. Take out one of each."
        )
    if _mostly_crowds(annotations):
        found.append(of_crowds(annotations))
    return found


def notes(annotations: Annotations) -> list[str]:
    """A sentence about each thing that is common but good to know: classes without an object, and some crowds."""
    found = []
    single = {annotation["category_id"] for annotation in annotations.annotations if not annotation["iscrowd"]}
    without = [repr(category["name"]) for category in annotations.categories if category["id"] not in single]
    if without:
        found.append(
            f"None of its {len(annotations.annotations)} annotations is an object of {_listed(without)}. Look whether "
            "the list of classes is right."
        )
    if crowds(annotations) and not _mostly_crowds(annotations):
        found.append(of_crowds(annotations))
    return found


def _mostly_crowds(annotations: Annotations) -> bool:
    return 2 * crowds(annotations) > len(annotations.annotations)


def crowds(annotations: Annotations) -> int:
    """Number of annotations that are crowds."""
    return sum(annotation["iscrowd"] for annotation in annotations.annotations)


def of_crowds(annotations: Annotations) -> str:
    """What it means that some annotations, or all, are crowds."""
    return (
        f"{crowds(annotations)} of {len(annotations.annotations)} annotations have iscrowd 1: they are crowds, left "
        "out of training and neither found nor missed in scoring. Some tools save brush masks so; set iscrowd to 0 "
        "where it is a single object."
    )


def doubled(annotations: Annotations) -> list[tuple[Entry, Entry]]:
    """Objects of one image and one class in the same place, up to rounding, each with an earlier one; crowds aside."""
    rows = [annotation for annotation in annotations.annotations if not annotation["iscrowd"]]
    boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    kinds = np.array([(row["image_id"], row["category_id"]) for row in rows], np.int64).reshape(-1, 2)
    slack = np.minimum(ROUNDING, boxes[:, 2:].min(axis=1, initial=np.inf) / 4)  # small objects may stand close by
    boxes[:, 2:] += boxes[:, :2]
    # equal boxes have nearly equal sums of their sides, with factors that others hardly meet by chance
    sums = boxes @ np.sqrt([2, 3, 5, 7])
    order = np.lexsort([sums, kinds[:, 1], kinds[:, 0]])
    earlier = _earlier(boxes[order], kinds[order], sums[order], slack[order])
    places = np.flatnonzero(earlier >= 0)
    return [(rows[order[earlier[place]]], rows[order[place]]) for place in places]


def _earlier(
    boxes: NDArray[np.float64], kinds: NDArray[np.int64], sums: NDArray[np.float64], slack: NDArray[np.float64]
) -> NDArray[np.int64]:
    """For each box the place of one before it that is the same, or -1; sorted by kind, then by the sum."""
    found = np.full(len(boxes), -1)
    left = np.arange(len(boxes))
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
