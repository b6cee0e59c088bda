"""A hash of weights: equal for all files that hold the same tower."""

import hashlib
from collections.abc import Iterable

from torch import Tensor, nn, uint8

from .features import TowerWrapper


def fingerprint(tower: nn.Module, names: Iterable[str] | None = None) -> str:
    """sha256 over (name, dtype, shape, bytes) of the sorted state dict, as 64 hexadecimal digits.

    Two towers have the same fingerprint if and only if they hold the same tensors in the same dtype: casting to
    bfloat16 or dropping the MAP head changes it. Pass ``names`` to compare the part that two towers share.

    Args:
        tower: A tower, or a wrapper around one (:class:`~siglip2_backbone.FeatureMaps`, a pyramid).
        names: Use only these entries of the state dict.

    Raises:
        ValueError: The tower is on the meta device and has no values, or a name in ``names`` is unknown.
    """
    inner = tower.model if isinstance(tower, TowerWrapper) else tower
    state: dict[str, Tensor] = inner.state_dict()
    digest = hashlib.sha256()
    chosen = sorted(state if names is None else names)
    if unknown := [name for name in chosen if name not in state]:
        raise ValueError(
            f"The tower has no tensor {unknown[0]}; expected names of its state dict, such as {next(iter(state))}."
        )
    for name in chosen:
        tensor = state[name].detach()
        if tensor.is_meta:
            raise ValueError(f"Tensor {name} is on the meta device and has no values; load weights first.")
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        flat = tensor.cpu().contiguous().reshape(-1)
        digest.update(flat.view(uint8).numpy().data)
    return digest.hexdigest()
