"""Least-squares scale and shift that align relative depth with metres, one image at a time."""

import torch
from torch import Tensor


def scale_and_shift(prediction: Tensor, target: Tensor, *, shift: bool = True) -> tuple[Tensor, Tensor]:
    """The scale and shift that minimise ``sum((scale * prediction + shift - target) ** 2)``.

    Where all predictions are equal, the scale is 0 and the shift is the targets' mean, which is also a minimum.

    Args:
        prediction: Values of an image's valid pixels, ``(N,)``, N at least 1.
        target: Their ground truth, ``(N,)``.
        shift: Fit a shift; otherwise the shift is 0.

    Returns:
        Scale and shift, as 0-dimensional tensors.

    Source: MiDaS (arXiv:1907.01341, equation 4), in centred form, which loses fewer digits than the normal equations.
    """
    middle, aim = (prediction.mean(), target.mean()) if shift else (prediction.new_zeros(()), target.new_zeros(()))
    centred = prediction - middle
    spread = (centred * centred).sum()
    known = spread > 0
    # the inner where keeps 0 / 0, and its NaN gradient, out of the outer one
    scale = torch.where(known, (centred * (target - aim)).sum() / torch.where(known, spread, 1), 0)
    return scale, aim - scale * middle
