"""From a backbone's maps to the levels that torchvision's detectors read."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

Extra = Literal["pool", "convs"]


class LevelNeck(nn.Module):
    """Maps of any channels to levels of one width, and the coarser levels that a detector adds to them.

    Several maps that all have ``features`` channels, as in ViTDet's pyramid, are used as levels directly. All others go
    through a feature pyramid network with batch norms. Unlike layer norms, these remove what all cells of a map have in
    common, which in a transformer can be most of the signal. The neck has ``out_channels`` and returns an ordered dict,
    as torchvision's detectors expect of a backbone.

    Source: arXiv:1612.03144 through torchvision, with the norms of its newer detectors (fasterrcnn_resnet50_fpn_v2).

    Args:
        channels: Channels of the maps.
        reductions: Pixels per cell of the maps, from fine to coarse.
        features: Channels of the levels.
        extra: Levels after the coarsest map, each with twice the pixels per cell: one subsampled level (pool, of the
            R-CNNs) or two convolutional levels (convs, P6 and P7 of RetinaNet and FCOS).
        min_reduction: Maps finer than this are left out, except the coarsest one.

    Attributes:
        reductions: Pixels per cell of all levels.
        unread: Indices of the maps that are left out.
        names: Keys of the levels that come from maps, without those of ``extra``.

    Raises:
        ValueError: The reductions do not rise, ``extra`` is unknown, or ``features`` is not positive.
    """

    def __init__(
        self,
        channels: Sequence[int],
        reductions: Sequence[int],
        *,
        features: int = 256,
        extra: Extra = "pool",
        min_reduction: int = 1,
    ) -> None:
        super().__init__()
        if not reductions or sorted(set(reductions)) != list(reductions):
            raise ValueError(
                f"The detector reads maps from fine to coarse, got the reductions {list(reductions)}. Read one layer, "
                "or a pyramid: pyramid='resample' or 'sfp'."
            )
        if features < 1 or extra not in get_args(Extra):
            raise ValueError(f"features is {features}, extra {extra!r}; expected at least 1, and pool or convs.")
        last = len(reductions) - 1
        self.kept = [i for i, r in enumerate(reductions) if r >= min_reduction or i == last]
        self.unread = [i for i in range(last) if i not in self.kept]
        self.names = [str(i) for i in range(len(self.kept))]
        widths = [channels[i] for i in self.kept]
        self.fpn = None
        if len(widths) == 1 or set(widths) != {features}:
            self.fpn = FeaturePyramidNetwork(widths, features, norm_layer=nn.BatchNorm2d)
        self.extra = LastLevelMaxPool() if extra == "pool" else LastLevelP6P7(features, features)
        added = (2,) if extra == "pool" else (2, 4)
        self.reductions = [*(reductions[i] for i in self.kept), *(factor * reductions[last] for factor in added)]
        self.out_channels = features

    def forward(self, maps: list[Tensor]) -> "OrderedDict[str, Tensor]":
        """Levels ``(B, features, rows, columns)`` from fine to coarse."""
        levels = OrderedDict(zip(self.names, (maps[i] for i in self.kept), strict=True))
        if self.fpn is not None:
            levels = self.fpn(levels)
        values, names = self.extra(list(levels.values()), list(levels.values()), list(self.names))
        return OrderedDict(zip(names, values, strict=True))
