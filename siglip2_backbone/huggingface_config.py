"""The config of :class:`siglip2_backbone.huggingface.Siglip2Backbone`: architecture and outputs.

Options are named as in transformers' DINOv2 backbone (huggingface/transformers 5.24).
"""

from typing import Any, Literal, get_args

from transformers import PreTrainedConfig
from transformers.backbone_utils import BackboneConfigMixin

from .indices import tap_indices
from .names import unknown_name
from .positions import PosInterp
from .tower import Siglip2VisionTransformer
from .variants import CUSTOM, VARIANTS, Variant, by_hub_id

PrefixToken = Literal["pooled", "zeros", "none"]
_DEFAULT = "siglip2_base_patch16_256"
# transformers' names of a variant's sizes
SIZES = {
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
        for ours, theirs in SIZES.items():
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
        given = {ours: getattr(self, ours) for ours in SIZES if getattr(self, ours) is not None}
        name = self.architecture or (CUSTOM if given else _DEFAULT)
        if name == CUSTOM:
            return _custom(given)
        known = VARIANTS.get(name.removesuffix(".webli")) or by_hub_id(name)
        if known is None:
            raise ValueError(f"architecture: {unknown_name(name)}")
        for ours, value in given.items():
            if value != getattr(known, SIZES[ours]):
                raise ValueError(
                    f"{ours} is {value}; {known.name} has {getattr(known, SIZES[ours])}. Leave {ours} out, or pass "
                    f"architecture={CUSTOM!r} with all of {', '.join(SIZES)}."
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
    if missing := [size for size in SIZES if size not in given]:
        raise ValueError(
            f"{', '.join(missing)} missing; expected an architecture by name, or all of {', '.join(SIZES)}."
        )
    for size, value in given.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{size} is {value!r}; expected a positive whole number.")
    if given["hidden_size"] % given["num_attention_heads"]:
        raise ValueError(
            f"hidden_size is {given['hidden_size']} and num_attention_heads {given['num_attention_heads']}; expected a "
            "width divisible by the number of heads."
        )
    return Variant(CUSTOM, **{theirs: given[ours] for ours, theirs in SIZES.items()})


def config_of(tower: Siglip2VisionTransformer, **options: Any) -> Siglip2BackboneConfig:
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
