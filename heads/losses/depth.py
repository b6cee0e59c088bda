"""Losses of depth. A pixel counts where its label is finite and above 0; the others move neither value nor gradient."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from .alignment import scale_and_shift

_EPS = 1e-3  # added to both depths before the logarithm [m]
_SHIFT_SHARE = 0.15  # of the squared mean beside the variance: lambda = 0.85
_STRIDES = (1, 2, 4, 6)
_OFFSET = 2  # pixels of the strided map between the two whose difference is compared

DepthAlignment = Literal["least_squares", "median"]


def valid_depth(depth: Tensor, max_depth: float = math.inf) -> Tensor:
    """Where there is a reading, of at most ``max_depth`` [m]: bool, of the same shape."""
    return depth.isfinite() & (depth > 0) & (depth <= max_depth)


class SigLoss(nn.Module):
    """Scale-invariant error of the logarithm of depth, over all valid pixels of a batch together.

    ``sqrt(var(g) + 0.15 * mean(g) ** 2)`` with ``g = log(depth + 0.001) - log(target + 0.001)`` and the unbiased
    variance, which is 0 for a single pixel. In the first steps only ``sqrt(0.15) * |mean(g)|``, to find the scale.

    Args:
        max_depth: Readings above it do not count [m].
        warmup_steps: Training steps with the mean alone.

    Attributes:
        steps: Training steps that :meth:`step` has counted; part of the state, so a resumed run goes on from there.

    Source: AdaBins (arXiv:2011.14141); SigLoss of facebookresearch/dinov2 @ b8931f7, whose warm-up counts its calls and
    forgets them in a resumed run, and which gives NaN where no pixel is valid.
    """

    steps: Tensor

    def __init__(self, max_depth: float = math.inf, warmup_steps: int = 100) -> None:
        super().__init__()
        self.max_depth = max_depth
        self.warmup_steps = warmup_steps
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def step(self) -> None:
        """Count a training step, once however many heads have had their loss in it."""
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
    """The root, with a gradient of 0 at 0, where sqrt has none."""
    return torch.where(square > 0, torch.where(square > 0, square, 1).sqrt(), 0)


class GradientLoss(nn.Module):
    """How far the steps of log depth differ from those of the label, down and across, at four strides.

    For each of the strides 1, 2, 4 and 6: the error ``e = log(depth + 0.001) - log(target + 0.001)`` of every stride-th
    pixel, then the sum of ``|e[i] - e[i + 2]|`` along both axes where both pixels are valid, by the number of valid
    pixels of the batch at that stride. The four are added.

    Args:
        max_depth: Readings above it do not count [m].

    Source: MegaDepth (arXiv:1804.00607); GradientLoss of facebookresearch/dinov2 @ b8931f7 as it is meant, and as
    mbanani/probe3d @ a1f1464 has it. DINOv2's own slices batch and channels in place of rows and columns, so that it is
    0 for up to two images, and for more compares different images.
    """

    def __init__(self, max_depth: float = math.inf) -> None:
        super().__init__()
        self.max_depth = max_depth

    def forward(self, depth: Tensor, target: Tensor) -> Tensor:
        """The loss of depth ``(B, 1, H, W)`` [m], above 0; 0 where no two pixels are valid."""
        valid = valid_depth(target, self.max_depth)
        error = torch.log(torch.where(valid, depth, 1) + _EPS) - torch.log(torch.where(valid, target, 1) + _EPS)
        parts = [_steps(error[..., ::s, ::s], valid[..., ::s, ::s]) for s in _STRIDES]
        return torch.stack(parts).sum()


def _steps(error: Tensor, valid: Tensor) -> Tensor:
    """Sum of the differences along both axes by the number of valid pixels."""
    total = error.new_zeros(())
    for dim in (-2, -1):
        count = max(0, error.shape[dim] - _OFFSET)
        both = valid.narrow(dim, 0, count) & valid.narrow(dim, -count, count) if count else valid.narrow(dim, 0, 0)
        first, second = error.narrow(dim, 0, count), error.narrow(dim, error.shape[dim] - count, count)
        total = total + torch.where(both, first - second, 0).abs().sum()
    return total / valid.sum().clamp(min=1)


class ScaleShiftInvariantLoss(nn.Module):
    """Error of relative depth: of inverse depth up to a scale and a shift, which are found for each image.

    ``least_squares``: the prediction is scaled and shifted to the label, and half the mean squared error is taken.
    ``median``: both are shifted by their median and scaled by their mean absolute deviation from it, and half the mean
    absolute error is taken; it is less moved by wrong labels. The mean is over an image's valid pixels, then over the
    images that have some.

    Args:
        alignment: least_squares or median.
        max_depth: Readings above it do not count [m].

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
    """Shifted by the median and scaled by the mean absolute deviation; of equal values all are 0."""
    centred = values - values.median()
    return centred / centred.abs().mean().clamp(min=torch.finfo(values.dtype).tiny)
