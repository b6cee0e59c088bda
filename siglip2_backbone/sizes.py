"""Sizes as plain numbers, which torch.jit.trace makes tensors of."""

from torch import Tensor


def plain(size: int) -> int:
    """A size as a number, also while torch.jit traces, where it is a tensor.

    A trace holds for one size: the matrices that resample positions and maps are built for it. torch.export and
    torch.compile have symbolic sizes, which stay as they are.
    """
    if isinstance(size, Tensor):
        return int(size)
    return size
