"""Pyramids: four maps with 4, 8, 16 and 32 px per cell around one tower.

A level has ``ceil(H / stride)`` rows; its cell i covers pixels ``[i * stride, (i + 1) * stride)`` for every patch size
of the tower.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from timm.layers import LayerNorm2d
from timm.models import FeatureInfo
from torch import Tensor, nn

from .features import TowerWrapper
from .indices import absolute_indices
from .levels import Size, level_cells, resample_map
from .tower import Siglip2VisionTransformer

STRIDES = (4, 8, 16, 32)
SFP_CHANNELS = 256  # ViTDet's

PyramidKind = Literal["resample", "sfp"]
"""``resample``: :class:`ResampledPyramid`, model names ending in ``_pyramid``. ``sfp``: :class:`SimpleFeaturePyramid`,
model names ending in ``_sfp``."""


torch.fx.wrap("resample_map")  # a leaf of torch.fx graphs: its matrices depend on the image size


class ResampledLevel(nn.Module):
    """One level without parameters.

    Args:
        patch: Side of a cell of the tower's map [px].
        stride: Side of a cell of the level [px].
    """

    def __init__(self, patch: int, stride: int) -> None:
        super().__init__()
        self.patch = patch
        self.stride = stride

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """Resample the tower's map ``(B, D, rows, columns)`` to the level, for an image of ``size`` [px]."""
        return resample_map(x, self.patch, self.stride, size)


class Pyramid(TowerWrapper):
    """A tower that returns a pyramid of maps; base class of both kinds.

    It wraps the tower, and timm's clients can use it like the result of ``features_only=True``. It exports as one graph
    for images whose sides are above 32 px and multiples of the patch size.

    Args:
        model: The tower; it is pruned in place.
        taps: The block that each of the four levels reads.
        levels: The module of each of the four levels, called with the block's map and the size of the image.
        channels: Channels of every level.
        out_indices: Levels to return, in this order, 0 (4 px) to 3 (32 px); negative indices count from the end, an
            int n selects the last n. All four by default. Modules that only other levels need are dropped.
        norm: Apply the tower's final norm to every map.

    Attributes:
        layers: The blocks that are read, in the order of the levels.

    Raises:
        ValueError: ``out_indices`` are not levels.
    """

    kind: ClassVar[PyramidKind]

    def __init__(
        self,
        model: Siglip2VisionTransformer,
        taps: Sequence[int],
        levels: Sequence[nn.Module],
        channels: int,
        out_indices: int | Sequence[int] | None,
        norm: bool,
    ) -> None:
        super().__init__()
        indices = absolute_indices(len(STRIDES), out_indices, unit="level")
        info = [{"num_chs": channels, "reduction": stride, "module": f"levels.{i}"} for i, stride in enumerate(STRIDES)]
        self.feature_info = FeatureInfo(info, tuple(indices))
        self.out_indices = indices
        self.layers = list(dict.fromkeys(taps))
        self.norm = norm
        self._taps = [taps[i] for i in indices]
        model.prune_intermediate_layers(sorted(set(self._taps)), prune_norm=not norm)
        self.model = model
        self.levels = nn.ModuleDict({str(i): levels[i] for i in sorted(indices)})
        self._carry(model)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Levels of normalised images ``(B, C, H, W)``, in the requested order.

        Returns:
            Maps ``(B, channels, ceil(H / stride), ceil(W / stride))``.

        Raises:
            ValueError: The stride of the patch embedding is not the patch size.
        """
        embed = self.model.patch_embed
        if embed.stride() != embed.patch_size:
            raise ValueError(
                f"patch_embed.proj.stride is {embed.stride()} px; a pyramid expects the patch, {embed.patch_size} px, "
                "because it locates its levels by adjacent patches. Set the stride of a plain tower instead."
            )
        size = (x.shape[-2], x.shape[-1])
        blocks = sorted(set(self._taps))
        maps = self.model.forward_intermediates(
            x, indices=blocks, norm=self.norm, stop_early=True, intermediates_only=True
        )
        tapped = dict(zip(blocks, (self.prepare(m, size) for m in maps), strict=True))
        return [self.levels[str(i)](tapped[tap], size) for i, tap in zip(self.out_indices, self._taps, strict=True)]

    def prepare(self, x: Tensor, size: Size) -> Tensor:
        """Process a tapped map ``(B, D, rows, columns)`` once, before the levels read it."""
        return x


class ResampledPyramid(Pyramid):
    """Levels resampled from four blocks, without parameters: with a pretrained tower no weight is untrained.

    Args:
        model: The tower; it is pruned in place.
        out_indices: Levels to return, see :class:`Pyramid`.
        layers: The four blocks that the levels at 4, 8, 16 and 32 px read; spread evenly over the depth by default,
            see :func:`~siglip2_backbone.tap_indices`.
        norm: Apply the tower's final norm to every map.

    Raises:
        ValueError: ``layers`` are not four blocks of the tower, or ``out_indices`` are not levels.
    """

    kind = "resample"

    def __init__(
        self,
        model: Siglip2VisionTransformer,
        out_indices: int | Sequence[int] | None = None,
        *,
        layers: int | Sequence[int] | None = None,
        norm: bool = True,
    ) -> None:
        depth = len(model.blocks)
        taps = absolute_indices(depth, layers, "layers")
        if len(taps) != len(STRIDES):
            raise ValueError(
                f"layers is {layers!r}, which is {len(taps)} of the tower's {depth} blocks; the pyramid reads four, "
                f"one for each of {', '.join(map(str, STRIDES))} px. Pass four, or use sfp, which reads one."
            )
        levels = [ResampledLevel(_patch(model), stride) for stride in STRIDES]
        super().__init__(model, taps, levels, model.embed_dim, out_indices, norm)


class SimpleLevel(nn.Module):
    """One level of ViTDet's pyramid: change the resolution, then two convolutions with norms.

    Args:
        dim: Channels of the tower's map.
        out_channels: Channels of the level.
        stride: Side of a cell of the level [px]; the input map has cells of 16 px.
        device: Where to build it.
        dtype: Floating point type to build it in.
    """

    def __init__(self, dim: int, out_channels: int, stride: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        place = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        if stride == 4:
            layers = [
                nn.ConvTranspose2d(dim, dim // 2, kernel_size=2, stride=2, **place),
                LayerNorm2d(dim // 2, **place),
                nn.GELU(),
                nn.ConvTranspose2d(dim // 2, dim // 4, kernel_size=2, stride=2, **place),
            ]
        elif stride == 8:
            layers = [nn.ConvTranspose2d(dim, dim // 2, kernel_size=2, stride=2, **place)]
        elif stride == 32:
            layers = [nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=True)]
        width = {4: dim // 4, 8: dim // 2}.get(stride, dim)
        self.stride = stride
        self.rescale = nn.Sequential(*layers)
        self.project = nn.Sequential(
            nn.Conv2d(width, out_channels, kernel_size=1, bias=False, **place),
            LayerNorm2d(out_channels, **place),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False, **place),
            LayerNorm2d(out_channels, **place),
        )

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """Turn a map ``(B, D, rows, columns)`` with cells of 16 px into the level of an image of ``size`` [px]."""
        rows, columns = level_cells(size, self.stride)
        x = self.rescale(x)[..., :rows, :columns]  # deconvolution also produces cells outside the image
        level: Tensor = self.project(x)
        return level


class SimpleFeaturePyramid(Pyramid):
    """ViTDet's simple feature pyramid: learned levels from the last map alone.

    The neck is not pretrained: with ``pretrained=True`` only the tower has trained weights, so train the neck. For
    patches other than 16 px the map is resampled to 16 px first (:func:`resample_map`), so that the strides are exact;
    at patch 8 this loses resolution.

    Args:
        model: The tower; it is pruned in place.
        out_indices: Levels to return, see :class:`Pyramid`.
        layers: The one block that all levels read; the last one by default.
        norm: Apply the tower's final norm to its map.
        out_channels: Channels of every level.
        device: Where to build the neck.
        dtype: Floating point type to build the neck in.

    Raises:
        ValueError: ``layers`` is not one block of the tower, or ``out_indices`` are not levels.

    Source: Li et al., arXiv:2203.16527, section 3; facebookresearch/detectron2 @ 0818132, ``modeling/backbone/vit.py``.
    Differences: images need not be multiples of 32 px (cells outside are cropped; the coarsest level rounds up), and
    maps of other patches are resampled.
    """

    kind = "sfp"

    def __init__(
        self,
        model: Siglip2VisionTransformer,
        out_indices: int | Sequence[int] | None = None,
        *,
        layers: int | Sequence[int] | None = None,
        norm: bool = True,
        out_channels: int = SFP_CHANNELS,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        depth = len(model.blocks)
        taps = absolute_indices(depth, 1 if layers is None else layers, "layers")
        if len(taps) != 1:
            raise ValueError(
                f"layers is {layers!r}, which is {len(taps)} blocks; ViTDet's pyramid reads one. Pass one, or leave "
                "layers out for the last."
            )
        if type(out_channels) is not int or out_channels < 1:
            raise ValueError(f"out_channels is {out_channels!r}; expected an integer of at least 1.")
        levels = [SimpleLevel(model.embed_dim, out_channels, stride, device, dtype) for stride in STRIDES]
        super().__init__(model, taps * len(STRIDES), levels, out_channels, out_indices, norm)

    def prepare(self, x: Tensor, size: Size) -> Tensor:
        """Resample the tower's map ``(B, D, rows, columns)`` to cells of 16 px."""
        return resample_map(x, _patch(self.model), 16, size)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's layer groups of the tower, plus the neck as one more group."""
        return super().group_matcher(coarse) | {"neck": r"^levels\."}


PYRAMIDS: dict[PyramidKind, type[ResampledPyramid] | type[SimpleFeaturePyramid]] = {
    cls.kind: cls for cls in (ResampledPyramid, SimpleFeaturePyramid)
}
SUFFIXES: dict[PyramidKind, str] = {"resample": "_pyramid", "sfp": "_sfp"}


def split_suffix(name: str) -> tuple[str, PyramidKind | None]:
    """A model name without the suffix of a pyramid, and the kind of that pyramid.

    A tag is kept: ``siglip2_base_patch16_256_sfp.webli`` gives ``siglip2_base_patch16_256.webli`` and sfp.
    """
    stem, dot, tag = name.partition(".")
    for kind, suffix in SUFFIXES.items():
        if stem.endswith(suffix):
            return stem.removesuffix(suffix) + dot + tag, kind
    return name, None


def _patch(model: Siglip2VisionTransformer) -> int:
    """Side of a patch [px]; patches are square."""
    patch: int = model.patch_embed.patch_size[0]
    return patch
