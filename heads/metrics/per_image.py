"""Scores that are computed per image and then averaged."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class PerImageMetric(Metric):
    """Keeps a few float64 numbers per image, so that their mean does not depend on how the images are distributed.

    The sums are exact to the last bit (``math.fsum``): several processes give the same result as one.

    Args:
        columns: Numbers per image.
        options: Options of ``torchmetrics.Metric``.

    Attributes:
        excluded: Images without a valid pixel; no mean includes them.
    """

    full_state_update = False
    values: Any
    excluded: Tensor

    def __init__(self, columns: int, **options: Any) -> None:
        super().__init__(**options)
        self.columns = columns
        self.add_state("values", [], dist_reduce_fx="cat")
        self.add_state("excluded", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def _add(self, numbers: Sequence[Tensor] | None) -> None:
        """Keep an image's numbers; ``None`` for one without a valid pixel."""
        if numbers is None:
            self.excluded += 1
        else:
            self.values.append(torch.stack([n.double() for n in numbers]))

    def _counts(self) -> dict[str, Tensor]:
        return {"images": torch.tensor(len(self._rows())), "excluded": self.excluded}

    def _rows(self) -> list[list[float]]:
        """The numbers of each image, one row per image."""
        if len(self.values) == 0:
            return []
        rows: list[list[float]] = dim_zero_cat(self.values).view(-1, self.columns).tolist()
        return rows


def mean(values: Sequence[float]) -> Tensor:
    """Mean in float64, from the exact sum; NaN without values."""
    return torch.tensor(math.fsum(values) / len(values) if values else math.nan, dtype=torch.float64)
