"""From a decoder's logits to the depth or normals of the cells."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DepthOutput = Literal["bins", "regression", "relative"]

_FLOOR = 0.1  # added to every bin's weight, so that each has a gradient through the sum


class DepthHead(nn.Module):
    """Depth of the cells from a decoder's logits.

    ``bins``: the average of depths spaced evenly over the range, with the weights ``relu(logit) + 0.1``; this average
    is interpolated later, not the logits. ``regression``: the logit's sigmoid, scaled to the range. ``relative``: the
    logit itself, as inverse depth up to a scale and a shift.

    Source: facebookresearch/dinov2 @ b8931f7 (``eval/depth/models/decode_heads/decode_head.py``: classify with UD bins
    and linear norm; scale_up), after AdaBins (arXiv:2011.14141); MiDaS (arXiv:1907.01341) for the last.

    Args:
        decoder: Decoder with :meth:`logits` output channels.
        output: bins, regression or relative.
        depth_range: Nearest and farthest depth [m].
        bins: Number of depths that are averaged.

    Attributes:
        reduction: Pixels per cell.
    """

    bins: Tensor

    def __init__(
        self, decoder: nn.Module, output: DepthOutput, depth_range: tuple[float, float], bins: int = 256
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.output = output
        self.depth_range = depth_range
        self.reduction = decoder.reduction
        self.register_buffer("bins", torch.linspace(*depth_range, bins), persistent=False)

    @property
    def raw_outputs(self) -> list[nn.Module]:
        """The modules whose outputs must be finite; a depth can be finite where the logit is not."""
        return [self.decoder]

    @staticmethod
    def logits(output: DepthOutput, bins: int = 256) -> int:
        """Number of channels that the decoder must output.

        Raises:
            ValueError: The output is unknown, or there are fewer than two bins.
        """
        if output not in get_args(DepthOutput):
            raise ValueError(f"output is {output!r}; expected one of {', '.join(get_args(DepthOutput))}.")
        if bins < 2:
            raise ValueError(f"bins is {bins}; expected at least 2, one at each end of depth_range.")
        return bins if output == "bins" else 1

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Depth [m], or relative inverse depth, ``(B, 1, rows, columns)``."""
        logits: Tensor = self.decoder(maps)
        if self.output == "relative":
            return logits
        low, high = self.depth_range
        if self.output == "regression":
            return low + (high - low) * logits.sigmoid()
        weights = logits.relu() + _FLOOR
        depth = torch.einsum("bkhw,k->bhw", weights, self.bins.to(weights)) / weights.sum(dim=1)
        return depth[:, None]


class NormalsHead(nn.Module):
    """Normals of the cells from a decoder's logits: the first three channels, normalised to unit length.

    Args:
        decoder: Decoder with three output channels, or four: the last one is the sharpness of a normal, see
            :class:`heads.losses.UncertaintyLoss`.

    Attributes:
        reduction: Pixels per cell.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        self.reduction = decoder.reduction

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Normals and the remaining logits, ``(B, 3 or 4, rows, columns)``."""
        logits: Tensor = self.decoder(maps)
        return torch.cat([F.normalize(logits[:, :3], dim=1), logits[:, 3:]], dim=1)
