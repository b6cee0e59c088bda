"""The SigLIP 2 vision tower as a subclass of timm's VisionTransformer: one class for all 17 checkpoints."""

from collections.abc import Callable, Sequence
from functools import partial, update_wrapper
from typing import Any, TypeVar

import torch
from timm.layers import Attention, LayerNorm, to_2tuple
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from .patches import CellPatchEmbed
from .positions import PosInterp, check_rule, resample
from .windows import GridAttention, flattened, global_indices

_Method = TypeVar("_Method", bound=Callable[..., Any])


torch.fx.wrap("resample")  # a leaf of torch.fx graphs: its matrices depend on the image size


def _as_in_timm(method: _Method) -> _Method:
    """Show the signature of the overridden method, which has more options in later versions of timm."""
    update_wrapper(method, getattr(VisionTransformer, method.__name__), assigned=(), updated=())
    return method


class Siglip2VisionTransformer(VisionTransformer):
    """The vision tower of SigLIP 2 with its MAP head, for images of any size.

    timm's VisionTransformer without class token, with tanh GELU and LayerNorm epsilon 1e-6 everywhere. Positions are
    resampled on the fly from a table that is never overwritten.

    Args:
        img_size: Nominal image size [px]; ``None`` for the native one. Every other size works as well.
        native_size: Side of the square image [px] that the position table belongs to.
        patch_size: Side of a patch [px].
        embed_dim: Width of the tokens.
        depth: Number of blocks.
        num_heads: Number of attention heads.
        mlp_dim: Hidden width of the MLPs.
        pos_interp: How the position table is resampled to other grids.
        window_size: Side [cells] of the windows that blocks attend within, see
            :class:`~siglip2_backbone.windows.GridAttention`; ``None`` to attend everywhere. It changes no weight.
        global_blocks: Blocks that still attend everywhere; negative indices count from the end. Four spread over the
            depth by default, none for ``[]``.
        in_chans: Number of image channels.
        num_classes: Classes of an untrained linear classifier on the pooled output; 0 for none.
        global_pool: ``"map"`` for the MAP head; ``"avg"``, ``"max"``, ``"avgmax"`` or ``""`` drop it.
        drop_rate: Dropout before the classifier.
        pos_drop_rate: Dropout after the positions.
        patch_drop_rate: Share of patches dropped in training.
        proj_drop_rate: Dropout after projections.
        attn_drop_rate: Dropout of the attention weights.
        drop_path_rate: Stochastic depth.
        weight_init: timm's initialisation scheme.
        dynamic_img_size: Accepted because timm clients pass it; always true.
        dynamic_img_pad: Pad images to whole patches. ``False`` refuses images that are not a whole number of patches;
            the native size is neither padded nor refused.
        device: Where to build it.
        dtype: Floating point type to build it in.

    Source: google-research/big_vision @ 0127fb6, ``models/vit.py`` and ``models/proj/image_text/naflex_vit.py``,
    through transformers' SiglipVisionModel and Siglip2VisionModel, with which it agrees in every block.
    """

    def __init__(
        self,
        *,
        native_size: int,
        patch_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        img_size: int | tuple[int, int] | None = None,
        pos_interp: PosInterp = "bicubic_antialias",
        window_size: int | None = None,
        global_blocks: Sequence[int] | None = None,
        in_chans: int = 3,
        num_classes: int = 0,
        global_pool: str = "map",
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        patch_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        weight_init: str = "",
        dynamic_img_size: bool = True,
        dynamic_img_pad: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if not dynamic_img_size:
            raise ValueError("dynamic_img_size=False is not supported: every size works. Leave it out.")
        check_rule(pos_interp)
        everywhere = global_indices(depth, window_size, global_blocks)
        if window_size is not None and patch_drop_rate:
            raise ValueError(
                f"patch_drop_rate is {patch_drop_rate}, but windows need every cell of the map. Leave out one of them."
            )
        super().__init__(
            img_size=native_size,
            patch_size=patch_size,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            mlp_ratio=(mlp_dim + 0.5) / embed_dim,  # timm truncates ratio * width: half a unit keeps 4304 from 4303
            class_token=False,
            fc_norm=False,
            dynamic_img_size=True,
            dynamic_img_pad=dynamic_img_pad,
            drop_rate=drop_rate,
            pos_drop_rate=pos_drop_rate,
            patch_drop_rate=patch_drop_rate,
            proj_drop_rate=proj_drop_rate,
            attn_drop_rate=attn_drop_rate,
            drop_path_rate=drop_path_rate,
            weight_init=weight_init,
            embed_layer=partial(CellPatchEmbed, native_size=native_size),
            norm_layer=partial(LayerNorm, eps=1e-6),
            act_layer="gelu_tanh",
            attn_layer=Attention if window_size is None else GridAttention,
            device=device,
            dtype=dtype,
        )
        self.table_grid: tuple[int, int] = self.patch_embed.grid_size
        self.pos_interp = self.usual_pos_interp = pos_interp  # the factory sets the default for the weights
        self.naflex = False  # set by the factory for weights trained on native aspect ratios
        self.drop_path_rate = drop_path_rate
        self.window_size = window_size
        self.global_blocks = everywhere
        for i, block in enumerate(self.blocks):
            if everywhere is not None and i not in everywhere:
                block.attn.window_size = window_size
        self.set_input_size(img_size)

    def set_input_size(
        self, img_size: int | Sequence[int] | None = None, patch_size: int | Sequence[int] | None = None
    ) -> None:
        """Change the nominal image size; weights do not change, and every other size still works.

        Args:
            img_size: Nominal image size [px]; ``None`` keeps the current one.
            patch_size: Must be the tower's patch size, if given.

        Raises:
            ValueError: ``patch_size`` is not the tower's, or ``img_size`` is not one or two positive integers.
        """
        if patch_size is not None and to_2tuple(patch_size) != self.patch_embed.patch_size:
            raise ValueError(
                f"patch_size is {patch_size}; this tower's is {self.patch_embed.patch_size} and its weights fit no "
                "other. Choose a checkpoint with the patch size you want."
            )
        if img_size is not None:
            sides = to_2tuple(img_size)
            if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
                raise ValueError(f"img_size is {img_size}; expected one side or (height, width), of at least 1 px.")
            self.patch_embed.set_input_size(img_size=sides)

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Add positions to ``(B, rows, columns, D)``, and without windows flatten it to ``(B, rows * columns, D)``."""
        grid = (x.shape[1], x.shape[2])
        positions = resample(self.pos_embed, self.table_grid, grid, self.pos_interp)
        tokens: Tensor = self.pos_drop(x.flatten(1, 2) + positions)
        return tokens if self.window_size is None else tokens.reshape(x.shape)

    # With windows, cells stay on their grid through all blocks; the outputs are flattened as in timm.

    @_as_in_timm
    def forward_features(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Normed tokens ``(B, N, D)`` of the last block."""
        found: Tensor = super().forward_features(x, *args, **kwargs)
        return found if self.window_size is None else found.flatten(1, 2)

    @_as_in_timm
    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Outputs of blocks, as maps (NCHW) or tokens (NLC)."""
        options = (indices, return_prefix_tokens, norm, stop_early, output_fmt)
        found = super().forward_intermediates(x, *options, *args, **kwargs)
        return found if self.window_size is None else flattened(found, maps=output_fmt == "NCHW")
