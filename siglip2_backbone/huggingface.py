"""SigLIP 2 as a transformers backbone, for UperNet, Mask2Former, DPT, Depth Anything and similar models.

Importing this module registers the model type ``siglip2_backbone`` with AutoConfig and AutoBackbone. transformers
builds the backbone of a larger model with random weights; replace it with the pretrained one::

    backbone = Siglip2Backbone.from_checkpoint("google/siglip2-base-patch16-256", reshape_hidden_states=False)
    model = DPTForDepthEstimation(DPTConfig(backbone_config=backbone.config))
    model.backbone = backbone

AutoBackbone.from_pretrained queries the hub before it looks at a folder; read a folder with
:meth:`Siglip2Backbone.from_pretrained`.

Source of the interface: huggingface/transformers 5.24 ``backbone_utils.py``; options are named as in its DINOv2
backbone.
"""

from pathlib import Path
from typing import Any, Literal, get_args

import torch
from timm.layers import AttentionPoolLatent
from torch import Tensor
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from .factory import build_tower, create_backbone, pretrained_cfg, unknown_name
from .finite import refuse_not_finite
from .indices import tap_indices
from .positions import PosInterp
from .tower import Siglip2VisionTransformer
from .variants import CUSTOM, VARIANTS, Variant, by_hub_id

PrefixToken = Literal["pooled", "zeros", "none"]
_DEFAULT = "siglip2_base_patch16_256"
# transformers' names of a variant's sizes
_SIZES = {
    "hidden_size": "embed_dim",
    "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads",
    "intermediate_size": "mlp_dim",
    "patch_size": "patch_size",
    "image_size": "img_size",
}


class Siglip2BackboneConfig(BackboneConfigMixin, PreTrainedConfig):
    """Architecture and outputs of a :class:`Siglip2Backbone`.

    The architecture is given by name or by six sizes; a name fills in the sizes.

    Args:
        architecture: Model name (``siglip2_base_patch16_256``, the default) or Hugging Face id of a published tower;
            ``siglip2_custom`` or ``None`` for the sizes given.
        hidden_size: Width of the tokens.
        num_hidden_layers: Number of blocks.
        num_attention_heads: Number of attention heads.
        intermediate_size: Hidden width of the MLPs.
        patch_size: Side of a patch [px].
        image_size: Side of the native square image [px].
        pos_interp: How positions are resampled to other grids; ``None`` for the architecture's default.
        drop_path_rate: Stochastic depth in training.
        apply_layernorm: Apply the final norm to every feature map.
        reshape_hidden_states: Return maps ``(B, C, rows, columns)``; otherwise tokens, for DPT and Depth Anything.
        prefix_token: Token before the patch tokens, where a class token is expected: ``"pooled"`` is the output of the
            MAP head, ``"zeros"`` needs no MAP head (Depth Anything ignores the token), ``"none"`` adds no token.
        out_features: Stages to return, by name: ``stem`` is the embedding, ``stage3`` the output of the third block.
        out_indices: The same by number. Stage k is block k - 1 of timm, because stage 0 is the stem. Four blocks
            spread over the depth by default.
        **kwargs: Arguments of every transformers config.

    Raises:
        ValueError: The name is unknown, sizes are missing or contradict the name, or an option has an invalid value.
    """

    model_type = "siglip2_backbone"

    def __init__(
        self,
        architecture: str | None = None,
        hidden_size: int | None = None,
        num_hidden_layers: int | None = None,
        num_attention_heads: int | None = None,
        intermediate_size: int | None = None,
        patch_size: int | None = None,
        image_size: int | None = None,
        pos_interp: PosInterp | None = None,
        drop_path_rate: float = 0.0,
        apply_layernorm: bool = True,
        reshape_hidden_states: bool = True,
        prefix_token: PrefixToken = "pooled",
        out_features: list[str] | None = None,
        out_indices: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("stage_names", None)  # stored in saved configs; derived from the depth below
        super().__init__(**kwargs)
        self.architecture = architecture
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.patch_size = patch_size
        self.image_size = image_size
        variant = self.variant()
        self.architecture = variant.name
        for ours, theirs in _SIZES.items():
            setattr(self, ours, getattr(variant, theirs))
        self.pos_interp = pos_interp
        self.drop_path_rate = drop_path_rate
        self.apply_layernorm = apply_layernorm
        self.reshape_hidden_states = reshape_hidden_states
        self.prefix_token = prefix_token
        self.check_prefix_token()
        self.stage_names = ["stem", *(f"stage{k}" for k in range(1, variant.depth + 1))]
        if out_features is None and out_indices is None:
            out_indices = [block + 1 for block in tap_indices(variant.depth, min(4, variant.depth))]
        self.set_output_features_output_indices(out_features=out_features, out_indices=out_indices)

    def variant(self) -> Variant:
        """The architecture that name and sizes describe.

        Raises:
            ValueError: The name is unknown, or sizes are missing or contradict the name.
        """
        given = {ours: getattr(self, ours) for ours in _SIZES if getattr(self, ours) is not None}
        name = self.architecture or (CUSTOM if given else _DEFAULT)
        if name == CUSTOM:
            return _custom(given)
        known = VARIANTS.get(name.removesuffix(".webli")) or by_hub_id(name)
        if known is None:
            raise ValueError(f"architecture: {unknown_name(name)}")
        for ours, value in given.items():
            if value != getattr(known, _SIZES[ours]):
                raise ValueError(
                    f"{ours} is {value}; {known.name} has {getattr(known, _SIZES[ours])}. Leave {ours} out, or pass "
                    f"architecture={CUSTOM!r} with all of {', '.join(_SIZES)}."
                )
        return known

    def check_prefix_token(self) -> None:
        """Refuse an unknown prefix token; it may have been set after the config was created.

        Raises:
            ValueError: ``prefix_token`` is unknown.
        """
        if self.prefix_token not in get_args(PrefixToken):
            raise ValueError(f"prefix_token is {self.prefix_token!r}; expected 'pooled', 'zeros' or 'none'.")

    @property
    def needs_map_head(self) -> bool:
        """Whether the backbone returns the pooled output."""
        return not self.reshape_hidden_states and self.prefix_token == "pooled"


def _custom(given: dict[str, Any]) -> Variant:
    if missing := [size for size in _SIZES if size not in given]:
        raise ValueError(
            f"{', '.join(missing)} missing; expected an architecture by name, or all of {', '.join(_SIZES)}."
        )
    for size, value in given.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{size} is {value!r}; expected a positive whole number.")
    if given["hidden_size"] % given["num_attention_heads"]:
        raise ValueError(
            f"hidden_size is {given['hidden_size']} and num_attention_heads {given['num_attention_heads']}; expected a "
            "width divisible by the number of heads."
        )
    return Variant(CUSTOM, **{theirs: given[ours] for ours, theirs in _SIZES.items()})


# config options that select the outputs
_SHAPING = (
    "out_indices",
    "out_features",
    "reshape_hidden_states",
    "apply_layernorm",
    "prefix_token",
    "output_hidden_states",
    "return_dict",
)


class Siglip2Backbone(BackboneMixin, PreTrainedModel):
    """A SigLIP 2 tower behind transformers' backbone interface.

    ``Siglip2Backbone(config)`` and ``AutoBackbone.from_config(config)`` have random weights, as usual in transformers;
    :meth:`from_checkpoint` reads published weights, :meth:`from_pretrained` the output of ``save_pretrained``.
    """

    config_class = Siglip2BackboneConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    tower: Siglip2VisionTransformer
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]  # noqa: RUF012
    _supports_sdpa = True  # timm's blocks use it
    _keys_to_ignore_on_load_unexpected = [r"^tower\.attn_pool\."]  # noqa: RUF012  # saved with, loaded without a MAP head

    def __init__(self, config: Siglip2BackboneConfig) -> None:
        super().__init__(config)
        config.check_prefix_token()
        variant = config.variant()
        self.num_features = [config.hidden_size] * len(config.stage_names)
        self.tower = build_tower(
            variant,
            None,
            pretrained_cfg=pretrained_cfg(variant),
            global_pool="map" if config.needs_map_head else "",
            drop_path_rate=config.drop_path_rate,
            **_given(pos_interp=config.pos_interp),
        )
        self.post_init()

    @classmethod
    def from_checkpoint(
        cls,
        source: str | Path,
        *,
        pos_interp: PosInterp | None = None,
        drop_path_rate: float = 0.0,
        dtype: torch.dtype | None = None,
        cache_dir: str | Path | None = None,
        **options: Any,
    ) -> "Siglip2Backbone":
        """A backbone with the weights of a published checkpoint, in evaluation mode.

        Args:
            source: Directory, file, model name or Hugging Face id, as for :func:`create_backbone`.
            pos_interp: See the config.
            drop_path_rate: See the config.
            dtype: Floating point type of the weights.
            cache_dir: Folder of huggingface_hub's cache, if not the default one.
            **options: Config options that select the outputs, such as ``out_indices``.

        Raises:
            ValueError: The source is unknown, unreachable, damaged or not a SigLIP tower, or an option has an invalid
                value.
        """
        if sizes := sorted(options.keys() & {"architecture", *_SIZES}):
            raise ValueError(f"{', '.join(sizes)}: already set by the checkpoint. Leave it out.")
        if unknown := sorted(options.keys() - set(_SHAPING)):
            raise ValueError(f"{', '.join(unknown)}: unknown option; expected {', '.join(_SHAPING)}.")
        pooled = Siglip2BackboneConfig(**options | {"out_features": None, "out_indices": None}).needs_map_head
        tower = create_backbone(
            source,
            pooled=pooled,
            cache_dir=cache_dir,
            drop_path_rate=drop_path_rate,
            **_given(pos_interp=pos_interp, dtype=dtype),
        ).model
        config = _config_of(tower, drop_path_rate=drop_path_rate, name_or_path=str(source), **options)
        with torch.device("meta"):
            model: Siglip2Backbone = cls(config)
        model.tower = tower
        model.eval()
        return model

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """Read the output of ``save_pretrained``; arguments as in transformers, but a missing tensor is an error.

        Raises:
            ValueError: The folder lacks tensors, or has them in another shape or with values that are not finite.
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        if lost := sorted({*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])}):
            raise ValueError(
                f"{args[0]} lacks {len(lost)} tensors of this backbone, such as {lost[0]}; expected a folder "
                "written by Siglip2Backbone.save_pretrained with the same options. Use from_checkpoint for Google's "
                "checkpoints."
            )
        refuse_not_finite(model.state_dict(), str(args[0]), "Save it again from finite weights.")
        return (model, info) if output_loading_info else model

    def forward(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> BackboneOutput | tuple[Any, ...]:
        """Feature maps of the requested stages.

        Args:
            pixel_values: Images ``(B, 3, H, W)``, normalised.
            output_hidden_states: Return the raw tokens ``(B, N, C)`` of every stage as well, the stem first.
            output_attentions: Not supported; must not be true.
            return_dict: Return a BackboneOutput, or its fields as a tuple; the config's choice by default.
            **kwargs: Arguments that transformers passes to every submodule; unused.

        Returns:
            ``feature_maps``: a map ``(B, C, rows, columns)`` for each stage, or tokens ``(B, prefix + N, C)``.

        Raises:
            ValueError: Attentions are requested, or tokens of an image that is not a whole number of patches.
        """
        if output_attentions:
            raise ValueError("output_attentions=True: the fused attention keeps no weights. Leave it out.")
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        stages = [self.stage_names.index(name) for name in self.out_features]
        states = self._states(pixel_values, range(len(self.stage_names)) if output_hidden_states else stages)
        output = BackboneOutput(
            feature_maps=tuple(self._feature_maps([states[k] for k in stages], states, pixel_values)),
            hidden_states=tuple(states.values()) if output_hidden_states else None,
        )
        use_dict = self.config.return_dict if return_dict is None else return_dict
        return output if use_dict else output.to_tuple()

    def _states(self, pixel_values: Tensor, stages: Any) -> dict[int, Tensor]:
        """Raw tokens ``(B, N, C)`` by stage, with the last stage if the pooled output needs it."""
        tower = self.tower
        last = len(tower.blocks)
        wanted = sorted({*stages, last} if self.config.needs_map_head else set(stages))
        states = {0: tower._pos_embed(tower.patch_embed(pixel_values))} if 0 in wanted else {}
        if blocks := [stage - 1 for stage in wanted if stage]:
            tokens = tower.forward_intermediates(
                pixel_values, indices=blocks, output_fmt="NLC", stop_early=True, intermediates_only=True
            )
            states |= {block + 1: t for block, t in zip(blocks, tokens, strict=True)}
        return states

    def _feature_maps(self, tokens: list[Tensor], states: dict[int, Tensor], pixel_values: Tensor) -> list[Tensor]:
        tower = self.tower
        height, width = pixel_values.shape[-2:]
        rows, columns = tower.patch_embed.dynamic_feat_size((height, width))
        if self.config.apply_layernorm:
            tokens = [tower.norm(t) for t in tokens]
        if self.config.reshape_hidden_states:
            return [t.transpose(1, 2).reshape(t.shape[0], t.shape[2], rows, columns) for t in tokens]
        patch = self.config.patch_size
        if (rows, columns) != (height // patch, width // patch):
            raise ValueError(
                f"pixel_values are {height} x {width} px; models that take tokens count whole patches of {patch} px. "
                f"Pad or resize the images to a multiple of {patch}."
            )
        if self.config.prefix_token == "none":
            return tokens
        if self.config.prefix_token == "zeros":
            prefix = torch.zeros_like(tokens[0][:, :1])
        else:
            prefix = tower.forward_head(tower.norm(states[len(tower.blocks)]), pre_logits=True)[:, None]
        return [torch.cat([prefix, t], dim=1) for t in tokens]

    def get_input_embeddings(self) -> torch.nn.Module:
        """The patch embedding; ``enable_input_require_grads`` makes its output require a gradient.

        Reentrant checkpointing needs this if only adapters are trained.
        """
        embedding: torch.nn.Module = self.tower.patch_embed
        return embedding

    def set_input_embeddings(self, value: torch.nn.Module) -> None:
        """Replace the patch embedding."""
        self.tower.patch_embed = value

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether each block is recomputed in the backward pass; transformers sets it on every module with it."""
        return bool(self.tower.grad_checkpointing)

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enable: bool) -> None:
        self.tower.set_grad_checkpointing(enable)

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Initialise a module randomly, also one that a larger model's checkpoint lacks."""
        super()._init_weights(module)
        if isinstance(module, Siglip2VisionTransformer):
            init.trunc_normal_(module.pos_embed, std=0.02)
        elif isinstance(module, AttentionPoolLatent):
            init.trunc_normal_(module.latent, std=module.latent.shape[-1] ** -0.5)


def _given(**arguments: Any) -> dict[str, Any]:
    """The arguments that are not None."""
    return {key: value for key, value in arguments.items() if value is not None}


def _config_of(tower: Siglip2VisionTransformer, **options: Any) -> Siglip2BackboneConfig:
    """The config of a backbone that holds this tower."""
    return Siglip2BackboneConfig(
        architecture=tower.pretrained_cfg["architecture"],
        hidden_size=tower.embed_dim,
        num_hidden_layers=len(tower.blocks),
        num_attention_heads=tower.blocks[0].attn.num_heads,
        intermediate_size=tower.blocks[0].mlp.fc1.out_features,
        patch_size=tower.patch_embed.patch_size[0],
        image_size=tower.patch_embed.native_size,
        pos_interp=tower.pos_interp,
        **options,
    )


AutoConfig.register(Siglip2BackboneConfig.model_type, Siglip2BackboneConfig, exist_ok=True)
AutoBackbone.register(Siglip2BackboneConfig, Siglip2Backbone, exist_ok=True)
