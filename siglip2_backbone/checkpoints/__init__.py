"""Foreign checkpoints to our state dict: one file a format, total and strict in both directions.

Every tensor of the vision tower must be in the file with the expected shape, and nothing else may be there but the text
tower and the two scalars. Only what is needed is read.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from typing import Protocol, cast

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

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
    """What the module of a format offers."""

    def variant_of(self, files: CheckpointFiles) -> Variant:
        """The architecture that a checkpoint holds."""

    def vision_tensors(self, files: CheckpointFiles) -> dict[str, Stored]:
        """The vision tensors by their names inside the tower."""

    def layout(self, variant: Variant, names: Collection[str]) -> Layout:
        """Where each of our tensors is, in a file with these names."""

    def read(
        self, found: Mapping[str, Stored], layout: Layout, wanted: Mapping[str, Wanted]
    ) -> Iterator[tuple[str, Tensor]]:
        """Read the tensors of our state dict that are wanted, in any order."""


def format_of(files: CheckpointFiles) -> Format:
    """The format of a checkpoint, by its config or, without one, by what it holds."""
    if big_vision_format.is_big_vision(files):
        return cast(Format, big_vision_format)
    return cast(Format, timm_format if timm_format.is_timm(files) else transformers_format)


def variant_of(files: CheckpointFiles) -> Variant:
    """The architecture that a checkpoint holds, from its config or, where there is none, from its shapes.

    A published architecture comes back with its published name, any other one as ``siglip2_custom``.

    Raises:
        ValueError: The checkpoint is of another model family or quantised, or describes what this tower is not.
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
            f"{files.source} holds {described(found)}; the model asked for is {described(variant)}. Use "
            f"{'create_backbone with its path' if found.name not in VARIANTS else found.name} instead."
        )


def check_tensors(files: CheckpointFiles, variant: Variant) -> tuple[dict[str, Stored], Layout]:
    """The vision tensors by name and where ours are among them, after checking that the file has exactly those.

    Raises:
        ValueError: A tensor is missing, surplus, of another shape or not floating point.
    """
    found = format_of(files).vision_tensors(files)
    _check_depth(files, variant)
    layout = format_of(files).layout(variant, found)
    check_shapes(files, found, layout.shapes, variant)
    return found, layout


def _check_depth(files: CheckpointFiles, variant: Variant) -> None:
    """Refuse a number of blocks that cannot be there, before each block's tensors are looked for."""
    most = _MOST_BLOCKS if files.config is None else min(_MOST_BLOCKS, len(files.tensors))
    if variant.depth > most:
        raise ValueError(
            f"{files.source} is said to have {variant.depth} blocks; its {len(files.tensors)} tensors are those of at "
            f"most {most}. Check that the weights are whole and that the config.json beside them is theirs."
        )


def stored_dtype(files: CheckpointFiles, variant: Variant) -> torch.dtype:
    """The narrowest type that holds every vision tensor of a checkpoint as it is stored."""
    found, _ = check_tensors(files, variant)
    return reduce(torch.promote_types, (DTYPES[stored.dtype] for stored in found.values()))


@torch.no_grad()
def load_tower(tower: Siglip2VisionTransformer, files: CheckpointFiles, variant: Variant, device: torch.device) -> None:
    """Give a tower that was built on the meta device its memory and its weights.

    Tensors that the tower has dropped (blocks, MAP head) are checked but not read. A classifier is left freshly made.

    Args:
        tower: Tower on the meta device.
        files: The checkpoint.
        variant: Its architecture.
        device: Where the weights go.

    Raises:
        ValueError: A tensor is missing, surplus, of another shape, or the file is damaged.
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
        if value.shape != parameters[name].shape:
            value = adapt_input_conv(parameters[name].shape[1], value)  # in_chans other than 3, by timm's rule
        _assign(tower, name, value.to(device))
    if isinstance(tower.head, nn.Linear):
        tower.head.to_empty(device=device)
        tower.head.reset_parameters()


def _assign(tower: nn.Module, name: str, value: Tensor) -> None:
    """Replace a meta parameter by one with values."""
    path, _, leaf = name.rpartition(".")
    module = tower.get_submodule(path)
    old = getattr(module, leaf)
    setattr(module, leaf, nn.Parameter(value, requires_grad=old.requires_grad))
