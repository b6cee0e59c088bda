"""Several heads on one forward pass of a frozen backbone, each with its own learning rate and weight decay."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from torch import nn

from .optim import head_groups

Setting = dict[str, float]
"""The learning rate (``lr``) and the weight decay (``weight_decay``) of a head."""


def settings(lr: float, weight_decay: float, sweep: Mapping[str, Sequence[float]] | None) -> list[Setting]:
    """The setting of each head: every pair of the grid, or a single setting without a grid.

    Args:
        lr: Learning rate, unless the grid has some.
        weight_decay: Weight decay, unless the grid has some.
        sweep: The grid: lists under ``lr``, ``weight_decay`` or both.

    Raises:
        ValueError: The grid has an unknown key, an empty list, a duplicate value, or a value out of range.

    Source: the linear-probe grids of DINOv2 (arXiv:2304.07193, appendix B) and DINOv3 (arXiv:2508.10104).
    """
    axes: dict[str, Sequence[float]] = {"lr": [lr], "weight_decay": [weight_decay]}
    if sweep is not None:
        unknown = sorted(sweep.keys() - axes.keys())
        if unknown or not sweep:
            raise ValueError(
                f"sweep has the keys {sorted(sweep)}; expected lr, weight_decay or both, with a list each."
            )
        axes |= sweep
    for name, values in axes.items():
        _check(name, values)
    return [{"lr": float(a), "weight_decay": float(b)} for a, b in product(axes["lr"], axes["weight_decay"])]


def _check(name: str, values: Any) -> None:
    # v == v is false for NaN
    numbers = isinstance(values, Sequence) and all(isinstance(v, int | float) and v == v for v in values)
    if not numbers or not values or len(set(values)) != len(values):
        raise ValueError(f"sweep.{name} is {values}; expected a list of different numbers.")
    low = min(values)
    if low < 0 or (name == "lr" and low == 0) or max(values) == float("inf"):
        raise ValueError(f"{name} is {low if low <= 0 else max(values)}; expected lr above 0, weight_decay at least 0.")


@contextmanager
def same_draws(device: torch.device, last: bool) -> Iterator[None]:
    """Let each head of a sweep see the random numbers (dropout) that it would see alone.

    Args:
        device: Of the maps.
        last: The last head moves the generator on, as a head alone would.
    """
    if last:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def clip_each(heads: Sequence[nn.Module], settings: Sequence[Setting], norm: float) -> None:
    """Clip the gradients of each head of a sweep by its own norm, as if it were alone."""
    for head, setting in zip(heads, settings, strict=True):
        in_order = [p for group in head_groups(head, **setting) for p in group["params"]]  # of the optimiser
        nn.utils.clip_grad_norm_(in_order, norm)


def label(setting: Setting) -> str:
    """The name of a head in logs and tables."""
    return f"lr={setting['lr']:g},wd={setting['weight_decay']:g}"


def without_sweep(
    arguments: Mapping[str, Any], card: Mapping[str, Any], state: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments and tensors of the best head of a sweep, as if it had been trained alone.

    Args:
        arguments: Arguments of the task; returned unchanged without a sweep.
        card: The card of the checkpoint, which names the best head.
        state: The tensors of the checkpoint.
    """
    if not arguments.get("sweep"):
        return dict(arguments), dict(state)
    best = card["sweep"]["best"]
    chosen = card["sweep"]["heads"][best]
    prefix, alone = f"decoder.{best}.", "decoder."
    tensors = {name: t for name, t in state.items() if not name.startswith(alone)}  # shared by the heads
    tensors |= {alone + name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
    return dict(arguments) | {"sweep": None, "lr": chosen["lr"], "weight_decay": chosen["weight_decay"]}, tensors
