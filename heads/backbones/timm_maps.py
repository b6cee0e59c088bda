"""Feature maps of any other timm model, and the lookup of a backbone by name."""

import difflib
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import timm
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from siglip2_backbone import VARIANTS, create_backbone
from siglip2_backbone.checkpoints import variant_of
from siglip2_backbone.checkpoints.sources import open_files, without_scheme
from siglip2_backbone.features import in_order_asked
from siglip2_backbone.hub import asked_once
from siglip2_backbone.indices import absolute_indices
from siglip2_backbone.names import pyramid_of
from siglip2_backbone.preprocess import pad_to_multiple
from siglip2_backbone.pyramid import PyramidKind
from siglip2_backbone.variants import by_hub_id


class OtherMaps(FeatureGetterNet):
    """Feature maps of any other timm model, for images of any size that the model accepts.

    Unlike timm's wrapper it keeps the requested order, and returns exactly the cells that cover the image.

    Args:
        model: The model; it is pruned in place.
        layers: Blocks or stages to return, in this order.
        norm: Apply the final norm, if the model is a plain transformer.

    Raises:
        ValueError: The model has no such layers.
    """

    def __init__(self, model: nn.Module, layers: Sequence[int], *, norm: bool) -> None:
        indices = absolute_indices(len(model.feature_info), layers)  # type: ignore[arg-type]  # a list, or like one
        super().__init__(model, out_indices=indices, norm=norm and hasattr(model, "num_prefix_tokens"))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps ``(B, C, ceil(H / r), ceil(W / r))`` of normalised images ``(B, 3, H, W)``.

        Raises:
            ValueError: The model does not accept images of this size.
        """
        height, width = x.shape[-2:]
        reductions = self.feature_info.reduction()
        try:
            maps = super().forward(pad_to_multiple(x, max(reductions)))
        except AssertionError as error:  # raised by timm's models of one fixed size
            raise ValueError(
                f"{type(self.model).__name__} refuses images of {height} x {width} px: {error} Set img_size to the "
                "model's own size."
            ) from error
        ordered = in_order_asked(maps, self.out_indices)
        return [m[..., : -(-height // r), : -(-width // r)] for m, r in zip(ordered, reductions, strict=True)]


def build_backbone(
    backbone: str,
    layers: list[int] | None,
    norm: bool,
    pooled: bool,
    pyramid: PyramidKind | None,
    pretrained: bool,
    tower_args: dict[str, Any],
) -> Any:
    """Build the model behind a name; arguments as in :class:`Extractor`."""
    by_timm = _for_timm(backbone)
    source, kind = pyramid_of(backbone, pyramid)
    stages = [-1] if layers is None else layers
    if not by_timm and _is_siglip2(str(source)):
        more = tower_args | ({"layers": layers} if kind else {"out_indices": stages})
        return create_backbone(source, norm=norm, pooled=pooled, pyramid=kind, pretrained=pretrained, **more)
    if not by_timm and not timm.is_model(backbone):
        near = difflib.get_close_matches(backbone, timm.list_models(), n=3)
        meant = f" Did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"{backbone!r} is no file or directory here and no timm model.{meant}")
    if pooled:
        raise ValueError(f"pooled=True needs SigLIP 2's MAP head; {backbone} has none. Leave it out.")
    if pyramid:
        raise ValueError(f"pyramid={pyramid!r} needs a SigLIP 2 tower; {backbone} is not one. Leave it out.")
    if tower_args:
        raise ValueError(f"tower_args={tower_args!r} needs a SigLIP 2 tower; {backbone} is not one. Leave it out.")
    return OtherMaps(_create(backbone, pretrained), stages, norm=norm)


def _for_timm(backbone: str) -> bool:
    """Whether the name has one of timm's prefixes and is not a tower that this library reads itself."""
    source = without_scheme(backbone)
    if source == backbone:
        return False
    if isinstance(source, str):
        return by_hub_id(source.partition("@")[0]) is None
    try:
        variant_of(open_files(source))
    except ValueError:  # another model family, which timm may support
        return True
    return False


def _is_siglip2(backbone: str) -> bool:
    return Path(backbone).expanduser().exists() or backbone.split(".")[0] in VARIANTS or os.sep in backbone


def _create(name: str, pretrained: bool) -> nn.Module:
    """Another timm model; fails if ``pretrained`` weights are missing, where timm would use random ones."""
    try:
        cfg = timm.models.get_pretrained_cfg(name)
        if not pretrained or (cfg and cfg.has_weights):
            with asked_once(cfg.hf_hub_id or None) if pretrained else nullcontext():
                return _for_any_size(name, pretrained)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"timm cannot build {name}: {error}. Check the name's tag and the connection.") from error
    raise ValueError(f"{name} has no published weights. Pass pretrained=False for random ones, or another name.")


def _for_any_size(name: str, pretrained: bool) -> nn.Module:
    """The model, set to accept images of any size if it has an argument for that."""
    build: Callable[..., nn.Module] = partial(timm.create_model, name, pretrained=pretrained, num_classes=0)
    for any_size in ({"dynamic_img_size": True}, {"strict_img_size": False}):
        with suppress(TypeError):  # not an argument of this model
            return build(**any_size)
    return build()
