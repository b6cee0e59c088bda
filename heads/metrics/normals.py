"""Scores of surface normals: per image and then averaged, and pooled over all pixels."""

import math
from typing import Any

import torch
from torch import Tensor

from ..losses import valid_normals
from .per_image import PerImageMetric, mean

LIMITS = (11.25, 22.5, 30.0)  # degrees
_BINS = 2**18  # of the histogram of angles: 0.0007 degrees each
NORMALS_SCORES = ("mean", "median", "RMSE", *(f"within_{limit:g}" for limit in LIMITS))
_COLUMNS = 4 + len(LIMITS)  # per image: valid pixels, sum and sum of squares of the angles, their median, hits


class NormalsMetrics(PerImageMetric):
    """Angles between predicted and true normals [degrees]: mean, median, RMSE, and shares below 11.25, 22.5 and 30.

    Scores without a prefix are computed per image and averaged, as in Probe3D, TIPS and SigLIP 2; those with
    ``pooled_`` are over all valid pixels together, as in the classic tables. All are exact except the pooled median,
    which comes from a histogram and is accurate to 0.0004 degrees.

    Source: mbanani/probe3d @ a1f1464 (per image); Fouhey et al., ICCV 2013 (pooled).
    """

    histogram: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(_COLUMNS, **options)
        self.add_state("histogram", torch.zeros(_BINS, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count an image.

        Args:
            prediction: Normals of any length, ``(3, H, W)``; one without a direction counts as 90 degrees off.
            target: Normals ``(3, H, W)``; those without a direction do not count.

        Raises:
            ValueError: The two differ in size.
        """
        if prediction.ndim != 3 or len(prediction) != 3 or prediction.shape != target.shape:
            raise ValueError(
                f"The prediction is {tuple(prediction.shape)}, its label {tuple(target.shape)}; expected equal sizes, "
                "(3, H, W)."
            )
        valid = valid_normals(target)
        if not valid.any():
            self._add(None)
            return
        found = angles(prediction[:, valid], target[:, valid])
        hits = [(found < limit).sum() for limit in LIMITS]
        count = torch.tensor(found.numel(), device=found.device)
        self._add([count, found.sum(), found.square().sum(), _median(found), *hits])
        bins = (found * (_BINS / 180)).long().clamp(max=_BINS - 1)
        self.histogram += torch.bincount(bins, minlength=_BINS)

    def compute(self) -> dict[str, Tensor]:
        """The scores in float64 (NaN without images), and the numbers of ``images`` counted and ``excluded``."""
        rows = self._rows()
        images = [_scores(*row) for row in rows]
        pooled = _scores(*(math.fsum(column) for column in zip(*rows, strict=True))) if rows else {}
        pooled |= {"median": self._pooled_median()} if rows else {}
        scores = {name: mean([image[name] for image in images]) for name in NORMALS_SCORES}
        return scores | {f"pooled_{n}": mean([pooled[n]] if rows else []) for n in NORMALS_SCORES} | self._counts()

    def _pooled_median(self) -> float:
        """Mean of the centres of the bins that hold the two middle angles."""
        below = self.histogram.cumsum(0)
        total = int(below[-1])
        places = torch.tensor([(total + 1) // 2, total // 2 + 1], device=below.device)
        return float((torch.searchsorted(below, places).double() + 0.5).mean()) * 180 / _BINS


def angles(prediction: Tensor, target: Tensor) -> Tensor:
    """Angles between vectors ``(3, N)`` in degrees, float64 ``(N,)``.

    Computed by atan2: acos gives 1e-6 degrees for equal vectors and resolves no smaller angle.
    """
    a, b = prediction.double(), target.double()
    found = torch.rad2deg(torch.atan2(torch.linalg.cross(a, b, dim=0).norm(dim=0), (a * b).sum(dim=0)))
    return torch.where(valid_normals(a[..., None])[..., 0], found, 90.0)


def _median(values: Tensor) -> Tensor:
    """The median; for an even count the mean of the two middle values, where torch returns the lower one."""
    count = values.numel()
    return (values.kthvalue((count + 1) // 2).values + values.kthvalue(count // 2 + 1).values) / 2


def _scores(count: float, total: float, squares: float, median: float, *hits: float) -> dict[str, float]:
    """Scores from an image's numbers, or from their sums over all images (except the median)."""
    values = (total / count, median, (squares / count) ** 0.5, *(hit / count for hit in hits))
    return dict(zip(NORMALS_SCORES, values, strict=True))
