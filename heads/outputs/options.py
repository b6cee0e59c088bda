"""Options for drawing predictions over a photograph."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Drawing:
    """How predictions are drawn.

    Args:
        opacity: Weight of the class colours over the photograph, from 0 to 1.
        threshold: Lowest score of a box that is drawn.

    Raises:
        ValueError: A number is out of range.
    """

    opacity: float = 0.5
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1 or not 0 <= self.threshold <= 1:
            raise ValueError(f"opacity is {self.opacity}, threshold {self.threshold}; expected 0 to 1 for both.")
