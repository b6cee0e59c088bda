"""The linear probe on one or several layers."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cells import finer


class LinearDecoder(nn.Module):
    """Dropout, BatchNorm, then a 1 x 1 convolution, on the concatenated maps.

    Source: BNHead of facebookresearch/dinov2 @ b8931f7 (``eval/segmentation/models/decode_heads/linear_head.py``), with
    the initialisation N(0, 0.01) of DINOv3, whose dropout is 0.1. Depth with ``upsample=4`` and no BatchNorm is
    DINOv2's (``eval/depth/models/decode_heads/linear_head.py``, whose norm is commented out).

    Args:
        channels: Channels of the maps.
        reductions: Pixels per cell of the maps, the same for all.
        out_channels: Channels of the logits.
        dropout: Share of the channels that training drops.
        batch_norm: Normalise the channels.
        upsample: Factor by which the features are upsampled bilinearly before the convolution.

    Attributes:
        reduction: Pixels per cell of the logits.

    Raises:
        ValueError: The maps' reductions differ, or a number is out of range.
    """

    def __init__(
        self,
        channels: Sequence[int],
        reductions: Sequence[int],
        out_channels: int,
        *,
        dropout: float = 0.0,
        batch_norm: bool = True,
        upsample: int = 1,
    ) -> None:
        super().__init__()
        if len(set(reductions)) != 1:
            raise ValueError(
                f"The linear decoder reads layers of one reduction, got {list(reductions)}; choose other layers."
            )
        self.reduction = finer(reductions[0], upsample)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; expected 0 to below 1.")
        self.upsample = upsample
        self.dropout = nn.Dropout2d(dropout)
        self.norm = nn.BatchNorm2d(sum(channels)) if batch_norm else nn.Identity()
        self.classifier = nn.Conv2d(sum(channels), out_channels, kernel_size=1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        self.classifier.bias.data.zero_()  # type: ignore[union-attr]  # Conv2d has a bias by default

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Logits ``(B, out_channels, rows, columns)``, with ``upsample`` times the rows and columns of the maps."""
        x = self.norm(self.dropout(torch.cat(maps, dim=1)))
        if self.upsample > 1:
            x = F.interpolate(x, scale_factor=self.upsample, mode="bilinear", align_corners=False)
        logits: Tensor = self.classifier(x)
        return logits
