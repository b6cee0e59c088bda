"""Convert checkpoints to our state dict: one module per format, strict in both directions.

Every tensor of the vision tower must be in the file with the expected shape; the only other tensors allowed are the
text tower and the two scalars. Only the needed tensors are read.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

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


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose format and architecture are known, and whose tensors fit them.

    Args:
        files: Its files.
        format: The module of its format.
        variant: Its architecture. A published one has its published name, any other one is called ``siglip2_custom``.
        tensors: The stored vision tensors by their names in the format.
        layout: Where each of our tensors is among them.
    """

    files: CheckpointFiles
    format: Format
    variant: Variant
    tensors: Mapping[str, Stored]
    layout: Layout

    @classmethod
    def of(cls, files: CheckpointFiles, expected: Variant | None = None) -> "Checkpoint":
        """Recognise a checkpoint, and check that it has exactly the vision tensors of its architecture.

        Args:
            files: The files.
            expected: The architecture that it must have; any by default.

        Raises:
            ValueError: The checkpoint is of another model family or architecture, quantised, or describes an
                unsupported tower; or a tensor is missing, surplus, of another shape or not floating point.
        """
        form, variant = _recognised(files)
        if expected is not None:
            _check_architecture(files, variant, expected)
            variant = expected
        tensors = form.vision_tensors(files)
        _check_depth(files, variant)
        layout = form.layout(variant, tensors)
        check_shapes(files, tensors, layout.shapes, variant)
        return cls(files, form, variant, tensors, layout)

    @property
    def dtype(self) -> torch.dtype:
        """The narrowest dtype that holds every stored vision tensor."""
        return reduce(torch.promote_types, (DTYPES[stored.dtype] for stored in self.tensors.values()))

    def read(self, wanted: Mapping[str, Wanted]) -> Iterator[tuple[str, Tensor]]:
        """Read tensors of our state dict, in any order.

        Raises:
            ValueError: The file is damaged, or a value is infinite or not a number.
        """
        for name, value in self.format.read(self.tensors, self.layout, wanted):
            if not is_finite(value):
                raise ValueError(_not_finite(self, name, value))
            yield name, value


def variant_of(files: CheckpointFiles) -> Variant:
    """The architecture that a checkpoint describes, from its config or, without one, from its shapes.

    Raises:
        ValueError: The checkpoint is of another model family, quantised, or describes an unsupported tower.
    """
    return _recognised(files)[1]


def _recognised(files: CheckpointFiles) -> tuple[Format, Variant]:
    if files.config is None:
        refuse_other_family(files)
    refuse_saved_backbone(files)
    refuse_quantised(files)
    form: Any = transformers_format
    if big_vision_format.is_big_vision(files):
        form = big_vision_format
    elif timm_format.is_timm(files):
        form = timm_format
    return form, form.variant_of(files)


def _check_architecture(files: CheckpointFiles, found: Variant, expected: Variant) -> None:
    if not found.same_architecture(expected):
        raise ValueError(
            f"{files.source} holds {described(found)}; expected {described(expected)}. Use "
            f"{'create_backbone with its path' if found.name not in VARIANTS else found.name} instead."
        )


def _check_depth(files: CheckpointFiles, variant: Variant) -> None:
    """Refuse an impossible number of blocks before looking for the tensors of each block."""
    most = _MOST_BLOCKS if files.config is None else min(_MOST_BLOCKS, len(files.tensors))
    if variant.depth > most:
        raise ValueError(
            f"{files.source} declares {variant.depth} blocks; its {len(files.tensors)} tensors allow at most {most}. "
            "Check that the weights are complete and match the config.json beside them."
        )


@torch.no_grad()
def load_tower(tower: Siglip2VisionTransformer, checkpoint: Checkpoint, device: torch.device) -> None:
    """Allocate a tower that was built on the meta device, and load its weights.

    Tensors that the tower has dropped (blocks, MAP head) are checked but not read. A classifier is newly initialised.

    Args:
        tower: Tower on the meta device.
        checkpoint: The checkpoint.
        device: Where the weights go.

    Raises:
        ValueError: The file is damaged, or a value is infinite or not a number.
    """
    warn_of_content(checkpoint.files)
    classifier = {"head.weight", "head.bias"}
    parameters = {name: p for name, p in tower.named_parameters() if name not in classifier}
    stem = "patch_embed.proj.weight"
    wanted = {
        name: Wanted((checkpoint.variant.embed_dim, 3, *p.shape[2:]) if name == stem else tuple(p.shape), p.dtype)
        for name, p in parameters.items()
    }
    for name, value in checkpoint.read(wanted):
        if value.shape != parameters[name].shape:
            value = adapt_input_conv(parameters[name].shape[1], value)  # in_chans other than 3, by timm's rule
        _assign(tower, name, value.to(device))
    if isinstance(tower.head, nn.Linear):
        tower.head.to_empty(device=device)
        tower.head.reset_parameters()


def _not_finite(checkpoint: Checkpoint, name: str, value: Tensor) -> str:
    """The message for one of our tensors, which names the tensor of the file that holds the values."""
    parts = checkpoint.layout.parts[name]
    pieces = value.reshape(len(parts), -1)
    part, piece = next((p, v) for p, v in zip(parts, pieces, strict=True) if not is_finite(v))
    layer = "" if part.layer is None else f" of block {part.layer}"
    wrong = piece[~piece.isfinite()]
    return (
        f"{checkpoint.files.source}: tensor {part.name}{layer} holds {wrong[0].item()} in {len(wrong)} of {len(piece)} "
        f"values, read as {value.dtype}; expected finite weights. Copy it again, or pass the checkpoint from before "
        "its training diverged; if float16 is too narrow for it, read it as float32."
    )


def _assign(tower: nn.Module, name: str, value: Tensor) -> None:
    """Replace a meta parameter by one with values."""
    path, _, leaf = name.rpartition(".")
    module = tower.get_submodule(path)
    old = getattr(module, leaf)
    setattr(module, leaf, nn.Parameter(value, requires_grad=old.requires_grad))
