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
from typing import Any

import torch
from timm.layers import AttentionPoolLatent
from torch import Tensor
from transformers import AutoBackbone, AutoConfig, PreTrainedModel
from transformers import initialization as init
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from .factory import build_tower, create_backbone, pretrained_cfg
from .finite import refuse_not_finite
from .huggingface_config import SIZES, Siglip2BackboneConfig, config_of
from .positions import PosInterp
from .tower import Siglip2VisionTransformer

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
        if sizes := sorted(options.keys() & {"architecture", *SIZES}):
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
        config = config_of(tower, drop_path_rate=drop_path_rate, name_or_path=str(source), **options)
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


AutoConfig.register(Siglip2BackboneConfig.model_type, Siglip2BackboneConfig, exist_ok=True)
AutoBackbone.register(Siglip2BackboneConfig, Siglip2Backbone, exist_ok=True)
