"""Decoders of hierarchical networks, for any maps: UPerNet, Segformer's and the semantic FPN."""

from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor, nn

from siglip2_backbone.levels import resample_map
from siglip2_backbone.pyramid import STRIDES

Item = TypeVar("Item")


class PyramidDecoder(nn.Module):
    """A trunk on four maps with 4, 8, 16 and 32 px per cell, dropout, and a 1 x 1 convolution: logits at 4 px.

    Maps of other reductions are resampled to these without parameters. Cells keep their position even where patches of
    14 px or sizes not divisible by 32 make one level end before another: all levels end at the same pixel, and beyond
    the maps their border is repeated. A single map is read four times, as in ViTDet (arXiv:2203.16527).

    Args:
        trunk: A decoder of segmentation_models_pytorch.
        reductions: Pixels per cell of the maps, fine to coarse: four, or one.
        features: Channels of the trunk's output.
        out_channels: Channels of the logits.
        dropout: Share of the trunk's channels that training drops.

    Attributes:
        reduction: Pixels per cell of the logits.

    Raises:
        ValueError: ``dropout`` is out of range.
    """

    def __init__(
        self, trunk: nn.Module, reductions: Sequence[int], features: int, out_channels: int, dropout: float
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; expected 0 to below 1.")
        from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head

        self.reduction = STRIDES[0]
        self.reductions = _four(reductions)
        self.trunk = trunk
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(features, out_channels, kernel_size=1)
        initialize_decoder(self.trunk)
        initialize_head(self.classifier)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Logits ``(B, out_channels, rows, columns)`` with 4 px per cell; rows and columns are multiples of 8."""
        levels = self._levels(_four(maps))
        batch, _, rows, columns = levels[0].shape
        # segmentation_models_pytorch expects an image and a map with 2 px per cell first, but reads only their sizes:
        # expand() gives one element of memory any size
        image = levels[0].new_empty(1).expand(batch, 1, 4 * rows, 4 * columns)
        logits: Tensor = self.classifier(self.dropout(self.trunk([image, image[:, :0], *levels])))
        return logits

    def _levels(self, maps: list[Tensor]) -> list[Tensor]:
        height, width = (min(m.shape[dim] * r for m, r in zip(maps, self.reductions, strict=True)) for dim in (-2, -1))
        coarsest = STRIDES[-1]
        # -(-a // b) rounds up: the common size of all levels, in pixels
        whole = (-(-height // coarsest) * coarsest, -(-width // coarsest) * coarsest)
        return [resample_map(m, r, s, whole) for m, r, s in zip(maps, self.reductions, STRIDES, strict=True)]


def _four(items: Sequence[Item]) -> list[Item]:
    """One item per level; a single item is used for all levels.

    Raises:
        ValueError: The number of items is not four or one.
    """
    if len(items) not in (1, len(STRIDES)):
        raise ValueError(
            f"This decoder reads four layers, or one; got {len(items)}. Choose other layers, as in [2, 5, 8, 11] for "
            "12 blocks."
        )
    return list(items) * (len(STRIDES) // len(items))


def _trunk_channels(channels: Sequence[int], features: int) -> list[int]:
    """Channels by stride as the trunks expect them, from the image to 32 px; they skip the first two.

    Raises:
        ValueError: ``features`` is not positive.
    """
    if features < 1:
        raise ValueError(f"features is {features}; expected at least 1.")
    return [1, 0, *_four(channels)]


class WidthDecoder(PyramidDecoder):
    """A decoder whose trunk is configured by its width alone; subclasses define ``build_trunk``.

    Args:
        channels: Channels of the maps, fine to coarse: four, or one.
        reductions: Pixels per cell of the maps.
        out_channels: Channels of the logits.
        features: Channels of the trunk.
        dropout: Share of channels that training drops.

    Raises:
        ValueError: The number of maps is not four or one, or a number is out of range.
    """

    def __init__(
        self,
        channels: Sequence[int],
        reductions: Sequence[int],
        out_channels: int,
        *,
        features: int = 256,
        dropout: float = 0.0,
    ) -> None:
        trunk = self.build_trunk(_trunk_channels(channels, features), features)
        super().__init__(trunk, reductions, features, out_channels, dropout)

    @staticmethod
    def build_trunk(channels: list[int], features: int) -> nn.Module:
        """The trunk of this width for maps with these channels."""
        raise NotImplementedError


class UPerNetDecoder(WidthDecoder):
    """UPerNet: pyramid pooling on the coarsest map, a feature pyramid, and all levels fused.

    Arguments as in :class:`WidthDecoder`.

    Source: arXiv:1807.10221, through segmentation_models_pytorch.
    """

    @staticmethod
    def build_trunk(channels: list[int], features: int) -> nn.Module:
        """UPerNet's trunk from segmentation_models_pytorch."""
        from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder as Trunk

        trunk: nn.Module = Trunk(channels, encoder_depth=5, decoder_channels=features)
        return trunk

    def forward(self, maps: list[Tensor]) -> Tensor:
        """As :meth:`PyramidDecoder.forward`.

        Raises:
            ValueError: A training batch has one image.
        """
        if self.training and len(maps[0]) == 1:
            raise ValueError(
                "UPerNet normalises one pooled cell per image over the batch, which has one image. Train with a "
                "batch_size of at least 2."
            )
        return super().forward(maps)


class SegformerDecoder(WidthDecoder):
    """Segformer's: a linear layer for each level, and one for all of them together.

    Arguments as in :class:`WidthDecoder`.

    Source: arXiv:2105.15203, through segmentation_models_pytorch.
    """

    @staticmethod
    def build_trunk(channels: list[int], features: int) -> nn.Module:
        """Segformer's trunk from segmentation_models_pytorch."""
        from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder as Trunk

        trunk: nn.Module = Trunk(channels, encoder_depth=5, segmentation_channels=features)
        return trunk


class FPNDecoder(PyramidDecoder):
    """The semantic feature pyramid: a top-down pathway, and the sum of its levels.

    Source: arXiv:1901.02446, through segmentation_models_pytorch.

    Args:
        channels: Channels of the maps, fine to coarse: four, or one.
        reductions: Pixels per cell of the maps.
        out_channels: Channels of the logits.
        pyramid_channels: Channels of the top-down pathway.
        features: Channels of the trunk's output, a multiple of 32.
        dropout: Share of channels that training drops.

    Raises:
        ValueError: The number of maps is not four or one, or a number is out of range.
    """

    def __init__(
        self,
        channels: Sequence[int],
        reductions: Sequence[int],
        out_channels: int,
        *,
        pyramid_channels: int = 256,
        features: int = 128,
        dropout: float = 0.2,
    ) -> None:
        if pyramid_channels < 1 or features % 32:
            raise ValueError(
                f"pyramid_channels is {pyramid_channels} and features {features}; expected at least 1, and a multiple "
                "of 32."
            )
        from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder as Trunk

        trunk = Trunk(
            _trunk_channels(channels, features),
            encoder_depth=5,
            pyramid_channels=pyramid_channels,
            segmentation_channels=features,
            dropout=0.0,  # PyramidDecoder applies it at the same point
        )
        super().__init__(trunk, reductions, features, out_channels, dropout)
