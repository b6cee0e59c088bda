"""The linear probe."""

from collections.abc import Sequence

from torch import Tensor, nn


class LinearDecoder(nn.Module):
    """BatchNorm, then a 1 x 1 convolution, on one map.

    Source: BNHead of facebookresearch/dinov2 @ b8931f7 (``eval/segmentation/models/decode_heads/linear_head.py``), with
    the initialisation N(0, 0.01) of DINOv3's and without its dropout of 0.1.

    Args:
        channels: Channels of the maps; one map.
        reductions: Pixels per cell of the maps.
        out_channels: Channels of the logits.

    Attributes:
        reduction: Pixels per cell of the logits.

    Raises:
        ValueError: There is not exactly one map.
    """

    def __init__(self, channels: Sequence[int], reductions: Sequence[int], out_channels: int) -> None:
        super().__init__()
        if len(channels) != 1:
            raise ValueError(
                f"The linear decoder reads one layer, got {len(channels)}; set layers to one block, as in [-1]."
            )
        self.reduction = reductions[0]
        self.norm = nn.BatchNorm2d(channels[0])
        self.classifier = nn.Conv2d(channels[0], out_channels, kernel_size=1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        self.classifier.bias.data.zero_()  # type: ignore[union-attr]  # Conv2d has one by default

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Logits ``(B, out_channels, rows, columns)``."""
        logits: Tensor = self.classifier(self.norm(maps[0]))
        return logits
