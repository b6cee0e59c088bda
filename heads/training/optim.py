"""Parameter groups and learning rate schedules."""

import math
from collections.abc import Callable
from typing import Any, Literal

from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["cosine", "poly", "steps", "onecycle"]
Groups = list[dict[str, Any]]


def head_groups(module: nn.Module, lr: float, weight_decay: float) -> Groups:
    """Two groups of trainable parameters: matrices and kernels with decay, biases and norms (one dimension) without."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay, "lr": lr},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0, "lr": lr},
    ]


def backbone_groups(model: nn.Module, lr: float, weight_decay: float, layer_decay: float) -> Groups:
    """One group per depth of a timm model: a layer's rate is ``layer_decay`` times that of the layer above it.

    Biases, norms and the parameters named in the model's ``no_weight_decay`` (positions) do not decay.

    Raises:
        ValueError: ``layer_decay`` is set, but the model does not define its layers.

    Source: BEiT (arXiv:2106.08254), as in timm's ``param_groups_layer_decay``. timm leaves ``lr_scale`` to its
    schedulers; here it is part of the group's ``lr``.
    """
    if layer_decay != 1 and not hasattr(model, "group_matcher"):
        raise ValueError(f"{type(model).__name__} does not define its layers. Leave layer_decay out.")
    fixed = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()  # type: ignore[operator]
    groups: Groups = param_groups_layer_decay(model, weight_decay, no_weight_decay_list=fixed, layer_decay=layer_decay)
    return [group | {"lr": lr * group["lr_scale"]} for group in groups if group["params"]]


def cosine(step: int, warmup: int, total: float) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * _progress(step, warmup, total)))


def poly(step: int, warmup: int, total: float) -> float:
    """Linear warm-up, then linear decay to zero: mmsegmentation's polynomial decay of power 1."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 1 - _progress(step, warmup, total)


def steps(step: int, warmup: int, total: float) -> float:
    """Linear warm-up, then constant, a tenth from 8/9 of the run on, a hundredth from 26/27 on: ViTDet's.

    Source: 163,889 and 177,546 of 184,375 steps in facebookresearch/detectron2 @ 0818132, ``projects/ViTDet``.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.1 ** sum(step >= round(total * part) for part in (8 / 9, 26 / 27) if math.isfinite(total))


def onecycle(step: int, warmup: int, total: float) -> float:
    """Half a cosine from 1/25 up, then half a cosine down to 1/25,000: torch's OneCycleLR, final_div_factor 1000."""
    return _cycle(step, warmup, total, low=1 / 25, high=1.0, end=1 / 25_000)


FACTORS: dict[str, Callable[[int, int, float], float]] = {
    "cosine": cosine,
    "poly": poly,
    "steps": steps,
    "onecycle": onecycle,
}


class WarmupSchedule(LambdaLR):
    """A factor on every group's learning rate, by optimiser step; one-cycle also changes the momentum.

    Warm-up takes at most half of the run.

    Args:
        optimizer: Optimiser; its groups' learning rates are the peak rates.
        name: cosine, poly, steps or onecycle. One-cycle takes the first beta of Adam from 0.95 to 0.85 and back.
        warmup_steps: Optimiser steps of warm-up.
        total_steps: Returns the optimiser steps of the whole run. It is called from the second step on: Lightning
            counts them by building the training loader, whose workers must not start before a resumed run knows its
            epoch.

    Raises:
        ValueError: The name is unknown.
    """

    def __init__(
        self, optimizer: Optimizer, name: Schedule, warmup_steps: int, total_steps: Callable[[], float]
    ) -> None:
        if name not in FACTORS:
            raise ValueError(f"schedule is {name!r}; expected one of {', '.join(FACTORS)}.")
        self.name = name
        self.warmup_steps = warmup_steps
        self._total_steps = total_steps  # not part of the state: bound to the trainer
        super().__init__(optimizer, self._factor)

    def _length(self, step: int) -> tuple[int, float]:
        """Steps of warm-up and of the whole run."""
        total = self._total_steps() if step else math.inf
        return int(min(self.warmup_steps, total // 2)), total

    def _factor(self, step: int) -> float:
        return FACTORS[self.name](step, *self._length(step))

    def get_lr(self) -> list[float | Tensor]:
        """Learning rate of each group at the current step."""
        if self.name == "onecycle":
            beta = _cycle(self.last_epoch, *self._length(self.last_epoch), low=0.95, high=0.85, end=0.95)
            for group in self.optimizer.param_groups:
                group["betas"] = (beta, group["betas"][1])
        return super().get_lr()

    def rescale(self, factor: float) -> None:
        """Multiply the peak rates, and the current rates accordingly."""
        self.base_lrs = [rate * factor for rate in self.base_lrs]
        factor = self._factor(self.last_epoch)
        self._last_lr = [peak * factor for peak in self.base_lrs]
        for group, peak, rate in zip(self.optimizer.param_groups, self.base_lrs, self._last_lr, strict=True):
            group.update(initial_lr=peak, lr=rate)

    def state_dict(self) -> dict[str, Any]:
        """The step and the peak rates."""
        return {"last_epoch": self.last_epoch, "base_lrs": self.base_lrs, "_last_lr": self._last_lr}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a stored step."""
        self.__dict__.update(state_dict)


def _progress(step: int, warmup: int, total: float) -> float:
    """Completed share of the decay, from 0 to 1."""
    return min(1.0, (step - warmup) / max(1, total - warmup))


def _cycle(step: int, warmup: int, total: float, *, low: float, high: float, end: float) -> float:
    """From ``low`` to ``high`` at step warmup - 1, then to ``end``, half a cosine each, as in torch's OneCycleLR."""
    if step < warmup - 1:
        start, stop, part = low, high, step / (warmup - 1)
    else:
        start, stop, part = high, end, min(1.0, (step - warmup + 1) / max(1, total - warmup))
    return stop + (start - stop) / 2 * (1 + math.cos(math.pi * part))
