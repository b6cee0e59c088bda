"""Sizes as plain integers; torch.jit.trace turns them into tensors."""

from torch import Tensor


def plain(size: int) -> int:
    """A size as an integer, also during torch.jit.trace, where it is a tensor.

    A trace is valid for one size: the matrices that resample positions and maps are built for it. Symbolic sizes of
    torch.export and torch.compile are returned unchanged.
    """
    if isinstance(size, Tensor):
        return int(size)
    return size
