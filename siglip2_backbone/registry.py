"""timm entry points ``siglip2_*``. Importing this module registers them with timm."""

from functools import partial
from pathlib import Path
from typing import Any

from timm.models import (
    PretrainedCfg,
    generate_default_cfgs,
    is_model,
    model_entrypoint,
    register_model,
    resolve_pretrained_cfg,
)

from .checkpoints import Checkpoint
from .checkpoints.sources import open_files
from .factory import build_pyramid, build_tower, pretrained_cfg
from .features import FeatureMaps
from .names import model_name, no_weights
from .pyramid import SUFFIXES, Pyramid, PyramidKind
from .tower import Siglip2VisionTransformer
from .variants import VARIANTS, Variant

_KINDS: tuple[PyramidKind | None, ...] = (None, *SUFFIXES)  # the tower itself, and each pyramid around it
_ABOUT = {None: "", "resample": "; levels by resampling", "sfp": "; ViTDet's learned levels"}


default_cfgs = generate_default_cfgs(
    {
        model_name(v, kind) + (".webli" if v.hub_id else ""): pretrained_cfg(v, kind)
        for v in VARIANTS.values()
        for kind in _KINDS
    }
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


def _refuse_taken(name: str) -> None:
    """Refuse a name that belongs to timm or to another package.

    timm would only warn, and drop the pretrained tags of the overwritten model.
    """
    if is_model(name) and (owner := model_entrypoint(name).__module__) != __name__:
        raise ValueError(
            f"timm already has a model {name}, from {owner}; siglip2_backbone expected the name to be free. Use the "
            "version of timm in pyproject.toml, or do not import both."
        )


def register(variant: Variant, kind: PyramidKind | None) -> None:
    """Register a variant's tower, or its pyramid, with timm.

    Raises:
        ValueError: Another package has registered the name.
    """
    name = model_name(variant, kind)
    build = partial(build_pyramid, kind=kind) if kind else build_tower

    def entry_point(
        pretrained: bool = False,
        pretrained_cfg: str | dict[str, Any] | PretrainedCfg | None = None,
        pretrained_cfg_overlay: dict[str, Any] | None = None,
        cache_dir: str | Path | None = None,
        **kwargs: Any,
    ) -> Siglip2VisionTransformer | FeatureMaps | Pyramid:
        if isinstance(pretrained_cfg, dict):  # a partial config leaves the other keys unchanged
            pretrained_cfg_overlay = pretrained_cfg | (pretrained_cfg_overlay or {})
            pretrained_cfg = None
        kwargs.pop("pretrained_model_args", None)  # timm's record of the arguments in a saved config
        cfg = resolve_pretrained_cfg(name, pretrained_cfg, pretrained_cfg_overlay)
        checkpoint = None
        if pretrained:
            checkpoint = Checkpoint.of(open_files(_weights_source(variant, cfg), cache_dir), variant)
        return build(variant, checkpoint, pretrained_cfg=cfg, **kwargs)

    entry_point.__name__ = entry_point.__qualname__ = name
    entry_point.__doc__ = f"{variant.hub_id or 'A tiny tower for tests and demos'}: width {variant.embed_dim}, " + (
        f"{variant.depth} blocks, patch {variant.patch_size}, {variant.img_size} px{_ABOUT[kind]}."
    )
    _refuse_taken(name)
    register_model(entry_point)


for _variant in VARIANTS.values():
    for _kind in _KINDS:
        register(_variant, _kind)
