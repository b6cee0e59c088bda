"""Cross-entropy of upsampled logits that are never held at full size."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..data.classes import IGNORE
from ..geometry.upsampling import Upsampling


@torch.compiler.disable  # type: ignore[untyped-decorator]  # tracing would unroll its loop for each size
def upsampled_cross_entropy(
    logits: Tensor,
    target: Tensor,
    reduction: float,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """``F.cross_entropy(to_pixels(logits, reduction, size), target, ignore_index=255)`` without the upsampled logits.

    Value and gradient come from one pass over bands of pixel rows, in float32 (float64 for float64 logits) even under
    autocast. Memory is that of one band. Where every pixel is ignored, the loss and its gradient are 0.

    Args:
        logits: Logits of the cells ``(B, C, rows, columns)``.
        target: Label map ``(B, H, W)``, integer; 255 is ignored.
        reduction: Pixels per cell.
        class_weights: Weight of each class ``(C,)``, as in ``F.cross_entropy``.
        label_smoothing: Share of the target that is spread over all classes, as in ``F.cross_entropy``.

    Returns:
        The mean over the pixels that are not ignored, weighted by class.

    Raises:
        ValueError: A label is not a class index, or shapes or types do not fit.
    """
    _check(logits, target, class_weights, label_smoothing)
    with_gradient = torch.is_grad_enabled() and logits.requires_grad
    loss: Tensor = _UpsampledCrossEntropy.apply(
        logits, target, reduction, class_weights, label_smoothing, with_gradient
    )
    return loss


class _UpsampledCrossEntropy(torch.autograd.Function):
    """Computes the gradient in the forward pass, from the same bands, and keeps it for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        reduction: float,
        class_weights: Tensor | None,
        label_smoothing: float,
        with_gradient: bool,
    ) -> Tensor:
        cells = logits if logits.dtype == torch.float64 else logits.float()
        weights = cells.new_ones(cells.shape[1]) if class_weights is None else class_weights.to(cells)
        gradient = torch.zeros_like(cells) if with_gradient else None
        with torch.autocast(cells.device.type, enabled=False):
            loss = _forward(cells, target, reduction, weights, label_smoothing, gradient)
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * of_loss).to(ctx.dtype), None, None, None, None, None


def _forward(
    logits: Tensor, target: Tensor, reduction: float, weights: Tensor, smoothing: float, gradient: Tensor | None
) -> Tensor:
    """The loss; adds its gradient to ``gradient``, unless that is None."""
    # the denominator of the mean, known before the first band; 1 where every pixel is ignored
    counts = torch.stack([(weights * _counts(labels, len(weights))).sum() for labels in target])
    total = counts.sum()
    scale = torch.where(total > 0, total, 1).reciprocal()
    upsampling = Upsampling.to_image(logits, reduction, (target.shape[1], target.shape[2]))
    losses = []
    for image, (maps, labels) in enumerate(zip(logits, target, strict=True)):
        for band in upsampling.bands():
            scores = upsampling.band(maps, band)  # a reused buffer, which _band_loss turns into the gradient
            losses.append(_band_loss(scores, labels[band.pixels], weights * scale, smoothing, gradient is not None))
            if gradient is not None:
                upsampling.add_gradient(gradient[image], scores, band)
    return torch.stack(losses).sum()


def _counts(labels: Tensor, classes: int) -> Tensor:
    return torch.bincount(labels[labels != IGNORE].flatten(), minlength=classes)


def _band_loss(scores: Tensor, labels: Tensor, weights: Tensor, smoothing: float, with_gradient: bool) -> Tensor:
    """The summed loss of ``scores`` (rows, C, W); overwrites them, with their gradient if ``with_gradient``.

    Per pixel ``whole * logsumexp(scores) - weight * scores[label] - sum(spread * scores)``, with ``weight`` for the
    label, ``spread`` for every class by label smoothing, and ``whole`` the sum of all these weights.
    """
    spread = weights * (smoothing / len(weights))
    ignored = labels == IGNORE
    index = labels.long().masked_fill(ignored, 0)  # ignored pixels read class 0, with weight 0
    weight = weights[index].masked_fill_(ignored, 0) * (1 - smoothing)  # (rows, W), like all terms below
    index = index.unsqueeze(1)
    scores -= scores.amax(dim=1, keepdim=True)  # against overflow of exp; leaves the loss unchanged
    right = scores.gather(1, index).squeeze(1)
    others = torch.einsum("c,rcw->rw", spread, scores) if smoothing else torch.zeros_like(right)
    total = scores.exp_().sum(dim=1)  # in place: scores now hold the exponentials
    whole = weight + spread.sum() * ~ignored
    loss = (whole * total.log() - weight * right - others * ~ignored).sum()
    if with_gradient:
        scores *= (whole / total).unsqueeze(1)  # whole times softmax
        scores.scatter_add_(1, index, -weight.unsqueeze(1))
        if smoothing:
            scores -= spread.view(-1, 1) * (~ignored).unsqueeze(1)
    return loss


def _check(logits: Tensor, target: Tensor, class_weights: Tensor | None, label_smoothing: float) -> None:
    if logits.ndim != 4 or target.ndim != 3 or len(logits) != len(target) or 0 in (*logits.shape, *target.shape):
        raise ValueError(
            f"logits are {tuple(logits.shape)} and target {tuple(target.shape)}; expected (B, C, rows, columns) and "
            "(B, H, W), with no side of 0."
        )
    if not logits.is_floating_point() or target.is_floating_point() or target.is_complex():
        raise ValueError(f"logits are {logits.dtype} and target {target.dtype}; expected floats and integers.")
    classes = logits.shape[1]
    if class_weights is not None and (tuple(class_weights.shape) != (classes,) or not (class_weights >= 0).all()):
        raise ValueError(
            f"class_weights are {tuple(class_weights.shape)}; expected ({classes},), one for each class, none negative."
        )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; expected 0 to 1.")
    wrong = (target != IGNORE) & ((target < 0) | (target >= classes))
    if wrong.any():
        found = sorted(set(target[wrong].tolist()))
        raise ValueError(
            f"target holds {found[:10]}; expected classes 0 to {classes - 1}, or {IGNORE} to ignore. Check the labels "
            "and the number of classes."
        )
