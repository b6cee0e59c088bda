"""Shared by the formats: where each of our tensors lies in a file, and the check for missing and surplus tensors."""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..variants import Variant
from .sources import CheckpointFiles, Stored
from .tensor_files import DTYPES, StoredTensor, read_rows


@dataclass(frozen=True)
class Part:
    """A tensor of a file, or a slice of it; one of our tensors is one part, or several concatenated.

    Args:
        name: Name in the file, without the prefix of the vision tensors.
        thirds: First third and the third after the last one, of a fused q, k, v tensor.
        layer: Index along the first axis of a tensor that stacks those of all blocks.
    """

    name: str
    thirds: tuple[int, int] = (0, 3)
    layer: int | None = None


@dataclass(frozen=True)
class Layout:
    """How a format keeps the tower of one architecture.

    Args:
        parts: Where each tensor of our state dict comes from.
        shapes: Shape of every vision tensor in the file, by the file's name.
    """

    parts: dict[str, list[Part]]
    shapes: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Wanted:
    """A tensor of our state dict to read.

    Args:
        shape: Its shape with three channels.
        dtype: Type to read it into.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype


def vision_tensors(files: CheckpointFiles, prefix: str, others: re.Pattern[str]) -> dict[str, Stored]:
    """The file's vision tensors without their prefix.

    Args:
        files: The checkpoint.
        prefix: Prefix of the vision tensors' names.
        others: Names of allowed tensors outside the vision tower.

    Raises:
        ValueError: There are no vision tensors, or one occurs with and without the prefix.
    """
    named = {name: t for name, t in files.tensors.items() if not others.fullmatch(name)}
    if not named:
        kinds = sorted({re.split("[./]", name)[0] for name in files.tensors}) or ["nothing"]
        raise ValueError(
            f"{files.source} has no vision tensors (found only {', '.join(kinds)}); expected names that start with "
            f"{prefix or 'vision_model.'!r}. Pass the file of the whole model or of its vision tower."
        )
    found = {name.removeprefix(prefix): t for name, t in named.items()}  # unknown names stay, and count as surplus
    if len(found) < len(named):
        twice = next(name for name in named if name.startswith(prefix) and name.removeprefix(prefix) in named)
        raise ValueError(
            f"{files.source} has both {twice} and {twice.removeprefix(prefix)}; expected names that start with "
            f"{prefix!r}, each once. {_remedy(files)}"
        )
    return found


def check_shapes(
    files: CheckpointFiles, found: Mapping[str, Stored], expected: Mapping[str, tuple[int, ...]], variant: Variant
) -> None:
    """Check that exactly the expected tensors are there, and that shapes and dtypes fit.

    Raises:
        ValueError: A tensor is missing, surplus, of another shape or not floating point.
    """
    missing, surplus = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or surplus:
        raise ValueError(_other_names(files, found, missing, surplus, variant))
    for name, shape in expected.items():
        if found[name].shape != shape:
            raise ValueError(
                f"{files.source}: tensor {name} has shape {found[name].shape}; expected {shape} for "
                f"{described(variant)}. {_remedy(files)}"
            )
        if found[name].dtype not in DTYPES:
            raise ValueError(
                f"{files.source}: tensor {name} is stored as {found[name].dtype}; expected one of {', '.join(DTYPES)}. "
                "This checkpoint seems to be quantised; pass the one it was made from."
            )


def closest(
    files: CheckpointFiles, found: Mapping[str, Stored], candidates: Mapping[str, tuple[Variant, Layout]]
) -> Variant:
    """The published variant that matches the shapes of a file without config; the width implies the number of heads.

    Raises:
        ValueError: No variant matches.
    """
    shapes = {name: t.shape for name, t in found.items()}
    shared = {name: len(layout.shapes.items() & shapes.items()) for name, (_, layout) in candidates.items()}
    best = max(shared, key=lambda name: shared[name])
    if not shared[best]:
        raise ValueError(
            f"{files.source} has no config.json beside it, and the shapes of its {len(found)} tensors match no "
            "published checkpoint. Put the checkpoint's config.json beside it."
        )
    variant, layout = candidates[best]
    check_shapes(files, found, layout.shapes, variant)
    return variant


def _other_names(
    files: CheckpointFiles,
    found: Mapping[str, Stored],
    missing: Collection[str],
    surplus: Collection[str],
    variant: Variant,
) -> str:
    """Message with the missing and the unexpected tensors."""
    counted = [
        f"{len(names)} {what} tensors: {_some(names)}"
        for what, names in (("missing", missing), ("unexpected", surplus))
        if names
    ]
    full = {id(stored): name for name, stored in files.tensors.items()}
    prefixes = {full[id(stored)].removesuffix(own) for own, stored in found.items()}
    where = "".join(f" under {prefix!r}" for prefix in sorted(prefixes - {""}))
    return (
        f"{files.source} has {', and '.join(counted)}. Expected exactly the tensors of {described(variant)}{where}. "
        f"{_remedy(files)}"
    )


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _remedy(files: CheckpointFiles) -> str:
    if files.config is not None:
        return "Check that the weights are complete and match the config.json beside them."
    if all(isinstance(t, StoredTensor) for t in files.tensors.values()):
        return "Without a config.json the closest published model is assumed; put the right config.json beside it."
    return "An npz file has no config, so its shapes decide; check that it is complete and holds a SigLIP tower."


def described(variant: Variant) -> str:
    """Describe a variant in a message: name, kind and sizes."""
    kind = "NaFlex" if variant.naflex else "fixed"
    sizes = f"width {variant.embed_dim}, {variant.depth} blocks, patch {variant.patch_size}, {variant.img_size} px"
    return f"{variant.name} ({kind}, {sizes})"


def conv_kernel(linear: Tensor, patch_size: int) -> Tensor:
    """Reshape a NaFlex kernel ``(D, P * P * 3)``, with the inner order (row, column, channel), to ``(D, 3, P, P)``."""
    return linear.reshape(-1, patch_size, patch_size, 3).permute(0, 3, 1, 2)


def read_in_place(
    found: Mapping[str, Stored], layout: Layout, wanted: Mapping[str, Wanted]
) -> Iterator[tuple[str, Tensor]]:
    """Read tensors of safetensors files, each directly into its own memory."""
    for name, want in wanted.items():
        value = torch.empty(want.shape, dtype=want.dtype, device="cpu")
        flat, done = value.view(-1), 0
        for part in layout.parts[name]:
            stored = found[part.name]
            assert isinstance(stored, StoredTensor)
            rows, (first, last) = stored.shape[0], part.thirds
            count = math.prod(stored.shape) * (last - first) // 3
            read_rows(stored, flat[done : done + count], (first * rows // 3, last * rows // 3))
            done += count
        if value.ndim == 4 and len(stored.shape) == 2:
            value = conv_kernel(value.reshape(value.shape[0], -1), value.shape[-1]).contiguous()
        yield name, value
