"""The DPT decoder: turns four maps of one resolution into a pyramid and fuses it from coarse to fine."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .cells import finer

_STAGES = 4


class DPTDecoder(nn.Module):
    """Reassembly, fusion and two convolutions: logits at an eighth of the maps' reduction (2 px for patches of 16).

    A single layer is read four times, as in Perception Encoder (arXiv:2504.13181).

    Source: DPT (arXiv:2103.13413), with the trunk of facebookresearch/dinov2 @ b8931f7 and of google-deepmind/tips @
    4db271d. Two things differ. There is no readout: a pooled token is concatenated to the maps and goes through the
    first convolution like any other channel. Each fusion upsamples to the size of the next map, where theirs doubles
    and resizes that map; both agree for maps with an even number of rows and columns, and cells keep their position for
    others. The output is TIPS's (3 x 3 and 1 x 1 convolution) with DINOv2's ReLU between the two.

    Args:
        channels: Channels of the maps: four, or one.
        reductions: Pixels per cell of the maps, the same for all.
        out_channels: Channels of the logits.
        features: Channels of the fusion.
        widths: Channels of the four maps of the pyramid, fine to coarse; an eighth, a quarter, a half and all of the
            last map's channels by default.

    Attributes:
        reduction: Pixels per cell of the logits.

    Raises:
        ValueError: The number of maps is not four or one, their reductions differ, or a width is not positive.
    """

    def __init__(
        self,
        channels: Sequence[int],
        reductions: Sequence[int],
        out_channels: int,
        *,
        features: int = 256,
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if len(channels) not in (1, _STAGES) or len(set(reductions)) != 1:
            raise ValueError(
                f"The dpt decoder reads four layers of one reduction, or one; got {len(channels)} with the reductions "
                f"{list(reductions)}. Choose other layers, as in [2, 5, 8, 11] for 12 blocks."
            )
        channels = [channels[i % len(channels)] for i in range(_STAGES)]
        widths = [max(1, channels[-1] // part) for part in (8, 4, 2, 1)] if widths is None else list(widths)
        if len(widths) != _STAGES or min(*widths, features) < 1:
            raise ValueError(f"widths are {widths} and features {features}; expected four widths, all at least 1.")
        self.reduction = finer(reductions[0], 2 * _STAGES)
        self.reassemble = nn.ModuleList(
            _reassemble(c, w, i) for i, (c, w) in enumerate(zip(channels, widths, strict=True))
        )
        self.convs = nn.ModuleList(nn.Conv2d(w, features, 3, padding=1, bias=False) for w in widths)
        self.fusion = nn.ModuleList(Fusion(features, alone=i == _STAGES - 1) for i in range(_STAGES))
        self.project = nn.Conv2d(features, features, 3, padding=1)
        self.classifier = nn.Conv2d(features, out_channels, kernel_size=1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Logits ``(B, out_channels, 8 x rows, 8 x columns)``."""
        maps = [maps[i % len(maps)] for i in range(_STAGES)]
        pyramid = [conv(part(m)) for conv, part, m in zip(self.convs, self.reassemble, maps, strict=True)]
        rows, columns = pyramid[0].shape[-2:]
        sizes = [(2 * rows, 2 * columns), *(tuple(level.shape[-2:]) for level in pyramid[:-1])]
        x: Tensor | None = None
        for level, fusion, size in zip(pyramid[::-1], list(self.fusion)[::-1], sizes[::-1], strict=True):
            x = fusion(x, level, size)
        logits: Tensor = self.classifier(F.relu(self.project(x)))
        return logits


def _reassemble(channels: int, width: int, stage: int) -> nn.Sequential:
    """Change the width, and scale the resolution by 4, 2, 1 or 1/2."""
    resize = (
        nn.ConvTranspose2d(width, width, kernel_size=4, stride=4),
        nn.ConvTranspose2d(width, width, kernel_size=2, stride=2),
        nn.Identity(),
        nn.Conv2d(width, width, kernel_size=3, stride=2, padding=1),
    )[stage]
    return nn.Sequential(nn.Conv2d(channels, width, kernel_size=1), resize)


class Fusion(nn.Module):
    """Add a finer map to the fused coarser ones, and upsample.

    Args:
        features: Channels.
        alone: Whether this is the coarsest map, with no coarser one to add to.
    """

    def __init__(self, features: int, *, alone: bool) -> None:
        super().__init__()
        self.of_level = None if alone else ResidualUnit(features)
        self.of_sum = ResidualUnit(features)
        self.project = nn.Conv2d(features, features, kernel_size=1)

    def forward(self, coarser: Tensor | None, level: Tensor, size: tuple[int, int]) -> Tensor:
        """The fused map at ``size`` (rows, columns)."""
        x = level if coarser is None or self.of_level is None else coarser + self.of_level(level)
        x = F.interpolate(self.of_sum(x), size=size, mode="bilinear", align_corners=True)
        fused: Tensor = self.project(x)
        return fused


class ResidualUnit(nn.Module):
    """Two ReLUs, each before a 3 x 3 convolution, added to the input.

    Args:
        features: Channels.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=1, bias=False)
        self.second = nn.Conv2d(features, features, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """A map of the same shape."""
        added: Tensor = x + self.second(F.relu(self.first(F.relu(x))))
        return added
