"""Refuse labels in which all but one class is ignored, before a run learns that class alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..classes import IGNORE
from .dataset import LabelValues, classes_in


def has_two_classes(masks: Sequence[Path], values: LabelValues, names: Sequence[str], split: str) -> bool:
    """Whether the labels of a split have pixels of two classes.

    Labels are read until two classes are found, usually one file. Unreadable ones are skipped here; reading their pair
    later raises the error.

    Args:
        masks: The label files.
        values: What their values mean.
        names: Names of the classes.
        split: Name of the split, for messages.

    Raises:
        ValueError: All labels have one class and ignored pixels, which may be another class, as in masks of 0 and 255.
    """
    seen: set[int] = set()
    for place in np.random.default_rng(0).permutation(len(masks)):  # neighbouring files are often alike
        try:
            seen |= set(classes_in(values.read(masks[place])))
        except ValueError:
            continue
        if len(seen - {IGNORE}) > 1:
            return True
    if len(names) > 1 and len(seen) == 2 and IGNORE in seen:
        raise ValueError(
            f"The {len(masks)} {split} labels, such as {masks[0]}, have only {names[min(seen)]!r} and ignored pixels, "
            f"none of {_others(names, min(seen))}. Label values {values.all_ignored} are ignored, 255 always. If "
            "they mark a class, save its index in data.classes instead; see also data.reduce_zero_label and "
            "data.ignore_values."
        )
    return False


def _others(names: Sequence[str], place: int) -> str:
    others = [repr(name) for number, name in enumerate(names) if number != place]
    return ", ".join(others[:5]) + (f" and {len(others) - 5} more classes" if len(others) > 5 else "")
