"""Dense features as a picture: their first three principal components as red, green and blue."""

from collections.abc import Sequence

import torch
from torch import Tensor

_OUTLIER = 5.0  # robust standard deviations of the token norm


def pca_colours(maps: Sequence[Tensor]) -> list[Tensor]:
    """First three principal components of all maps together, each component scaled to [0, 1].

    Tokens whose norm is far from the median (more than 5 x 1.4826 x the median deviation) are left out of the fit:
    SigLIP 2 has a few outlier tokens that would dominate the first component. Colours are clipped at the 1st and 99th
    percentile.

    Args:
        maps: Feature maps ``(D, rows, columns)`` with the same D; rows and columns may differ.

    Returns:
        Colours ``(3, rows, columns)`` in [0, 1], one for each map.

    Raises:
        ValueError: There are fewer than three channels, or a value is not finite.
    """
    tokens = torch.cat([m.flatten(1).T for m in maps]).double()  # (N, D)
    if tokens.shape[1] < 3 or not tokens.isfinite().all():
        raise ValueError(
            f"Feature maps have {tokens.shape[1]} channels, or non-finite values; expected at least 3 channels."
        )
    usual = _usual(tokens)
    mean = usual.mean(dim=0)
    components = _components(usual - mean)
    projected = (tokens - mean) @ components
    low, high = torch.quantile((usual - mean) @ components, torch.tensor([0.01, 0.99]).to(tokens), dim=0)
    colours = ((projected - low) / (high - low).clamp(min=torch.finfo(torch.float64).tiny)).clamp(0, 1).float()
    sizes = [m.shape[1] * m.shape[2] for m in maps]
    return [c.T.reshape(3, *m.shape[1:]) for c, m in zip(colours.split(sizes), maps, strict=True)]


def _usual(tokens: Tensor) -> Tensor:
    """Leave out the tokens with an outlying norm."""
    # 1.4826 x the median absolute deviation estimates the standard deviation, robustly to outliers
    deviation = (tokens.norm(dim=1) - tokens.norm(dim=1).median()).abs()
    limit = _OUTLIER * 1.4826 * deviation.median()
    return tokens[deviation <= limit] if limit > 0 else tokens


def _components(centred: Tensor) -> Tensor:
    """First three eigenvectors ``(D, 3)`` of the covariance, signs fixed so that the largest entry is positive."""
    vectors = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :3]  # eigh sorts in ascending order
    largest = vectors.abs().argmax(dim=0, keepdim=True)
    fixed: Tensor = vectors * vectors.gather(0, largest).sign()
    return fixed
