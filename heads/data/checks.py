"""Checks of the numbers that a data module is given."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

Range = tuple[float, float]


def check_count(name: str, found: Any, least: int = 1, unit: str = "") -> None:
    """Check a number of something.

    Args:
        name: Name of the argument.
        found: Its value.
        least: The smallest number that is possible.
        unit: Unit, for the message.

    Raises:
        ValueError: It is not a whole number, or too small.
    """
    if not _whole(found, least):
        raise ValueError(f"{name} is {found!r}; expected a whole number of at least {least}{unit and f' {unit}'}.")


def check_size(name: str, found: Sequence[Any], least: int = 1) -> tuple[int, int]:
    """Height and width [px].

    Args:
        name: Name of the argument.
        found: Its value.
        least: The shortest side that is possible [px].

    Raises:
        ValueError: They are not two whole numbers, or a side is too short.
    """
    if len(found) != 2 or not all(_whole(side, least) for side in found):
        raise ValueError(f"{name} is {found!r}; expected height and width in whole pixels, at least {least} px each.")
    return found[0], found[1]


def check_range(
    name: str, found: Sequence[float], what: str = "numbers", *, zero: bool = False, point: bool = False
) -> Range:
    """A range (low, high) of finite numbers, as floats.

    Args:
        name: Name of the argument.
        found: Its value.
        what: What the numbers are, for the message.
        zero: The lower one may be 0; otherwise both are above 0.
        point: Both may be the same.

    Raises:
        ValueError: It is not such a pair.
    """
    low, high = found if len(found) == 2 else (0.0, 0.0)
    positive = low >= 0 if zero else low > 0
    if not (positive and (low <= high if point else low < high) and high < float("inf")):
        above = "of at least" if zero else "above"
        raise ValueError(f"{name} is {list(found)}; expected two {what} {above} 0, the smaller one first.")
    return float(low), float(high)


def _whole(found: Any, least: int) -> bool:
    return isinstance(found, Integral) and not isinstance(found, bool) and int(found) >= least
