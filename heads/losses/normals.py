"""Losses of normals. A pixel is valid where its label has a direction; others affect neither value nor gradient."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_COSINE_LIMIT = 1 - 1e-4  # towards 1 the gradient of acos grows without bound


def valid_normals(normal: Tensor) -> Tensor:
    """Where normals ``(..., 3, H, W)`` have a direction: bool ``(..., H, W)``."""
    return normal.isfinite().all(dim=-3) & (normal != 0).any(dim=-3)


class AngularLoss(nn.Module):
    """Mean angle between predicted and true normals [rad] over all valid pixels of a batch together.

    The cosine is clamped to 1 - 0.0001 in magnitude, so a perfect prediction has a loss of 0.0141.

    Source: angular_loss of mbanani/probe3d @ a1f1464.
    """

    def forward(self, normal: Tensor, target: Tensor) -> Tensor:
        """The loss of normals ``(B, 3, H, W)`` of any non-zero length; 0 where no pixel is valid."""
        valid = valid_normals(target)
        return _mean(_angle(_pixels(normal, valid), _pixels(target, valid)))


class UncertaintyLoss(nn.Module):
    """Negative log-likelihood of the angle between predicted and true normal, with a predicted sharpness ``kappa``.

    The mean of ``log(1 + exp(-kappa * pi)) - log(kappa ** 2 + 1) + kappa * angle`` over all valid pixels of a batch
    together, with ``kappa = elu(x) + 1.01`` and x the fourth channel.

    Source: Bae et al. (arXiv:2109.09881); angular_loss of mbanani/probe3d @ a1f1464. The cosine is clamped as in
    :class:`AngularLoss`.
    """

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of normals with their sharpness, ``(B, 4, H, W)``; 0 where no pixel is valid."""
        valid = valid_normals(target)
        found = _pixels(output, valid)
        kappa = F.elu(found[:, 3]) + 1.01
        angle = _angle(found[:, :3], _pixels(target, valid))
        return _mean(F.softplus(-kappa * math.pi) - torch.log(kappa * kappa + 1) + kappa * angle)


def _pixels(maps: Tensor, valid: Tensor) -> Tensor:
    """Valid pixels of ``(B, C, H, W)`` as ``(N, C)``."""
    return maps.movedim(1, -1)[valid]


def _angle(normal: Tensor, target: Tensor) -> Tensor:
    return F.cosine_similarity(normal, target, dim=1).clamp(-_COSINE_LIMIT, _COSINE_LIMIT).acos()


def _mean(losses: Tensor) -> Tensor:
    return losses.sum() / max(1, len(losses))
