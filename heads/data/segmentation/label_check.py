"""Check before a run that an ignored label value is not a class by mistake, as in masks of 0 and 255."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..images import read_labels
from .dataset import LabelValues, values_in

_SHOWN = 5  # names in the message


def has_two_classes(masks: Sequence[Path], values: LabelValues, names: Sequence[str], split: str) -> bool:
    """Whether the labels of a split have pixels of at least two classes, or the list has one class only.

    Labels are read in random order until two classes are found, which is mostly one label. Labels that cannot be read
    are skipped here: the error comes when their pair is loaded.

    Args:
        masks: The label files.
        values: What their values mean.
        names: Names of the classes.
        split: Name of the split, for the message.

    Raises:
        ValueError: All labels together have one class and ignored pixels, so the ignored pixels may be the others.
    """
    if len(names) < 2:
        return True
    classes, ignored = set(values.classes), set(values.all_ignored)
    found: set[int] = set()
    example = None  # a label with ignored pixels
    for place in np.random.default_rng(0).permutation(len(masks)):  # neighbouring files are often alike
        try:
            present = set(values_in(read_labels(masks[place])))
        except ValueError:
            continue
        found |= present
        if len(found & classes) > 1:
            return True
        if example is None and present & ignored:
            example = masks[place]
    if example is not None and found & classes:
        raise ValueError(_problem(example, sorted(found & (classes | ignored)), values, names, split))
    return False


def _problem(example: Path, found: list[int], values: LabelValues, names: Sequence[str], split: str) -> str:
    by_value = dict(zip(values.classes, names, strict=True))
    (only,) = (value for value in found if value in by_value)
    others = [f"{name!r} ({value})" for value, name in by_value.items() if value != only]
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    ignored = " and ".join(str(value) for value in found if value != only)
    return (
        f"The labels of {split}, such as {example}, have only the values {found}: {only} is {by_value[only]!r}, and "
        f"{ignored} is ignored. No pixel is left for {', '.join(others[:_SHOWN])}{more}. If ignored pixels belong to a "
        "class, save them with its value; 255 is always ignored, other values by data.ignore_values and "
        "data.reduce_zero_label."
    )
