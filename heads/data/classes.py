"""Class lists: names and colours. Label maps have at most 255 classes, because 255 means ignore."""

import colorsys
from collections.abc import Mapping, Sequence

IGNORE = 255
MAX_CLASSES = 255

ClassSpec = int | list[str] | dict[str, list[int]]
"""Number of classes, their names, or their names with an RGB colour [0, 255] each, in the order of the label values."""


def class_colours(classes: ClassSpec | None, most: int | None = MAX_CLASSES) -> dict[str, list[int]]:
    """Names with colours, in the order of the label values; missing names and colours are generated.

    Args:
        classes: The classes.
        most: Largest number of classes; None for no limit, where labels are not pixel values.

    Raises:
        ValueError: The list is missing, empty or too long, a name occurs twice, or a colour is not an RGB triple.
    """
    if classes is None or isinstance(classes, bool):
        raise ValueError(
            f"classes is {classes}; expected their number, a list of names, or names with a colour each "
            "(classes: {Sky: [128, 128, 128], ...}), in the order of the label values."
        )
    names = [f"class {i}" for i in range(classes)] if isinstance(classes, int) else [str(name) for name in classes]
    if not 1 <= len(names) <= (most or len(names)):
        limit = "at least 1" if most is None else f"1 to {most}, because label value {IGNORE} means ignore"
        raise ValueError(f"{len(names)} classes; expected {limit}.")
    if len(set(names)) != len(names):
        raise ValueError(
            f"classes has {next(n for n in names if names.count(n) > 1)!r} twice; expected each name once."
        )
    if isinstance(classes, Mapping):
        return {name: _rgb(name, colour) for name, colour in zip(names, classes.values(), strict=True)}
    return {name: _spread(i) for i, name in enumerate(names)}


def _rgb(name: str, colour: Sequence[int]) -> list[int]:
    values = list(colour) if isinstance(colour, Sequence) and not isinstance(colour, str) else []
    if len(values) != 3 or not all(type(v) is int and 0 <= v <= 255 for v in values):
        raise ValueError(f"Colour of class {name!r} is {colour!r}; expected three integers [R, G, B] from 0 to 255.")
    return values


def _spread(i: int) -> list[int]:
    """A colour that differs from its neighbours: hues in steps of the golden ratio, three brightness levels."""
    rgb = colorsys.hsv_to_rgb((i * 0.618034) % 1, 0.65, (1.0, 0.75, 0.5)[i % 3])
    return [round(255 * v) for v in rgb]
