"""Test time: an image whole or in sliding windows, flipped and at several scales, with the scores averaged."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from ..geometry.windows import Merge, split, windows

Mode = Literal["whole", "slide"]
Look = Callable[[Tensor], list[Tensor]]
"""From images ``(B, 3, H, W)`` to what each head says of every pixel, ``(B, C, H, W)`` a head, as it is averaged."""


@dataclass(frozen=True)
class Inference:
    """How an image is looked at.

    Args:
        mode: The whole image at once, or windows of it.
        window: Height and width of the windows [px]; a smaller image is one window.
        stride: Rows and columns from one window to the next [px].
        flip: Also look at the mirrored image.
        scales: Factors on the image's size; each is one more look.
        window_batch: Windows per forward pass; it changes no result.

    Raises:
        ValueError: A value is out of range.

    Source: DINOv3's evaluation (windows of 512 at stride 341, facebookresearch/dinov3 @ 6876159), and DINOv2's
    multi-scale one (arXiv:2304.07193, section 7.4).
    """

    mode: Mode = "whole"
    window: tuple[int, int] = (512, 512)
    stride: tuple[int, int] = (341, 341)
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    window_batch: int = 8

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"inference is {self.mode!r}; expected one of {', '.join(get_args(Mode))}.")
        if not self.scales or not all(0 < s < float("inf") for s in self.scales):
            raise ValueError(f"scales is {list(self.scales)}; expected at least one factor above 0, as in [1.0].")
        if self.window_batch < 1:
            raise ValueError(f"window_batch is {self.window_batch}; expected at least 1.")
        if min(*self.window, *self.stride) < 1 or any(s > w for s, w in zip(self.stride, self.window, strict=True)):
            raise ValueError(
                f"window is {list(self.window)} and stride {list(self.stride)}; expected at least 1 px, and a stride "
                "of at most the window, or there are gaps."
            )

    def single(self, size: tuple[int, int]) -> bool:
        """Whether an image of this height and width [px] is looked at once, whole and as it is."""
        one_window = self.mode == "whole" or (size[0] <= self.window[0] and size[1] <= self.window[1])
        return one_window and not self.flip and self.scales == (1.0,)

    def described(self) -> dict[str, Any]:
        """What two scores must agree in before they can be compared, as plain data."""
        windows = {"window": list(self.window), "stride": list(self.stride)} if self.mode == "slide" else {}
        return {"inference": self.mode, **windows, "flip_test": self.flip, "scales": list(self.scales)}

    def average(self, image: Tensor, look: Look) -> list[Tensor]:
        """The mean of all looks at an image ``(3, H, W)``, ``(C, H, W)`` for each head."""
        size = (image.shape[1], image.shape[2])
        total: list[Tensor] = []
        looks = 0
        for view, flipped in self._views(image):
            found = self._view(view, look)
            found = [_resized(s.flip(-1) if flipped else s, size) for s in found]
            total = [t + s for t, s in zip(total, found, strict=True)] if total else found
            looks += 1
        return [t / looks for t in total]

    def _views(self, image: Tensor) -> Iterator[tuple[Tensor, bool]]:
        height, width = image.shape[1:]
        for scale in self.scales:
            view = image
            if scale != 1:
                size = (max(1, round(height * scale)), max(1, round(width * scale)))
                view = F.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=scale < 1)[0]
            yield view, False
            if self.flip:
                yield view.flip(-1), True

    def _view(self, image: Tensor, look: Look) -> list[Tensor]:
        if self.mode == "whole":
            return [s[0] for s in look(image[None])]
        size = (image.shape[1], image.shape[2])
        window = (min(self.window[0], size[0]), min(self.window[1], size[1]))  # nothing is padded
        at = windows(size, window, (min(self.stride[0], window[0]), min(self.stride[1], window[1])))
        merges: list[Merge] = []
        for first in range(0, len(at), self.window_batch):
            some = at[first : first + self.window_batch]
            found = look(split(image, some, window))
            merges = merges or [Merge(size, window) for _ in found]
            for merge, part in zip(merges, found, strict=True):
                merge.add(part, some)
        return [merge.result() for merge in merges]


def _resized(scores: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(scores.shape[-2:]) == size:
        return scores
    return F.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]
