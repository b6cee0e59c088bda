"""LoRA: small trained adapters next to the frozen matrices of a backbone, by peft."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class LoraSpec:
    """Options of the adapters.

    Args:
        rank: Rank of each adapter.
        alpha: Scale: an adapter's output is multiplied by alpha / rank.
        dropout: Dropout before each adapter, from 0 to below 1.
        targets: Layers of each block that get an adapter, by the last part of their name.

    Raises:
        ValueError: A value is out of range.

    Source: Hu et al., arXiv:2106.09685, as peft implements it.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = ("qkv", "proj", "fc1", "fc2")

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1 or not self.targets:
            raise ValueError(
                f"lora has rank {self.rank}, alpha {self.alpha}, dropout {self.dropout} and targets "
                f"{list(self.targets)}; expected rank at least 1, alpha above 0, dropout in [0, 1) and some targets."
            )

    @classmethod
    def read(cls, options: Mapping[str, Any] | None) -> "LoraSpec":
        """Read the options of a config; missing ones have their default.

        Raises:
            ValueError: A key is unknown, or a value is out of range or of the wrong type.
        """
        options = dict(options or {})
        if unknown := sorted(options.keys() - cls.__dataclass_fields__.keys()):
            raise ValueError(f"lora has no {', '.join(unknown)}; expected {', '.join(cls.__dataclass_fields__)}.")
        try:
            if isinstance(targets := options.get("targets", cls.targets), str) or options.get("rank", 1) % 1:
                raise TypeError
            return cls(**options | {"targets": tuple(targets)})
        except TypeError as error:
            raise ValueError(
                f"lora is {options}; expected a whole number as rank, numbers as alpha and dropout, and a list of "
                "names as targets."
            ) from error

    def plain(self) -> dict[str, Any]:
        """The options as numbers and lists, for a checkpoint."""
        return asdict(self) | {"targets": list(self.targets)}


def add_adapters(backbone: nn.Module, spec: LoraSpec) -> None:
    """Insert adapters into the blocks of a backbone, in place; afterwards only they are trainable.

    An adapter starts at zero, so the maps are unchanged until it is trained.

    Raises:
        ValueError: peft is not installed, or no layer of a block has such a name.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ValueError("tune=lora needs peft: pip install 'siglip2-backbone[lora]'.") from error
    layers = rf"(.*\.)?blocks\.\d+\.(.*\.)?({'|'.join(spec.targets)})"  # not the patch embedding
    config = LoraConfig(r=spec.rank, lora_alpha=spec.alpha, lora_dropout=spec.dropout, target_modules=layers)
    try:
        inject_adapter_in_model(config, backbone)
    except ValueError as error:  # raised by peft where nothing matched
        raise ValueError(
            f"No layer in the blocks of {type(backbone).__name__} is called {' or '.join(spec.targets)}. Name other "
            "lora.targets."
        ) from error
