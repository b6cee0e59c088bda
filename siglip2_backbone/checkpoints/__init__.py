"""Convert checkpoints to our state dict: one module per format, strict in both directions.

Every tensor of the vision tower must be in the file with the expected shape; the only other tensors allowed are the
text tower and the two scalars. Only the needed tensors are read.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from typing import Protocol, cast

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from ..finite import is_finite
from ..tower import Siglip2VisionTransformer
from ..variants import VARIANTS, Variant
from . import big_vision_format, timm_format, transformers_format
from .family import refuse_other_family, refuse_saved_backbone, warn_of_content
from .layout import Layout, Wanted, check_shapes, described
from .quantised import refuse_quantised
from .sources import CheckpointFiles, Stored
from .tensor_files import DTYPES

_MOST_BLOCKS = 1024  # giant-opt has 40


class Format(Protocol):
    """Interface of the module of a format."""

    def variant_of(self, files: CheckpointFiles) -> Variant:
        """The architecture that a checkpoint holds."""

    def vision_tensors(self, files: CheckpointFiles) -> dict[str, Stored]:
        """The vision tensors by their names inside the tower."""

    def layout(self, variant: Variant, names: Collection[str]) -> Layout:
        """Where each of our tensors is, in a file with these names."""

    def read(
        self, found: Mapping[str, Stored], layout: Layout, wanted: Mapping[str, Wanted]
    ) -> Iterator[tuple[str, Tensor]]:
        """Read the wanted tensors of our state dict, in any order."""


def format_of(files: CheckpointFiles) -> Format:
    """The format of a checkpoint, from its config or, without one, from its tensors."""
    if big_vision_format.is_big_vision(files):
        return cast(Format, big_vision_format)
    return cast(Format, timm_format if timm_format.is_timm(files) else transformers_format)


def variant_of(files: CheckpointFiles) -> Variant:
    """The architecture that a checkpoint holds, from its config or, without one, from its shapes.

    A published architecture has its published name, any other one is called ``siglip2_custom``.

    Raises:
        ValueError: The checkpoint is of another model family, quantised, or describes an unsupported tower.
    """
    if files.config is None:
        refuse_other_family(files)
    refuse_saved_backbone(files)
    refuse_quantised(files)
    return format_of(files).variant_of(files)


def check_variant(files: CheckpointFiles, variant: Variant) -> None:
    """Refuse a checkpoint of another architecture than the named model's.

    Raises:
        ValueError: They differ.
    """
    found = variant_of(files)
    if not found.same_architecture(variant):
        raise ValueError(
            f"{files.source} holds {described(found)}; expected {described(variant)}. Use "
            f"{'create_backbone with its path' if found.name not in VARIANTS else found.name} instead."
        )


def check_tensors(files: CheckpointFiles, variant: Variant) -> tuple[dict[str, Stored], Layout]:
    """Check that the file has exactly the expected vision tensors; return them by name, and their layout.

    Raises:
        ValueError: A tensor is missing, surplus, of another shape or not floating point.
    """
    found = format_of(files).vision_tensors(files)
    _check_depth(files, variant)
    layout = format_of(files).layout(variant, found)
    check_shapes(files, found, layout.shapes, variant)
    return found, layout


def _check_depth(files: CheckpointFiles, variant: Variant) -> None:
    """Refuse an impossible number of blocks before looking for the tensors of each block."""
    most = _MOST_BLOCKS if files.config is None else min(_MOST_BLOCKS, len(files.tensors))
    if variant.depth > most:
        raise ValueError(
            f"{files.source} declares {variant.depth} blocks; its {len(files.tensors)} tensors allow at most {most}. "
            "Check that the weights are complete and match the config.json beside them."
        )


def stored_dtype(files: CheckpointFiles, variant: Variant) -> torch.dtype:
    """The narrowest dtype that holds every stored vision tensor of a checkpoint."""
    found, _ = check_tensors(files, variant)
    return reduce(torch.promote_types, (DTYPES[stored.dtype] for stored in found.values()))


@torch.no_grad()
def load_tower(tower: Siglip2VisionTransformer, files: CheckpointFiles, variant: Variant, device: torch.device) -> None:
    """Allocate a tower that was built on the meta device, and load its weights.

    Tensors that the tower has dropped (blocks, MAP head) are checked but not read. A classifier is newly initialised.

    Args:
        tower: Tower on the meta device.
        files: The checkpoint.
        variant: Its architecture.
        device: Where the weights go.

    Raises:
        ValueError: A tensor is missing, surplus, of another shape or not finite, or the file is damaged.
    """
    found, layout = check_tensors(files, variant)
    warn_of_content(files)
    classifier = {"head.weight", "head.bias"}
    parameters = {name: p for name, p in tower.named_parameters() if name not in classifier}
    stem = "patch_embed.proj.weight"
    wanted = {
        name: Wanted((variant.embed_dim, 3, *p.shape[2:]) if name == stem else tuple(p.shape), p.dtype)
        for name, p in parameters.items()
    }
    for name, value in format_of(files).read(found, layout, wanted):
        if not is_finite(value):
            raise ValueError(_not_finite(files, layout, name, value))
        if value.shape != parameters[name].shape:
            value = adapt_input_conv(parameters[name].shape[1], value)  # in_chans other than 3, by timm's rule
        _assign(tower, name, value.to(device))
    if isinstance(tower.head, nn.Linear):
        tower.head.to_empty(device=device)
        tower.head.reset_parameters()


def _not_finite(files: CheckpointFiles, layout: Layout, name: str, value: Tensor) -> str:
    """The message for one of our tensors, which names the tensor of the file that holds the values."""
    parts = layout.parts[name]
    pieces = value.reshape(len(parts), -1)
    part, piece = next((p, v) for p, v in zip(parts, pieces, strict=True) if not is_finite(v))
    layer = "" if part.layer is None else f" of block {part.layer}"
    wrong = piece[~piece.isfinite()]
    return (
        f"{files.source}: tensor {part.name}{layer} holds {wrong[0].item()} in {len(wrong)} of {len(piece)} values, "
        f"read as {value.dtype}; expected finite weights. Copy it again, or pass the checkpoint from before its "
        "training diverged; if float16 is too narrow for it, read it as float32."
    )


def _assign(tower: nn.Module, name: str, value: Tensor) -> None:
    """Replace a meta parameter by one with values."""
    path, _, leaf = name.rpartition(".")
    module = tower.get_submodule(path)
    old = getattr(module, leaf)
    setattr(module, leaf, nn.Parameter(value, requires_grad=old.requires_grad))
