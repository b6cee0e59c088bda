"""What ``features_only=True`` and ``create_backbone`` return: a tower that gives a list of maps."""

from collections.abc import Sequence
from typing import Any

from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from .tower import Siglip2VisionTransformer


def tap_indices(depth: int, n: int = 4) -> list[int]:
    """``n`` blocks spread evenly over ``depth``, the last one always among them: ``depth * k // n - 1``, k = 1..n.

    Raises:
        ValueError: ``n`` is not in 1..depth.
    """
    if not 1 <= n <= depth:
        raise ValueError(f"n is {n}; expected 1 to {depth}, the number of blocks.")
    return [depth * k // n - 1 for k in range(1, n + 1)]


def absolute_indices(
    depth: int, asked: int | Sequence[int] | None, option: str = "out_indices", unit: str = "block"
) -> list[int]:
    """Indices as asked for, counted from the start.

    Args:
        depth: Number of blocks (or other units).
        asked: Indices (negative ones count from the end), an int n for the last n as in timm, or ``None`` for four by
            :func:`tap_indices`.
        option: What messages call ``asked``.
        unit: What messages call the things that are counted.

    Raises:
        ValueError: An index is not an integer, is out of range or occurs twice.
    """
    if asked is None:
        return tap_indices(depth, min(4, depth))
    indices: list[Any] = []
    if type(asked) is int:
        indices = list(range(depth))[-asked:] if 0 < asked <= depth else []
    elif isinstance(asked, Sequence) and not isinstance(asked, str):
        indices = list(asked)
    if not indices or not all(type(i) is int and -depth <= i < depth for i in indices):
        raise ValueError(
            f"{option} is {asked!r}; expected {unit} indices from {-depth} to {depth - 1}, each an int, in a list, or "
            f"an int n from 1 to {depth} for the last n {unit}s."
        )
    indices = [i % depth for i in indices]
    if twice := [i for i in indices if indices.count(i) > 1]:
        raise ValueError(f"{option} is {asked!r}, which names {unit} {twice[0]} twice; name each once.")
    return indices


def in_order_asked(maps: Sequence[Tensor], indices: Sequence[int]) -> list[Tensor]:
    """Maps as timm returns them, in the order of the network, in the order of ``indices``."""
    by_index = dict(zip(sorted(indices), maps, strict=True))
    return [by_index[i] for i in indices]


class TowerWrapper(nn.Module):
    """What every module around a tower passes on to it, so that training works on the wrapper as on the tower."""

    model: Siglip2VisionTransformer
    feature_info: Any  # timm's FeatureInfo
    out_indices: list[int]

    def _carry(self, model: Siglip2VisionTransformer) -> None:
        """Show what clients of timm read on a model."""
        self.num_features: int = model.num_features
        self.pretrained_cfg: dict[str, Any] = getattr(model, "pretrained_cfg", {})
        self.default_cfg = self.pretrained_cfg

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.model.set_grad_checkpointing(enable)

    def set_input_size(self, img_size: int | Sequence[int] | None = None, patch_size: int | None = None) -> None:
        """Change the announced image size [px]; see the tower's method."""
        self.model.set_input_size(img_size, patch_size)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that are not to be decayed, with this wrapper's prefix."""
        return {f"model.{name}" for name in self.model.no_weight_decay()}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's layer groups (stem, one per block, final norm) for the wrapper's parameter names."""
        return {
            "stem": r"^model\.(?:pos_embed|patch_embed)",
            "blocks": [(r"^model\.blocks\.(\d+)", None), (r"^model\.norm", (99999,))],
        }


class FeatureMaps(TowerWrapper, FeatureGetterNet):
    """A tower that returns maps: images ``(B, C, H, W)``, normalised, to a list of ``(B, D, rows, columns)``.

    Blocks after the last one asked for are dropped, and so are the MAP head and the final norm where they are not
    used. Unlike timm's own wrapper it applies the final norm by default, keeps the order asked for, and passes on what
    training needs (``set_grad_checkpointing``, ``group_matcher``, ``no_weight_decay``, ``num_features``).

    Args:
        model: The tower; it is pruned in place.
        out_indices: Blocks to return, see :func:`absolute_indices`.
        norm: Apply the tower's final norm to every map.
        pooled: Keep the whole tower with its MAP head, for :meth:`forward_pooled`.

    Raises:
        ValueError: ``out_indices`` are not block indices, or the pooled output is asked of a tower without MAP head.
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
        """Maps ``(B, D, rows, columns)`` of the blocks asked for, in the order asked for."""
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
