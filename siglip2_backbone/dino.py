"""The tower behind the interface of DINOv2 and DINOv3, so that code which evaluates those takes it."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .features import FeatureMaps
from .indices import absolute_indices
from .tower import Siglip2VisionTransformer

Layer = Tensor | tuple[Tensor, Tensor]


class DinoTower(nn.Module):
    """A tower with ``get_intermediate_layers`` and the attributes that DINO evaluation code reads.

    SigLIP 2 has no class token; the output of its MAP head, of which there is one and not one a block, stands in.

    Args:
        tower: The tower; it is held, not copied.

    Source: facebookresearch/dinov2 @ b8931f7 and dinov3 @ 6876159, ``vision_transformer.py``. Differences: images of
    any size are taken, negative indices count from the end, and indices out of order are refused (DINO returns them in
    the order of the network, without a word).
    """

    def __init__(self, tower: Siglip2VisionTransformer) -> None:
        super().__init__()
        self.tower = tower
        self.n_blocks = len(tower.blocks)
        self.embed_dim: int = tower.embed_dim
        self.embed_dims: list[int] = [tower.embed_dim] * self.n_blocks  # DINOv3 reads one for each block
        self.num_features: int = tower.embed_dim
        self.patch_size: int = tower.patch_embed.patch_size[0]
        self.input_pad_size: int = self.patch_size
        self.num_register_tokens = self.n_storage_tokens = 0  # DINOv2's name, and DINOv3's

    @property
    def blocks(self) -> nn.Module:
        """The tower's blocks, which stay registered under the tower alone."""
        blocks: nn.Module = self.tower.blocks
        return blocks

    def forward(self, x: Tensor) -> Tensor:
        """The output ``(B, D)`` of the MAP head for normalised images ``(B, 3, H, W)``.

        Raises:
            ValueError: The tower has no MAP head.
        """
        return self._pooled(self.tower.forward_features(x))

    def forward_features(self, x: Tensor, masks: Tensor | None = None) -> dict[str, Any]:
        """Everything that the last block gives.

        Args:
            x: Images ``(B, 3, H, W)``, normalised.
            masks: What DINO hides in pretraining; not offered.

        Returns:
            ``x_norm_patchtokens``: normed tokens ``(B, N, D)``. ``x_norm_clstoken``: the output ``(B, D)`` of the MAP
            head, or ``None`` of a tower without one. ``x_norm_regtokens`` (DINOv2) and ``x_storage_tokens`` (DINOv3):
            registers, of which there are none, ``(B, 0, D)``. ``x_prenorm``: tokens ``(B, N, D)`` before the final
            norm. ``masks``: ``None``.

        Raises:
            ValueError: Masks are given.
        """
        if masks is not None:
            raise ValueError("masks: the tower was trained without a token that hides cells. Leave it out.")
        tokens, (before,) = self.tower.forward_intermediates(x, indices=[self.n_blocks - 1], output_fmt="NLC")
        registers = tokens[:, :0]
        return {
            "x_norm_clstoken": None if self.tower.attn_pool is None else self._pooled(tokens),
            "x_norm_regtokens": registers,
            "x_storage_tokens": registers,
            "x_norm_patchtokens": tokens,
            "x_prenorm": before,
            "masks": None,
        }

    def get_intermediate_layers(
        self,
        x: Tensor,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_class_token: bool = False,
        norm: bool = True,
    ) -> tuple[Layer, ...]:
        """Outputs of some blocks.

        Args:
            x: Images ``(B, 3, H, W)``, normalised.
            n: The last n blocks, or ascending block indices.
            reshape: Return maps ``(B, D, rows, columns)`` instead of tokens ``(B, N, D)``.
            return_class_token: Return pairs of tokens or map, and the output ``(B, D)`` of the MAP head.
            norm: Apply the final norm to tokens and maps. The MAP head always has it before itself.

        Raises:
            ValueError: Indices are no blocks or not ascending, or a class token is asked of a tower without MAP head.
        """
        indices = absolute_indices(self.n_blocks, n, "n")
        if indices != sorted(indices):
            raise ValueError(f"n is {n}; expected ascending indices. Sort them and pick from the result.")
        layers: list[Tensor]
        layout = "NCHW" if reshape else "NLC"
        if not return_class_token:
            layers = self.tower.forward_intermediates(
                x, indices=indices, norm=norm, output_fmt=layout, stop_early=True, intermediates_only=True
            )
            return tuple(layers)
        tokens, layers = self.tower.forward_intermediates(x, indices=indices, norm=norm, output_fmt=layout)
        pooled = self._pooled(tokens)
        return tuple((layer, pooled) for layer in layers)

    def _pooled(self, tokens: Tensor) -> Tensor:
        if self.tower.attn_pool is None:
            raise ValueError(
                "The tower was built without its MAP head, whose output stands in for a class token. Build it with "
                "global_pool='map', or leave return_class_token out."
            )
        pooled: Tensor = self.tower.forward_head(tokens, pre_logits=True)
        return pooled


def as_dino(model: Siglip2VisionTransformer | FeatureMaps) -> DinoTower:
    """A tower as code for DINOv2 and DINOv3 knows it; see :class:`DinoTower`.

    Args:
        model: A tower, or a FeatureMaps built with ``pooled=True``, which holds a whole one.

    Raises:
        ValueError: The FeatureMaps has dropped parts of its tower, or it is something else.
    """
    if isinstance(model, FeatureMaps):
        if not model.pooled:
            raise ValueError("This FeatureMaps has dropped what it does not use; build it with pooled=True.")
        model = model.model
    if not isinstance(model, Siglip2VisionTransformer):
        raise ValueError(f"model is a {type(model).__name__}; expected a Siglip2VisionTransformer or FeatureMaps.")
    return DinoTower(model)
