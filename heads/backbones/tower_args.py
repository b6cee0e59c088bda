"""The constructor arguments of a SigLIP 2 tower that a task may set besides its name, as plain data."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from siglip2_backbone import Siglip2VisionTransformer

_KNOWN = ("window_size", "global_blocks", "drop_path_rate", "pos_interp")


def check_tower_args(args: Mapping[str, Any] | None, tune: str) -> dict[str, Any]:
    """Check and return the arguments that are set; the tower itself checks windows, blocks and the position rule.

    Args:
        args: Arguments from a config; values of ``None`` are dropped.
        tune: What training changes of the backbone.

    Raises:
        ValueError: An argument is unknown, or the rate of stochastic depth is invalid or has no effect.
    """
    if args is not None and not isinstance(args, Mapping):
        raise ValueError(f"tower_args is {args!r}; expected names and values, such as {{window_size: 14}}.")
    given = {key: value for key, value in (args or {}).items() if value is not None}
    if unknown := sorted(str(key) for key in given.keys() - set(_KNOWN)):
        raise ValueError(f"tower_args has {', '.join(unknown)}; expected some of {', '.join(_KNOWN)}.")
    rate = given.get("drop_path_rate", 0.0)
    if type(rate) not in (int, float) or not 0 <= rate < 1:
        raise ValueError(f"drop_path_rate is {rate!r}; expected a number from 0 to below 1.")
    if rate and tune == "frozen":
        raise ValueError(
            f"drop_path_rate is {rate}, but stochastic depth acts in training and tune is 'frozen'. Set tune to full "
            "or lora, or leave it out."
        )
    return given


def tower_args_of(model: nn.Module, tune: str) -> dict[str, Any] | None:
    """The arguments of a tower that matter and differ from its defaults; ``None`` without any."""
    if not isinstance(model, Siglip2VisionTransformer):
        return None
    found: dict[str, Any] = {}
    if model.global_blocks is not None:
        found = {"window_size": model.window_size, "global_blocks": sorted(model.global_blocks)}
    if model.drop_path_rate and tune != "frozen":
        found["drop_path_rate"] = model.drop_path_rate
    if model.pos_interp != model.usual_pos_interp:
        found["pos_interp"] = model.pos_interp
    return found or None
