"""Refuse weights that are infinite or not a number, by tensor name: every result would be meaningless."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


def is_finite(values: Tensor) -> bool:
    """Whether no value is infinite or not a number.

    The sum tells in one pass, without a copy. If large finite values add up to infinity, every value is checked.
    Integers and tensors on the meta device count as finite. Of a sharded tensor, this process's part is checked.
    """
    values = values.to_local() if isinstance(values, DTensor) else values
    if not values.is_floating_point() or values.is_meta or values.element_size() < 2:
        return True
    return math.isfinite(_sum(values.detach())) or bool(values.isfinite().all())


def _sum(values: Tensor) -> float:
    """The sum; on the CPU numpy's, because torch's threads cost more than they save where cores are shared."""
    if values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64):
        with np.errstate(all="ignore"):
            return float(np.add.reduce(values.reshape(-1).numpy()))
    return float(values.sum(dtype=torch.float32 if values.element_size() == 2 else None))


def refuse_not_finite(tensors: Mapping[str, Tensor], source: str, remedy: str) -> None:
    """Refuse tensors with values that are infinite or not a number.

    Args:
        tensors: The tensors by name.
        source: Their file or owner, for the message.
        remedy: What the user can do, as a sentence.

    Raises:
        ValueError: There are such tensors; the first five are named.
    """
    wrong = [name for name, tensor in tensors.items() if isinstance(tensor, Tensor) and not is_finite(tensor)]
    if wrong:
        shown = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise ValueError(f"{source}: values are infinite or not a number in {shown}; expected finite weights. {remedy}")
