"""Block indices: evenly spaced, or as requested."""

from collections.abc import Sequence
from typing import Any


def tap_indices(depth: int, n: int = 4) -> list[int]:
    """``n`` blocks spread evenly over ``depth``, including the last one: ``depth * k // n - 1``, k = 1..n.

    Raises:
        ValueError: ``n`` is not in 1..depth.
    """
    if not 1 <= n <= depth:
        raise ValueError(f"n is {n}; expected 1 to {depth}, the number of blocks.")
    return [depth * k // n - 1 for k in range(1, n + 1)]


def absolute_indices(
    depth: int,
    asked: int | Sequence[int] | None,
    option: str = "out_indices",
    unit: str = "block",
    *,
    list_only: bool = False,
) -> list[int]:
    """Requested indices, counted from the start.

    Args:
        depth: Number of blocks (or other units).
        asked: Indices (negative ones count from the end), an int n for the last n as in timm, or ``None`` for four by
            :func:`tap_indices`.
        option: Name of ``asked`` in messages.
        unit: Name of a block (or other unit) in messages.
        list_only: Accept only a list, also an empty one, and no int n.

    Raises:
        ValueError: An index is not an integer, is out of range or occurs twice.
    """
    if asked is None:
        return tap_indices(depth, min(4, depth))
    indices: list[Any] | None = None
    if type(asked) is int and not list_only:
        indices = list(range(depth))[-asked:] if 0 < asked <= depth else None
    elif isinstance(asked, Sequence) and not isinstance(asked, str):
        indices = list(asked)
    known = indices is not None and all(type(i) is int and -depth <= i < depth for i in indices)
    if indices is None or not known or not (indices or list_only):
        last = "" if list_only else f", or an int n from 1 to {depth} for the last n {unit}s"
        raise ValueError(
            f"{option} is {asked!r}; expected {unit} indices from {-depth} to {depth - 1}, each an int, in a list"
            f"{last}."
        )
    indices = [i % depth for i in indices]
    if twice := [i for i in indices if indices.count(i) > 1]:
        raise ValueError(f"{option} is {asked!r}, which names {unit} {twice[0]} twice; name each once.")
    return indices
