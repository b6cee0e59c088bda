"""Parameter groups and schedule."""

import math
from collections.abc import Callable

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups of the trainable parameters: matrices and kernels decay, biases and norms (one dimension) do not."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]


def warmup_cosine(optimizer: Optimizer, warmup_steps: int, total_steps: Callable[[], float]) -> LambdaLR:
    """Linear rise over ``warmup_steps`` optimiser steps, then half a cosine down to zero at ``total_steps``.

    Where the run is so short that warm-up would take more than half of it, it takes half.

    Args:
        optimizer: Its groups' learning rates are the peak.
        warmup_steps: Optimiser steps of warm-up.
        total_steps: Tells the optimiser steps of the whole run. It is asked from the second step on: Lightning counts
            them by making the training loader, whose workers must not start before a resumed run knows its epoch.
    """

    def factor(step: int) -> float:
        total = total_steps() if step else math.inf
        warmup = min(warmup_steps, total // 2)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(1, total - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return LambdaLR(optimizer, factor)
