"""Resample a table of position embeddings to another grid, with one row matrix and one column matrix.

A separable resize of a ``(rows, columns)`` table is ``R @ table @ C.T``. At the table's own grid both matrices are
exact identities, so the result is the table itself and no branch on the size is needed: eager, torch.compile and
torch.export see one graph.

Sources: the kernels of ``torch.nn.functional.interpolate`` (``align_corners=False``), which timm, transformers and
big_vision's NaFlex tower (``jax.image.scale_and_translate``) share. Differences: the matrices are built and applied in
float64 wherever the device has it, so TF32, autocast and bf16 tables cost no accuracy, and torch's wrong antialiased
result for grids one column wide (CPU, contiguous input) does not occur.
"""

from contextlib import nullcontext
from typing import Any, Literal, get_args

import torch
from timm.models import register_notrace_function
from torch import Tensor

from .sizes import plain

PosInterp = Literal["bicubic_antialias", "bicubic", "bilinear_antialias"]
"""``bicubic_antialias``: timm's rule, our default for fixed checkpoints. ``bicubic``: transformers' rule for them.
``bilinear_antialias``: the rule that the NaFlex checkpoints were trained with."""


def resample(table: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int], mode: str) -> Tensor:
    """Resample position embeddings from one grid to another.

    Args:
        table: Position embeddings ``(1, rows * columns, D)``, row by row.
        old_grid: Rows and columns of ``table`` [cells].
        new_grid: Rows and columns of the result [cells].
        mode: Interpolation rule, a :data:`PosInterp`.

    Returns:
        ``(1, new_rows * new_columns, D)`` in the table's dtype; equal to ``table`` where the grids are equal.
    """
    # torch.jit.script cannot disable autocast, which does not touch float64
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        return _resampled(table, old_grid, new_grid, mode)
    else:  # torch.jit.script compiles only one of the two branches
        # autocast does not support the meta device
        with nullcontext() if table.is_meta else torch.autocast(table.device.type, enabled=False):
            return _resampled(table, old_grid, new_grid, mode)


register_notrace_function(resample)


def _resampled(table: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int], mode: str) -> Tensor:
    dtype = torch.float32 if table.device.type == "mps" else torch.float64  # MPS has no float64
    new_rows, new_columns = plain(new_grid[0]), plain(new_grid[1])
    rows = interpolation_matrix(old_grid[0], new_rows, mode, table.device, dtype)
    columns = interpolation_matrix(old_grid[1], new_columns, mode, table.device, dtype)
    grid = table.to(dtype).reshape(old_grid[0], old_grid[1] * table.shape[-1])
    grid = (rows @ grid).reshape(new_rows, old_grid[1], table.shape[-1])  # (new rows, old columns, D)
    return (columns @ grid).reshape(1, new_rows * new_columns, table.shape[-1]).to(table.dtype)


def interpolation_matrix(
    old: int, new: int, mode: str, device: torch.device | None = None, dtype: torch.dtype = torch.float64
) -> Tensor:
    """The matrix ``(new, old)`` that resamples ``old`` samples to ``new``; each row sums to one.

    Args:
        old: Number of samples before.
        new: Number of samples after.
        mode: Interpolation rule.
        device: Where to build it.
        dtype: Floating point type to build it in.

    Raises:
        ValueError: The rule is unknown.
    """
    if mode == "bicubic_antialias":
        return _antialiased(old, new, 2.0, -0.5, device, dtype)
    if mode == "bilinear_antialias":
        return _antialiased(old, new, 1.0, None, device, dtype)
    # torch.jit.script cannot read the list of rules
    if not torch.jit.is_scripting():  # type: ignore[attr-defined]
        check_rule(mode)
    return _bicubic(old, new, device, dtype)


def check_rule(mode: str) -> None:
    """Refuse an unknown rule before a tower is built with it.

    Raises:
        ValueError: The rule is unknown.
    """
    if mode not in get_args(PosInterp):
        raise ValueError(f"pos_interp is {mode!r}; expected one of {', '.join(get_args(PosInterp))}.")


def _antialiased(
    old: int, new: int, radius: float, cubic: float | None, device: torch.device | None, dtype: torch.dtype
) -> Tensor:
    """Kernel stretched by the reduction factor when shrinking, cut at the border, normalised."""
    scale = old / new  # centres lie at half pixels, as with align_corners=False
    centre = (torch.arange(new, device=device, dtype=dtype) + 0.5) * scale
    source = torch.arange(old, device=device, dtype=dtype) + 0.5
    distance = ((source[None] - centre[:, None]) / (_longer(old, new) / new)).abs().clamp(max=radius)
    weights = 1 - distance if cubic is None else _cubic(distance, cubic)
    return weights / weights.sum(dim=1, keepdim=True)


def _longer(old: int, new: int) -> int:
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        return max(old, new)
    else:  # torch.jit.script compiles only one of the two branches
        # max() would branch on a symbolic size and specialise the exported graph
        longer: Any = torch.sym_max(old, new)
        return longer  # type: ignore[no-any-return]


def _bicubic(old: int, new: int, device: torch.device | None, dtype: torch.dtype) -> Tensor:
    """Four taps around each sample, never stretched; taps outside the table take its border value."""
    centre = (torch.arange(new, device=device, dtype=dtype) + 0.5) * (old / new) - 0.5
    border = 2  # taps lie at most two samples outside
    source = torch.arange(-border, old + border, device=device, dtype=dtype)
    taps = _cubic((source[None] - centre[:, None]).abs().clamp(max=2.0), -0.75)
    weights = taps[:, border : border + old].clone()
    weights[:, 0] += taps[:, :border].sum(dim=1)
    weights[:, -1] += taps[:, -border:].sum(dim=1)
    return weights


def _cubic(distance: Tensor, a: float) -> Tensor:
    """Keys' cubic convolution kernel, ``distance`` in [0, 2] (IEEE ASSP 29(6), 1981, with the free parameter ``a``)."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return torch.where(distance <= 1, near, far)
