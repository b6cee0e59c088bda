"""The result of ``features_only=True`` and ``create_backbone``: a tower that returns a list of feature maps."""

from collections.abc import Sequence
from typing import Any

from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from .indices import absolute_indices
from .tower import Siglip2VisionTransformer


def in_order_asked(maps: Sequence[Tensor], indices: Sequence[int]) -> list[Tensor]:
    """Reorder maps from network order, in which timm returns them, to the order of ``indices``."""
    by_index = dict(zip(sorted(indices), maps, strict=True))
    return [by_index[i] for i in indices]


class TowerWrapper(nn.Module):
    """Base class of modules around a tower; it forwards the methods that training code calls."""

    model: Siglip2VisionTransformer
    feature_info: Any  # timm's FeatureInfo
    out_indices: list[int]
    norm: bool

    def _carry(self, model: Siglip2VisionTransformer) -> None:
        """Copy the attributes that timm's clients read."""
        self.num_features: int = model.num_features
        self.pretrained_cfg: dict[str, Any] = getattr(model, "pretrained_cfg", {})
        self.default_cfg = self.pretrained_cfg

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.model.set_grad_checkpointing(enable)

    def set_input_size(self, img_size: int | Sequence[int] | None = None, patch_size: int | None = None) -> None:
        """Change the nominal image size [px]; see the tower's method."""
        self.model.set_input_size(img_size, patch_size)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters without weight decay, with this wrapper's prefix."""
        return {f"model.{name}" for name in self.model.no_weight_decay()}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's layer groups (stem, one per block, final norm) for the wrapper's parameter names."""
        return {
            "stem": r"^model\.(?:pos_embed|patch_embed)",
            "blocks": [(r"^model\.blocks\.(\d+)", None), (r"^model\.norm", (99999,))],
        }


class FeatureMaps(TowerWrapper, FeatureGetterNet):
    """A tower that returns maps: images ``(B, C, H, W)``, normalised, to a list of ``(B, D, rows, columns)``.

    Blocks after the last requested one are dropped, and so are the MAP head and the final norm if unused. Unlike
    timm's wrapper it applies the final norm by default, keeps the requested order, and forwards what training needs
    (``set_grad_checkpointing``, ``group_matcher``, ``no_weight_decay``, ``num_features``).

    Args:
        model: The tower; it is pruned in place.
        out_indices: Blocks to return, see :func:`absolute_indices`.
        norm: Apply the tower's final norm to every map.
        pooled: Keep the whole tower with its MAP head, for :meth:`forward_pooled`.

    Raises:
        ValueError: ``out_indices`` are not block indices, or ``pooled`` is set for a tower without MAP head.
    """

    def __init__(
        self,
        model: Siglip2VisionTransformer,
        out_indices: int | Sequence[int] | None = None,
        *,
        norm: bool = True,
        pooled: bool = False,
    ) -> None:
        indices = absolute_indices(len(model.blocks), out_indices)
        if pooled and model.attn_pool is None:
            raise ValueError(
                "pooled=True needs the MAP head; this tower was built without it (global_pool is not 'map')."
            )
        if not pooled:
            model.prune_intermediate_layers(indices, prune_norm=not norm)
        super().__init__(model, out_indices=indices, norm=norm, prune=False)
        self.pooled = pooled
        self._carry(model)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps ``(B, D, rows, columns)`` of the requested blocks, in the requested order."""
        maps = self.model.forward_intermediates(
            x, indices=self.out_indices, norm=self.norm, stop_early=True, intermediates_only=True
        )
        return in_order_asked(maps, self.out_indices)

    def forward_pooled(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps as from :meth:`forward`, and the MAP head's output ``(B, D)``, SigLIP 2's image embedding.

        Raises:
            ValueError: The wrapper was built without ``pooled=True``.
        """
        if not self.pooled:
            raise ValueError("The MAP head was dropped; build the backbone with pooled=True to keep it.")
        tokens, maps = self.model.forward_intermediates(x, indices=self.out_indices, norm=self.norm)
        return in_order_asked(maps, self.out_indices), self.model.forward_head(tokens, pre_logits=True)
