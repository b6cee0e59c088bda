"""Sliding windows: where they lie, how an image is cut into them, and how what a head says of each is merged."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Window = tuple[int, int]
"""Top and left of a window [px]."""


def windows(size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]) -> list[Window]:
    """Where windows lie so that they cover an image, row by row.

    The last one of a row or column ends at the border: it is shifted back, not padded. An image smaller than the window
    has one window, which reaches beyond it.

    Args:
        size: Height and width of the image [px].
        window: Height and width of the windows [px].
        stride: Rows and columns from one to the next [px].

    Raises:
        ValueError: A number is not positive, or the stride leaves gaps.

    Source: the rule of mmsegmentation's ``slide_inference``, and of facebookresearch/dinov3 @ 6876159 (512 and 341).
    """
    if min(*size, *window, *stride) < 1 or stride[0] > window[0] or stride[1] > window[1]:
        raise ValueError(
            f"Windows of {window} at stride {stride} on an image of {size}; expected at least 1 px and a stride of at "
            "most the window, or there are gaps."
        )
    tops, lefts = (_starts(*axis) for axis in zip(size, window, stride, strict=True))
    return [(top, left) for top in tops for left in lefts]


def _starts(size: int, window: int, stride: int) -> list[int]:
    count = max(0, -(-(size - window) // stride)) + 1
    return [max(0, min(i * stride, size - window)) for i in range(count)]


def split(image: Tensor, at: Sequence[Window], window: tuple[int, int]) -> Tensor:
    """Crops ``(N, C, *window)`` of an image ``(C, H, W)``; beyond its border they are 0.

    Args:
        image: The image.
        at: Top and left of each crop.
        window: Height and width of the crops [px].
    """
    bottom, right = max(0, window[0] - image.shape[1]), max(0, window[1] - image.shape[2])
    padded = F.pad(image, (0, right, 0, bottom)) if bottom or right else image
    return torch.stack([padded[:, top : top + window[0], left : left + window[1]] for top, left in at])


class Merge:
    """The weighted mean of overlapping windows, added one batch after the other.

    Windows may come in any batches; in the same order they give the same sum to the last bit. One window that covers
    the image gives back what was added.

    Args:
        size: Height and width of the image [px].
        window: Height and width of the windows [px].
        weight: Weight of each of a window's pixels, ``(*window)``, above 0; all equal by default, as in the references.

    Raises:
        ValueError: ``weight`` has another shape, or a weight is not positive.
    """

    def __init__(self, size: tuple[int, int], window: tuple[int, int], weight: Tensor | None = None) -> None:
        if weight is not None and (tuple(weight.shape) != tuple(window) or not (weight > 0).all()):
            raise ValueError(f"weight is {tuple(weight.shape)}; expected {tuple(window)}, all above 0.")
        self.size = size
        self.window = window
        self.weight = weight
        self._sum: Tensor | None = None
        self._weights: Tensor | None = None

    def add(self, outputs: Tensor, at: Sequence[Window]) -> None:
        """Add what a head says of some windows.

        Args:
            outputs: At pixel resolution, ``(N, C, *window)``, float32 or float64.
            at: Top and left of each.

        Raises:
            ValueError: The outputs are not one for each window, or have another size.
        """
        if len(outputs) != len(at) or tuple(outputs.shape[-2:]) != tuple(self.window):
            raise ValueError(
                f"outputs are {tuple(outputs.shape)} for {len(at)} windows; expected (N, C, {self.window[0]}, "
                f"{self.window[1]}) with one N each."
            )
        weight = self.weight if self.weight is not None else outputs.new_ones(self.window)
        weight = weight.to(outputs)
        if self._sum is None or self._weights is None:
            self._sum, self._weights = outputs.new_zeros(outputs.shape[1], *self.size), outputs.new_zeros(self.size)
        for output, (top, left) in zip(outputs, at, strict=True):
            rows, columns = slice(top, top + self.window[0]), slice(left, left + self.window[1])
            inside = self._weights[rows, columns]
            height, width = inside.shape
            inside += weight[:height, :width]
            self._sum[:, rows, columns] += (output if self.weight is None else output * weight)[:, :height, :width]

    def result(self) -> Tensor:
        """The mean at every pixel, ``(C, H, W)``.

        Raises:
            ValueError: A pixel is in no window that was added.
        """
        if self._sum is None or self._weights is None or not (self._weights > 0).all():
            raise ValueError("Some pixels are in no window; add all of `windows` first.")
        return self._sum / self._weights
