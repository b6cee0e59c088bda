"""Check what an export or a checkpoint stores beside a head's tensors, before anything is built from it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .argument_types import check_plain, fits, shown

_BACKBONE = ("name", "source", "fingerprint")
_METRICS = dict[str, float | None]
# what a card may hold beside its task, backbone and reading
_OPTIONAL: dict[str, Any] = {
    "metrics": _METRICS,
    "protocol": dict[str, Any],
    "classes": dict[str, list[int]],
    "test": dict[str, Any],
    "depth": dict[str, Any],
    "sweep": dict[str, Any],
    "sha256": str,
}


def check_stored(card: Any, arguments: Any, state: Any) -> None:
    """Refuse a card, arguments and tensors that have another form than a task stores.

    Args:
        card: The description of the head.
        arguments: The task's arguments.
        state: Tensors by name.

    Raises:
        ValueError: A part is missing or of another kind; the message names it, and the caller adds the file.
    """
    if not isinstance(card, dict) or not isinstance(arguments, dict) or not isinstance(state, Mapping):
        kinds = ", ".join(type(part).__name__ for part in (card, arguments, state))
        raise ValueError(f"card, arguments and tensors are {kinds}; expected three objects")
    check_plain({key: value for key, value in card.items() if key != "arguments"}, "card", finite=False)
    check_plain(arguments, "arguments")
    _check_card(card)
    sweep = arguments.get("sweep")
    if sweep or "sweep" in card:
        _check_sweep(card.get("sweep"))
    for name, tensor in state.items():
        _check_tensor(name, tensor)


def _check_card(card: dict[str, Any]) -> None:
    _expect(card, "task", str)
    _expect(card, "backbone", dict)
    _expect(card, "reading", dict)
    for key in _BACKBONE:
        _expect(card["backbone"], key, str)
    for key, kind in _OPTIONAL.items():
        if key in card and not fits(card[key], kind):
            raise ValueError(f"card.{key} is {shown(card[key])}; expected {kind}")
    if "test" in card:
        for key in ("metrics", "protocol"):
            _expect(card["test"], key, dict)
        if not fits(card["test"]["metrics"], _METRICS):
            raise ValueError(f"card.test.metrics is {shown(card['test']['metrics'])}; expected {_METRICS}")
    if "depth" in card:
        _expect(card["depth"], "output", str)
        if not fits(card["depth"].get("depth_range"), tuple[float, float]):
            raise ValueError(f"depth_range is {shown(card['depth'].get('depth_range'))}; expected two numbers")


def _expect(content: Mapping[str, Any], key: str, kind: type) -> None:
    if type(content.get(key)) is not kind:
        found = f"is {shown(content[key])}" if key in content else "is missing"
        raise ValueError(f"{key} {found}; expected {'an object' if kind is dict else 'a text'}")


def _check_sweep(sweep: Any) -> None:
    """Check the number of the best head of a sweep, and the setting of each."""
    best = sweep.get("best") if isinstance(sweep, dict) else None
    heads = sweep.get("heads") if isinstance(sweep, dict) else None
    if (
        not isinstance(heads, list)
        or type(best) is not int
        or not 0 <= best < len(heads)
        or not fits(heads, list[dict[str, float | None]])
    ):
        raise ValueError(f"card.sweep is {shown(sweep)}; expected the number of the best head, and a list of heads")
    if any(type(head.get(key)) not in (int, float) for head in heads for key in ("lr", "weight_decay")):
        raise ValueError(f"card.sweep.heads is {shown(heads)}; expected lr and weight_decay of each")


def _check_tensor(name: Any, tensor: Any) -> None:
    if type(name) is not str or not isinstance(tensor, Tensor):
        raise ValueError(f"state_dict has {shown(name)}, a {type(tensor).__name__}; expected tensors by their names")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
        raise ValueError(f"tensor {name} is {tensor.dtype}, {tensor.layout} on {tensor.device}; expected plain values")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"tensor {name} of shape {tuple(tensor.shape)} repeats fewer values than it has")
