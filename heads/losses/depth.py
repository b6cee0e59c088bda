"""Depth losses. A pixel is valid where its label is finite and above 0; others affect neither value nor gradient."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from .alignment import scale_and_shift

_EPS = 1e-3  # added to both depths before the logarithm [m]
_SHIFT_SHARE = 0.15  # weight of the squared mean, added to the variance: lambda = 0.85
_STRIDES = (1, 2, 4, 6)
_OFFSET = 2  # distance between the two compared pixels, in pixels of the strided map

DepthAlignment = Literal["least_squares", "median"]


def valid_depth(depth: Tensor, max_depth: float = math.inf) -> Tensor:
    """Where a label holds a reading of at most ``max_depth`` [m]: bool, of the same shape."""
    return depth.isfinite() & (depth > 0) & (depth <= max_depth)


class SigLoss(nn.Module):
    """Scale-invariant error of log depth, over all valid pixels of a batch together.

    ``sqrt(var(g) + 0.15 * mean(g) ** 2)`` with ``g = log(depth + 0.001) - log(target + 0.001)`` and the unbiased
    variance, which is 0 for a single pixel. The first steps use ``sqrt(0.15) * |mean(g)|`` alone, to find the scale.

    Args:
        max_depth: Readings above it are ignored [m].
        warmup_steps: Training steps with the mean alone.

    Attributes:
        steps: Training steps counted by :meth:`step`; part of the state, so a resumed run continues from there.

    Source: AdaBins (arXiv:2011.14141); SigLoss of facebookresearch/dinov2 @ b8931f7, whose warm-up counts its calls and
    restarts in a resumed run, and which returns NaN where no pixel is valid.
    """

    steps: Tensor

    def __init__(self, max_depth: float = math.inf, warmup_steps: int = 100) -> None:
        super().__init__()
        self.max_depth = max_depth
        self.warmup_steps = warmup_steps
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def step(self) -> None:
        """Count a training step, once for all heads that compute their loss in it."""
        self.steps += 1

    def forward(self, depth: Tensor, target: Tensor) -> Tensor:
        """The loss of depth ``(B, 1, H, W)`` [m], above 0; 0 where no pixel is valid."""
        valid = valid_depth(target, self.max_depth)
        g = torch.log(depth[valid] + _EPS) - torch.log(target[valid] + _EPS)
        if len(g) == 0:
            return g.sum()
        mean = g.mean()
        if self.steps < self.warmup_steps:
            return math.sqrt(_SHIFT_SHARE) * mean.abs()
        variance = g.var() if len(g) > 1 else g.new_zeros(())
        return _root(variance + _SHIFT_SHARE * mean * mean)


def _root(square: Tensor) -> Tensor:
    """The square root, with a gradient of 0 at 0, where that of sqrt is infinite."""
    # the inner where keeps 0 out of sqrt: its infinite gradient times 0 would be NaN
    return torch.where(square > 0, torch.where(square > 0, square, 1).sqrt(), 0)


class GradientLoss(nn.Module):
    """Difference between the gradients of predicted and true log depth, along both axes, at four strides.

    For each of the strides 1, 2, 4 and 6: the error ``e = log(depth + 0.001) - log(target + 0.001)`` of every stride-th
    pixel, then the sum of ``|e[i] - e[i + 2]|`` along both axes where both pixels are valid, divided by the number of
    valid pixels of the batch at that stride. The four terms are added.

    Args:
        max_depth: Readings above it are ignored [m].

    Source: MegaDepth (arXiv:1804.00607); GradientLoss of facebookresearch/dinov2 @ b8931f7 as intended there, and as
    implemented in mbanani/probe3d @ a1f1464. DINOv2's own code slices batch and channels instead of rows and columns,
    so it is 0 for up to two images and compares different images for more.
    """

    def __init__(self, max_depth: float = math.inf) -> None:
        super().__init__()
        self.max_depth = max_depth

    def forward(self, depth: Tensor, target: Tensor) -> Tensor:
        """The loss of depth ``(B, 1, H, W)`` [m], above 0; 0 without a pair of valid pixels."""
        valid = valid_depth(target, self.max_depth)
        # 1 in place of invalid values, whose logarithm could be NaN and spoil the gradient
        error = torch.log(torch.where(valid, depth, 1) + _EPS) - torch.log(torch.where(valid, target, 1) + _EPS)
        parts = [_steps(error[..., ::s, ::s], valid[..., ::s, ::s]) for s in _STRIDES]
        return torch.stack(parts).sum()


def _steps(error: Tensor, valid: Tensor) -> Tensor:
    """Sum of the differences along both axes, divided by the number of valid pixels."""
    total = error.new_zeros(())
    for dim in (-2, -1):
        count = max(0, error.shape[dim] - _OFFSET)
        both = valid.narrow(dim, 0, count) & valid.narrow(dim, -count, count) if count else valid.narrow(dim, 0, 0)
        first, second = error.narrow(dim, 0, count), error.narrow(dim, error.shape[dim] - count, count)
        total = total + torch.where(both, first - second, 0).abs().sum()
    return total / valid.sum().clamp(min=1)


class ScaleShiftInvariantLoss(nn.Module):
    """Error of relative depth: inverse depth up to a scale and a shift, which are fitted for each image.

    ``least_squares``: half the mean squared error after the prediction is scaled and shifted to the label.
    ``median``: half the mean absolute error after both are shifted by their median and scaled by their mean absolute
    deviation from it, which is more robust to wrong labels. The mean is over an image's valid pixels, then over the
    images that have any.

    Args:
        alignment: least_squares or median.
        max_depth: Readings above it are ignored [m].

    Raises:
        ValueError: The alignment is unknown.

    Source: MiDaS (arXiv:1907.01341, equations 3 to 6), without its trimming and its gradient term.
    """

    def __init__(self, alignment: DepthAlignment = "least_squares", max_depth: float = math.inf) -> None:
        super().__init__()
        if alignment not in ("least_squares", "median"):
            raise ValueError(f"alignment is {alignment!r}; expected least_squares or median.")
        self.alignment = alignment
        self.max_depth = max_depth

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of relative inverse depth ``(B, 1, H, W)`` against depth [m]; 0 where no pixel is valid."""
        valid = valid_depth(target, self.max_depth)
        losses = [
            self._of_image(p[v], 1 / t[v]) for p, t, v in zip(prediction, target, valid, strict=True) if bool(v.any())
        ]
        return torch.stack(losses).mean() if losses else prediction[valid].sum()

    def _of_image(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.alignment == "median":
            return 0.5 * (_normalised(prediction) - _normalised(target)).abs().mean()
        scale, shift = scale_and_shift(prediction, target)
        return 0.5 * (scale * prediction + shift - target).square().mean()


def _normalised(values: Tensor) -> Tensor:
    """Shifted by the median and scaled by the mean absolute deviation; equal values become 0."""
    centred = values - values.median()
    return centred / centred.abs().mean().clamp(min=torch.finfo(values.dtype).tiny)
