"""Test-time augmentation: an image whole or in sliding windows, mirrored and at several scales, averaged."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from ..geometry.windows import Merge, windows
from .views import View, scaled

Inference = Literal["whole", "slide"]
Predict = Callable[[View], list[Tensor]]
"""From a view of one image to each head's scores at its pixels, ``(N, C, H, W)`` a head, as they are averaged."""


@dataclass(frozen=True)
class TestTimeAugmentation:
    """The views of a test image whose scores are averaged.

    Args:
        mode: The whole image at once, or windows of it.
        window: Height and width of the windows [px]; a smaller image is one window.
        stride: Rows and columns from one window to the next [px].
        flip: Also average with the mirrored image.
        scales: Factors on the image's size; each adds a view.
        window_batch: Windows per forward pass; it changes no result.

    Raises:
        ValueError: A value is out of range.

    Source: DINOv3's evaluation (windows of 512 at stride 341, facebookresearch/dinov3 @ 6876159), and DINOv2's
    multi-scale one (arXiv:2304.07193, section 7.4).
    """

    __test__ = False  # pytest takes every class whose name begins with Test for one of its own

    mode: Inference = "whole"
    window: tuple[int, int] = (512, 512)
    stride: tuple[int, int] = (341, 341)
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    window_batch: int = 8

    def __post_init__(self) -> None:
        if self.mode not in get_args(Inference):
            raise ValueError(f"inference is {self.mode!r}; expected one of {', '.join(get_args(Inference))}.")
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
        """Whether an image of this height and width [px] has one view, the whole image as it is."""
        one_window = self.mode == "whole" or (size[0] <= self.window[0] and size[1] <= self.window[1])
        return one_window and not self.flip and self.scales == (1.0,)

    def described(self) -> dict[str, Any]:
        """What two scores must agree in before they can be compared, as plain data."""
        windows = {"window": list(self.window), "stride": list(self.stride)} if self.mode == "slide" else {}
        return {"inference": self.mode, **windows, "flip_test": self.flip, "scales": list(self.scales)}

    def average(self, image: int, size: tuple[int, int], predict: Predict) -> list[Tensor]:
        """The mean over all views of an image, ``(C, H, W)`` for each head.

        Args:
            image: Number of the image in its batch.
            size: Its height and width [px].
            predict: Gives each head's scores at the pixels of a view.
        """
        total: list[Tensor] = []
        count = 0
        for view in self._views(image):
            scores = self._merged(view, scaled(size, view.scale) if view.scale != 1 else size, predict)
            scores = [_resized(s.flip(-1) if view.mirrored else s, size) for s in scores]
            total = [t + s for t, s in zip(total, scores, strict=True)] if total else scores
            count += 1
        return [t / count for t in total]

    def _views(self, image: int) -> Iterator[View]:
        for scale in self.scales:
            yield View(image, scale)
            if self.flip:
                yield View(image, scale, mirrored=True)

    def _merged(self, view: View, size: tuple[int, int], predict: Predict) -> list[Tensor]:
        """Scores of a view, from its windows where there are windows."""
        if self.mode == "whole":
            return [s[0] for s in predict(view)]
        window = (min(self.window[0], size[0]), min(self.window[1], size[1]))  # windows are not padded
        at = windows(size, window, (min(self.stride[0], window[0]), min(self.stride[1], window[1])))
        merges: list[Merge] = []
        for first in range(0, len(at), self.window_batch):
            some = at[first : first + self.window_batch]
            scores = predict(replace(view, window=window, at=some))
            merges = merges or [Merge(size, window) for _ in scores]
            for merge, part in zip(merges, scores, strict=True):
                merge.add(part, some)
        return [merge.result() for merge in merges]


def _resized(scores: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(scores.shape[-2:]) == size:
        return scores
    return F.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]
