"""Compare a tower with transformers' SiglipVisionModel or Siglip2VisionModel on the weights of a checkpoint.

For a checkpoint in google's format both sides read the file, so the comparison covers reading as well. transformers
cannot read the formats of timm and big_vision: there, the weights as read by this library are converted in memory, and
only the towers are compared.

Tolerances (relative L2): 1e-13 in float64, where only rounding differs; 5e-7 in float64 where transformers resizes
NaFlex positions in float32; 3e-6 in float32, where rounding is 6e-7 to 9e-7. The smallest known mistake, the exact
GELU, is above 1e-4.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor

from .checkpoints import Checkpoint, transformers_format
from .checkpoints.sources import CheckpointFiles
from .checkpoints.tensor_files import StoredTensor
from .conversion import to_transformers, transformers_configs
from .factory import build_tower, open_tower, pretrained_cfg
from .tower import Siglip2VisionTransformer
from .variants import Variant

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOLERANCES = {torch.float64: 1e-13, torch.float32: 3e-6}
_FLOAT32_RESIZE = 5e-7


@dataclass(frozen=True)
class Difference:
    """Difference between one output of the tower and that of transformers.

    Args:
        output: Name of the output.
        size: Height and width of the image [px].
        max_abs: Largest absolute difference.
        rel_l2: L2 norm of the difference relative to that of transformers' output.
        tolerance: Largest ``rel_l2`` that counts as agreement.
    """

    output: str
    size: tuple[int, int]
    max_abs: float
    rel_l2: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the tolerance; NaN is not."""
        return self.rel_l2 <= self.tolerance


def verify(
    source: str | Path,
    *,
    dtype: torch.dtype = torch.float64,
    size: Sequence[int] | None = None,
    cache_dir: str | Path | None = None,
) -> list[Difference]:
    """Compare embeddings, every block, the last hidden state and the pooled output, at the native and a second size.

    Args:
        source: Any source of :func:`~siglip2_backbone.create_backbone`.
        dtype: float64, or float32, which needs half the memory (two towers in this type).
        size: Height and width of the second image [px], multiples of the patch; by default 3/4 and 5/4 of the grid.
        cache_dir: Folder of huggingface_hub's cache, if not the default one.

    Raises:
        ValueError: The source cannot be read, or ``dtype`` or ``size`` is not supported.
    """
    if dtype not in _TOLERANCES:
        raise ValueError(f"dtype is {dtype}; expected torch.float64 or torch.float32.")
    checkpoint = open_tower(source, cache_dir)
    variant = checkpoint.variant
    native = (variant.img_size, variant.img_size)
    other = _other_size(variant, size)
    rule = "bilinear_antialias" if variant.naflex else "bicubic"  # as in transformers
    args: dict[str, Any] = {"pos_interp": rule, "device": "cpu", "dtype": dtype}
    tower = build_tower(variant, checkpoint, pretrained_cfg=pretrained_cfg(variant), **args)
    assert isinstance(tower, Siglip2VisionTransformer)
    reference = _reference(checkpoint, tower, dtype)
    # transformers casts a NaFlex table to float32 even at its native size
    exact = not variant.naflex or checkpoint.dtype != torch.float64
    tolerance = _TOLERANCES[dtype]
    loose = max(tolerance, _FLOAT32_RESIZE)
    return [
        *compare(tower, reference, _image(native, dtype), tolerance if exact else loose),
        *compare(tower, reference, _image(other, dtype), loose if variant.naflex else tolerance),
    ]


def _other_size(variant: Variant, size: Sequence[int] | None) -> tuple[int, int]:
    patch, grid = variant.patch_size, variant.grid_size
    if size is None:
        return max(1, grid * 3 // 4) * patch, max(2, grid * 5 // 4) * patch
    if len(size) != 2 or any(side < patch or side % patch for side in size):
        raise ValueError(
            f"size is {list(size)}; expected height and width, multiples of {patch} px: transformers crops to whole "
            "patches, and this tower pads."
        )
    if variant.naflex and size[1] == patch:  # torch's antialiased resize to one column is wrong
        raise ValueError(
            f"size is {list(size)}; expected at least {2 * patch} px of width: transformers is wrong for one column."
        )
    return size[0], size[1]


def _image(size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, *size, generator=generator, dtype=torch.float64, device="cpu").to(dtype)


def _reference(checkpoint: Checkpoint, tower: Siglip2VisionTransformer, dtype: torch.dtype) -> "PreTrainedModel":
    """transformers' tower with the same weights."""
    from transformers import Siglip2VisionConfig, Siglip2VisionModel, SiglipVisionConfig, SiglipVisionModel

    files, variant = checkpoint.files, checkpoint.variant
    own: bool = checkpoint.format is transformers_format
    config = transformers_configs(variant, dtype)["config.json"]
    if own and files.config is not None:
        config = files.config.get("vision_config", files.config)
    state = _stored(files) if own else to_transformers(tower.state_dict(), variant)
    model: Any
    with torch.device("cpu"):
        if variant.naflex:
            model = Siglip2VisionModel(Siglip2VisionConfig.from_dict(config))
        else:
            model = SiglipVisionModel(SiglipVisionConfig.from_dict(config))
    model.to(dtype).load_state_dict(state)
    # the eager attention of transformers computes its softmax in float32 even in a float64 model
    model.set_attn_implementation("sdpa")
    reference: PreTrainedModel = model.eval()
    return reference


def _stored(files: CheckpointFiles) -> dict[str, Tensor]:
    """The vision tensors as the safetensors library reads them, by transformers' names."""
    prefix = transformers_format.prefix_of(files)
    state: dict[str, Tensor] = {}
    by_path: dict[Path, list[str]] = defaultdict(list)
    for name, stored in transformers_format.vision_tensors(files).items():
        assert isinstance(stored, StoredTensor)
        by_path[stored.path].append(name)
    for path, names in by_path.items():
        with safe_open(path, "pt") as file:
            state |= {name: file.get_tensor(f"{prefix}{name}") for name in names}
    return state


@torch.no_grad()
def compare(
    tower: Siglip2VisionTransformer, reference: "PreTrainedModel", image: Tensor, tolerance: float
) -> list[Difference]:
    """Compare every output of two towers on one image ``(1, 3, H, W)``, whose sides are multiples of the patch."""
    tower.eval()
    if hasattr(reference.config, "num_patches"):
        expected = reference(**patchified(image, reference.config.patch_size), output_hidden_states=True)
    else:
        expected = reference(image, interpolate_pos_encoding=True, output_hidden_states=True)
    last, blocks = tower.forward_intermediates(image, output_fmt="NLC")
    embeddings = tower._pos_embed(tower.patch_embed(image))
    found = {"embeddings": embeddings} | {f"block {i}": block for i, block in enumerate(blocks)}
    # transformers' hidden states are the embeddings and then the output of each block, before the final norm
    pairs = [(name, value, state) for (name, value), state in zip(found.items(), expected.hidden_states, strict=True)]
    pairs.append(("last hidden state", last, expected.last_hidden_state))
    pairs.append(("pooled", tower.forward_head(last, pre_logits=True), expected.pooler_output))
    size = (image.shape[-2], image.shape[-1])
    return [_difference(name, size, ours, theirs, tolerance) for name, ours, theirs in pairs]


def _difference(name: str, size: tuple[int, int], ours: Tensor, theirs: Tensor, tolerance: float) -> Difference:
    off = ours.double() - theirs.double()
    return Difference(name, size, float(off.abs().max()), float(off.norm() / theirs.double().norm()), tolerance)


def patchified(image: Tensor, patch: int) -> dict[str, Tensor]:
    """Convert images ``(B, 3, H, W)`` for transformers' NaFlex tower: patches by row, each (row, column, channel)."""
    batch, channels, height, width = image.shape
    rows, columns = height // patch, width // patch
    patches = image.reshape(batch, channels, rows, patch, columns, patch).permute(0, 2, 4, 3, 5, 1)
    return {
        "pixel_values": patches.reshape(batch, rows * columns, -1),
        "pixel_attention_mask": torch.ones(batch, rows * columns, dtype=torch.int64),
        "spatial_shapes": torch.tensor([[rows, columns]] * batch),
    }
