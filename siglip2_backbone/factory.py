"""Build towers by name or from a checkpoint: as a plain tower, as feature maps or as a pyramid."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from timm.models import PretrainedCfg
from timm.models._features import FeatureGetterNet
from torch import nn

from .checkpoints import Checkpoint, load_tower
from .checkpoints.sources import open_files, without_scheme
from .features import FeatureMaps
from .names import model_name, no_weights, pyramid_of, unknown_name
from .positions import PosInterp
from .pyramid import PYRAMIDS, STRIDES, Pyramid, PyramidKind
from .tower import Siglip2VisionTransformer
from .variants import VARIANTS, Variant, by_hub_id

_Model = TypeVar("_Model", bound=nn.Module)
_TOWER_ARGS = frozenset(inspect.signature(Siglip2VisionTransformer).parameters)


def create_backbone(
    source: str | Path,
    *,
    out_indices: int | Sequence[int] | None = None,
    norm: bool = True,
    pooled: bool = False,
    pyramid: PyramidKind | None = None,
    pretrained: bool = True,
    cache_dir: str | Path | None = None,
    **tower_args: Any,
) -> FeatureMaps | Pyramid:
    """Build a SigLIP 2 tower that returns feature maps, with pretrained weights.

    Args:
        source: A directory or safetensors file in google's or timm's format, an npz file in big_vision's, a model name
            (``siglip2_base_patch16_256``, also with ``_pyramid`` or ``_sfp``) or a Hugging Face id
            (``google/siglip2-base-patch16-256``, ``timm/vit_base_patch16_siglip_256.v2_webli``). An existing path
            takes precedence. timm's prefixes ``hf-hub:`` and ``local-dir:`` are accepted.
        out_indices: Blocks to return, in this order; negative indices count from the end, an int n selects the last n.
            Four blocks spread over the depth by default. For a pyramid it selects levels, and ``layers`` the blocks.
        norm: Apply the final norm to every map.
        pooled: Keep the MAP head, for ``forward_pooled``; not available for a pyramid.
        pyramid: ``"resample"`` or ``"sfp"`` for maps at 4, 8, 16 and 32 px per cell, see
            :class:`~siglip2_backbone.ResampledPyramid` and :class:`~siglip2_backbone.SimpleFeaturePyramid`, whose
            arguments are then accepted as well. The neck of sfp is never pretrained.
        pretrained: Load the weights; ``False`` initialises them randomly.
        cache_dir: Folder of huggingface_hub's cache, if not the default one.
        **tower_args: Arguments of :class:`Siglip2VisionTransformer`, such as ``img_size``, ``pos_interp``,
            ``in_chans``, ``drop_path_rate``, ``device`` or ``dtype``.

    Raises:
        ValueError: The source is unknown, unreachable, damaged or not a SigLIP tower, or the arguments do not fit it.
    """
    source, pyramid = pyramid_of(source, pyramid)
    if pyramid and pooled:
        raise ValueError(
            f"{source} as a pyramid returns maps only, without the MAP head's pooled output. Use the plain tower "
            "(the name without its suffix), or leave pooled out."
        )
    variant, checkpoint = _resolve(source, pretrained, cache_dir)
    cfg = pretrained_cfg(variant, pyramid)
    shape: dict[str, Any] = {"out_indices": out_indices, "norm": norm}
    if pyramid:
        return build_pyramid(variant, checkpoint, pyramid, pretrained_cfg=cfg, **shape, **tower_args)
    model = build_tower(
        variant, checkpoint, pretrained_cfg=cfg, features_only=True, pooled=pooled, **shape, **tower_args
    )
    assert isinstance(model, FeatureMaps)
    return model


def open_tower(source: str | Path, cache_dir: str | Path | None = None) -> Checkpoint:
    """The checkpoint behind a source of :func:`create_backbone`.

    Raises:
        ValueError: The source is unknown, unreachable, damaged or not a SigLIP tower.
    """
    _, checkpoint = _resolve(source, True, cache_dir)
    assert checkpoint is not None
    return checkpoint


def _resolve(source: str | Path, pretrained: bool, cache_dir: str | Path | None) -> tuple[Variant, Checkpoint | None]:
    """The architecture behind a source, and its checkpoint if weights are wanted."""
    source = without_scheme(source)
    if isinstance(source, Path) or Path(source).expanduser().exists():
        return _opened(source, pretrained)
    known = VARIANTS.get(source.removesuffix(".webli")) or by_hub_id(source.split("@")[0])
    if known is None and "/" in source:  # a missing path or an id: open_files gives the precise error
        return _opened(source, pretrained, cache_dir)
    if known is None:
        raise ValueError(unknown_name(source))
    if not pretrained:
        return known, None
    if known.hub_id is None:
        raise ValueError(no_weights(known))
    return known, Checkpoint.of(open_files(source if "/" in source else known.hub_id, cache_dir), known)


def _opened(
    source: str | Path, pretrained: bool, cache_dir: str | Path | None = None
) -> tuple[Variant, Checkpoint | None]:
    """The architecture of a checkpoint, and the checkpoint if weights are wanted.

    Raises:
        ValueError: It is not a SigLIP tower, or its config does not match its tensors.
    """
    checkpoint = Checkpoint.of(open_files(source, cache_dir))  # checked before a tower is built, even on meta
    return checkpoint.variant, checkpoint if pretrained else None


def pretrained_cfg(variant: Variant, pyramid: PyramidKind | None = None) -> PretrainedCfg:
    """timm's description of a variant: where its weights are and how its images are preprocessed.

    Images are squashed to the native square with bilinear, antialiased interpolation and scaled to [-1, 1]; source:
    preprocessor_config.json of the checkpoints on the hub. timm's own configs for the same weights say bicubic and
    crop_pct 0.9, which differs from their training.
    """
    return PretrainedCfg(
        hf_hub_id=variant.hub_id,
        architecture=model_name(variant, pyramid),
        tag="webli" if variant.hub_id else None,
        input_size=(3, variant.img_size, variant.img_size),
        fixed_input_size=False,
        interpolation="bilinear",
        crop_pct=1.0,
        crop_mode="squash",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        num_classes=0,
        first_conv="patch_embed.proj",
        classifier="head",
        license="apache-2.0",
        origin_url="https://github.com/google-research/big_vision",
        paper_ids="arXiv:2502.14786",
        paper_name="SigLIP 2: Multilingual Vision-Language Encoders with Improved Semantic Understanding, "
        "Localization, and Dense Features",
    )


def build_tower(
    variant: Variant,
    checkpoint: Checkpoint | None,
    *,
    pretrained_cfg: PretrainedCfg,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    norm: bool | None = None,
    pooled: bool | None = None,
    feature_cls: str | type | None = None,
    **tower_args: Any,
) -> Siglip2VisionTransformer | FeatureMaps:
    """Build a tower or its feature maps, with the weights of ``checkpoint`` or random ones.

    Args:
        variant: The architecture.
        checkpoint: Weights to load; ``None`` for random ones.
        pretrained_cfg: Stored on the model as ``pretrained_cfg``.
        features_only: Return maps instead of the tower.
        out_indices: See :class:`FeatureMaps`; only with ``features_only``.
        norm: See :class:`FeatureMaps`; only with ``features_only``.
        pooled: See :class:`FeatureMaps`; only with ``features_only``.
        feature_cls: Accepted because timm clients pass it; ``"getter"``, only with ``features_only``.
        **tower_args: Overrides for the tower's constructor.

    Raises:
        ValueError: Arguments contradict each other, or the weights do not fit.
    """
    asked = {"out_indices": out_indices, "norm": norm, "pooled": pooled, "feature_cls": feature_cls}
    _check_feature_cls(feature_cls)
    if not features_only and any(value is not None for value in asked.values()):
        names = ", ".join(name for name, value in asked.items() if value is not None)
        raise ValueError(
            f"{names}: used only with features_only=True. Pass features_only=True as well, or leave it out."
        )

    def wrap(tower: Siglip2VisionTransformer) -> Siglip2VisionTransformer | FeatureMaps:
        return FeatureMaps(tower, out_indices, norm=norm is not False, pooled=bool(pooled)) if features_only else tower

    return _build(variant, checkpoint, pretrained_cfg, tower_args, wrap)


def build_pyramid(
    variant: Variant,
    checkpoint: Checkpoint | None,
    kind: PyramidKind,
    *,
    pretrained_cfg: PretrainedCfg,
    features_only: bool = True,
    feature_cls: str | type | None = None,
    **args: Any,
) -> Pyramid:
    """Build a pyramid around a tower with the weights of ``checkpoint`` or random ones.

    Args:
        variant: The architecture.
        checkpoint: Weights of the tower to load; ``None`` for random ones.
        kind: Kind of pyramid.
        pretrained_cfg: Stored on the model as ``pretrained_cfg``.
        features_only: Accepted because timm clients pass it; a pyramid always returns maps.
        feature_cls: Accepted because timm clients pass it; ``"getter"``.
        **args: Arguments of the pyramid's class and of the tower.

    Raises:
        ValueError: An argument is unknown, arguments contradict each other, or the weights do not fit.
    """
    _check_feature_cls(feature_cls)
    own = inspect.signature(PYRAMIDS[kind]).parameters.keys() - {"model"}
    if unknown := sorted(args.keys() - own - _TOWER_ARGS):
        raise ValueError(_no_such_argument(model_name(variant, kind), unknown[0], args[unknown[0]]))
    tower_args = {key: value for key, value in args.items() if key in _TOWER_ARGS}
    wrap = partial(PYRAMIDS[kind], **{key: value for key, value in args.items() if key in own})
    return _build(variant, checkpoint, pretrained_cfg, tower_args, wrap)


def _check_feature_cls(feature_cls: str | type | None) -> None:
    """Refuse timm's other feature extractors."""
    named = feature_cls.lower() if isinstance(feature_cls, str) else feature_cls
    if named not in (None, "getter", FeatureGetterNet):
        raise ValueError(
            f"feature_cls is {feature_cls!r}; expected 'getter', timm's feature extractor for vision transformers. "
            "Leave it out."
        )


def _no_such_argument(name: str, argument: str, value: object) -> str:
    """Message for an argument that a pyramid does not take."""
    if argument == "output_stride":
        strides = ", ".join(map(str, STRIDES))
        return (
            f"output_stride is {value!r}; the levels of {name} are always at {strides} px per cell. Leave it out; in "
            "segmentation_models_pytorch pass encoder_output_stride=32, and use a decoder that allows it (DeepLabV3 "
            "and DeepLabV3+ do not)."
        )
    return f"{name} takes no argument {argument} (got {value!r}); expected one of its pyramid or tower."


def _build(
    variant: Variant,
    checkpoint: Checkpoint | None,
    cfg: PretrainedCfg,
    tower_args: dict[str, Any],
    wrap: Callable[[Siglip2VisionTransformer], _Model],
) -> _Model:
    """Build a tower and its wrapper, then load the weights that the wrapper has not dropped."""
    device = torch.device(tower_args.get("device") or torch.get_default_device())
    if checkpoint is not None:
        _check_loadable(variant, device, tower_args)
    args = _tower_args(variant) | tower_args
    if variant.naflex and args["pos_interp"] != "bilinear_antialias":
        raise ValueError(
            f"pos_interp is {args['pos_interp']!r}; {variant.name} was trained with 'bilinear_antialias' and supports "
            "no other rule. Leave it out."
        )
    tower = Siglip2VisionTransformer(**(args | {"device": device if checkpoint is None else "meta"}))
    tower.pretrained_cfg = tower.default_cfg = cfg.to_dict()
    tower.pretrained_cfg["source"] = "random" if checkpoint is None else _placed(checkpoint.files.source)
    tower.usual_pos_interp = _tower_args(variant)["pos_interp"]
    tower.naflex = variant.naflex
    model = wrap(tower)
    if checkpoint is not None:
        load_tower(tower, checkpoint, device)
    return model


def _placed(source: str) -> str:
    """Make a path absolute: a relative one could be mistaken for a Hugging Face id."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source


def _check_loadable(variant: Variant, device: torch.device, tower_args: dict[str, Any]) -> None:
    """Refuse arguments that the pretrained weights do not fit; a wrong number of heads would load silently."""
    if device.type == "meta":
        raise ValueError(
            "The device is meta, which holds no weights; pass pretrained=False, or build on a real device."
        )
    for key, own in _tower_args(variant).items():
        if key != "pos_interp" and tower_args.get(key, own) != own:
            raise ValueError(
                f"{key} is {tower_args[key]}; {variant.name} has {own}, and its weights fit no other value. Leave "
                f"{key} out, or pass pretrained=False."
            )


def _tower_args(variant: Variant) -> dict[str, Any]:
    pos_interp: PosInterp = "bilinear_antialias" if variant.naflex else "bicubic_antialias"
    return {
        "native_size": variant.img_size,
        "patch_size": variant.patch_size,
        "embed_dim": variant.embed_dim,
        "depth": variant.depth,
        "num_heads": variant.num_heads,
        "mlp_dim": variant.mlp_dim,
        "pos_interp": pos_interp,
    }
