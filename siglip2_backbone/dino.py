"""The tower with the interface of DINOv2 and DINOv3, for evaluation code written for them."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .features import FeatureMaps
from .indices import absolute_indices
from .tower import Siglip2VisionTransformer

Layer = Tensor | tuple[Tensor, Tensor]


class DinoTower(nn.Module):
    """A tower with ``get_intermediate_layers`` and the attributes that DINO evaluation code reads.

    SigLIP 2 has no class token; the output of its MAP head replaces it. There is one such output, not one per block.

    Args:
        tower: The tower; it is not copied.

    Source: facebookresearch/dinov2 @ b8931f7 and dinov3 @ 6876159, ``vision_transformer.py``. Differences: images may
    have any size, negative indices count from the end, and indices out of order are refused (DINO silently returns
    network order).
    """

    def __init__(self, tower: Siglip2VisionTransformer) -> None:
        super().__init__()
        self.tower = tower
        self.n_blocks = len(tower.blocks)
        self.embed_dim: int = tower.embed_dim
        self.embed_dims: list[int] = [tower.embed_dim] * self.n_blocks  # DINOv3 reads one per block
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
        """Outputs of the last block.

        Args:
            x: Images ``(B, 3, H, W)``, normalised.
            masks: DINO's pretraining masks; not supported.

        Returns:
            ``x_norm_patchtokens``: normed tokens ``(B, N, D)``. ``x_norm_clstoken``: the output ``(B, D)`` of the MAP
            head, or ``None`` without a MAP head. ``x_norm_regtokens`` (DINOv2) and ``x_storage_tokens`` (DINOv3):
            register tokens, always empty, ``(B, 0, D)``. ``x_prenorm``: tokens ``(B, N, D)`` before the final norm.
            ``masks``: ``None``.

        Raises:
            ValueError: Masks are given.
        """
        if masks is not None:
            raise ValueError("masks is set; expected None, because the tower has no mask token. Leave it out.")
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
            return_class_token: Return pairs: tokens or map, and the output ``(B, D)`` of the MAP head.
            norm: Apply the final norm to tokens and maps. The MAP head always reads normed tokens.

        Raises:
            ValueError: Indices are out of range or not ascending, or a class token is requested from a tower without
                MAP head.
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
                "The tower was built without its MAP head, whose output replaces the class token. Build it with "
                "global_pool='map', or leave return_class_token out."
            )
        pooled: Tensor = self.tower.forward_head(tokens, pre_logits=True)
        return pooled


def as_dino(model: Siglip2VisionTransformer | FeatureMaps) -> DinoTower:
    """Wrap a tower in the interface of DINOv2 and DINOv3; see :class:`DinoTower`.

    Args:
        model: A tower, or a FeatureMaps built with ``pooled=True``, which keeps the whole tower.

    Raises:
        ValueError: The FeatureMaps has dropped parts of its tower, or ``model`` has another type.
    """
    if isinstance(model, FeatureMaps):
        if not model.pooled:
            raise ValueError("This FeatureMaps has dropped unused parts of its tower; build it with pooled=True.")
        model = model.model
    if not isinstance(model, Siglip2VisionTransformer):
        raise ValueError(f"model is a {type(model).__name__}; expected a Siglip2VisionTransformer or FeatureMaps.")
    return DinoTower(model)
