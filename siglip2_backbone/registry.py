"""timm entry points ``siglip2_*``. Importing this module registers them; it is the one module with side effects."""

from pathlib import Path
from typing import Any

from timm.models import PretrainedCfg, generate_default_cfgs, register_model, resolve_pretrained_cfg

from .checkpoints import check_variant
from .factory import build_tower, no_weights, pretrained_cfg
from .features import FeatureMaps
from .sources import open_checkpoint
from .tower import Siglip2VisionTransformer
from .variants import VARIANTS, Variant

default_cfgs = generate_default_cfgs(
    {f"{v.name}.webli" if v.hub_id else v.name: pretrained_cfg(v) for v in VARIANTS.values()}
)


def _weights_source(variant: Variant, cfg: PretrainedCfg) -> str:
    """The file, directory or hub id that a pretrained config names."""
    if cfg.url or cfg.state_dict:
        raise ValueError(
            f"{variant.name}: weights come from a file, a directory or the hub, not from url or state_dict."
        )
    source: str | None = cfg.file or cfg.hf_hub_id
    if not source:
        raise ValueError(no_weights(variant))
    return source


def _register(variant: Variant) -> None:
    def entry_point(
        pretrained: bool = False,
        pretrained_cfg: str | dict[str, Any] | PretrainedCfg | None = None,
        pretrained_cfg_overlay: dict[str, Any] | None = None,
        cache_dir: str | Path | None = None,
        **kwargs: Any,
    ) -> Siglip2VisionTransformer | FeatureMaps:
        if isinstance(pretrained_cfg, dict):  # a part of a config says nothing about the rest
            pretrained_cfg_overlay = pretrained_cfg | (pretrained_cfg_overlay or {})
            pretrained_cfg = None
        cfg = resolve_pretrained_cfg(variant.name, pretrained_cfg, pretrained_cfg_overlay)
        files = None
        if pretrained:
            files = open_checkpoint(_weights_source(variant, cfg), cache_dir)
            check_variant(files, variant)
        return build_tower(variant, files, pretrained_cfg=cfg, **kwargs)

    entry_point.__name__ = entry_point.__qualname__ = variant.name
    entry_point.__doc__ = f"{variant.hub_id or 'A tiny tower for tests and demos'}: width {variant.embed_dim}, " + (
        f"{variant.depth} blocks, patch {variant.patch_size}, {variant.img_size} px."
    )
    register_model(entry_point)


for _variant in VARIANTS.values():
    _register(_variant)
