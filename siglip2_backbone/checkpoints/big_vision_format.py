"""Convert checkpoints in big_vision's format (npz) to our state dict.

Blocks are stacked along a leading axis by flax's ``nn.scan``, or numbered. Kernels are stored input first, so nearly
every one is transposed; many are square, and would load untransposed without an error.

Source: google-research/big_vision @ 0127fb6 ``models/vit.py``, ``models/proj/image_text/naflex_vit.py``.
"""

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from ..variants import CUSTOM, Variant, native_size, published
from .layout import Layout, Part, Wanted, conv_kernel
from .layout import vision_tensors as without_prefix
from .npz_files import StoredArray, read_slices
from .sources import CheckpointFiles, Stored

# of the whole model, or of a tower extracted in different ways
_PREFIXES = ("params/img/", "img/", "params/", "")
_NOT_VISION = re.compile(r"(params/)?(txt/.*|t|b)|opt/.*|chrono/.*")
_ATTENTION = "MultiHeadDotProductAttention_0"


def is_big_vision(files: CheckpointFiles) -> bool:
    """Whether a checkpoint is an npz file."""
    return bool(files.tensors) and all(isinstance(t, StoredArray) for t in files.tensors.values())


def vision_tensors(files: CheckpointFiles) -> dict[str, Stored]:
    """The arrays of the vision tower by their names inside it."""
    prefix = next((p for p in _PREFIXES if f"{p}embedding/kernel" in files.tensors), _PREFIXES[0])
    return without_prefix(files, prefix, _NOT_VISION)


def variant_of(files: CheckpointFiles) -> Variant:
    """The architecture from the shapes, which determine all of it except the side of the native image.

    Raises:
        ValueError: Required arrays are missing or have shapes that no tower has.
    """
    found = vision_tensors(files)
    stacked, numbered = f"{_blocks()}/{_ATTENTION}/query/kernel", f"{_blocks(0)}/{_ATTENTION}/query/kernel"
    query, lead = (stacked, 1) if stacked in found else (numbered, 0)
    names = ("embedding/kernel", "pos_embedding", query, "MAPHead_0/MlpBlock_0/Dense_0/kernel")
    if missing := [name for name in names if name not in found]:
        raise ValueError(
            f"{files.source} has no array {missing[0]}; expected a SigLIP vision tower as big_vision saves it, with "
            "its MAP head. Pass an npz file such as siglip2_b16_256.npz, from google/siglip2-base-patch16-256-jax."
        )
    kernel, table, heads, mlp = (found[name].shape for name in names)
    ranks = len(kernel) in (2, 4) and (len(table), len(heads), len(mlp)) == (3, 3 + lead, 2)
    patch = kernel[0] if len(kernel) == 4 else math.isqrt(kernel[0] // 3) if ranks else 0
    if not ranks or not patch or 0 in (*kernel, *table, *heads, *mlp) or heads[-2] * heads[-1] != heads[-3]:
        shapes = ", ".join(f"{name} {found[name].shape}" for name in names)
        raise ValueError(f"{files.source} has arrays of shapes that no SigLIP tower has: {shapes}.")
    cells = math.prod(table[:-1])
    depth = heads[0] if lead else sum(1 for name in found if re.fullmatch(rf"{_blocks()}_\d+/LayerNorm_0/scale", name))
    side = native_size(patch, math.isqrt(cells))
    return published(Variant(CUSTOM, mlp[0], depth, heads[-2], mlp[1], patch, side, len(kernel) == 2))


def _blocks(number: int | None = None) -> str:
    return "Transformer/encoderblock" + ("" if number is None else f"_{number}")


def layout(variant: Variant, names: Collection[str]) -> Layout:
    """Where our tensors are; the names distinguish stacked and numbered blocks."""
    stacked = any(name.startswith(f"{_blocks()}/") for name in names)
    d, m, p, g = variant.embed_dim, variant.mlp_dim, variant.patch_size, variant.grid_size
    parts = {
        "pos_embed": [Part("pos_embedding")],
        "patch_embed.proj.weight": [Part("embedding/kernel")],
        "patch_embed.proj.bias": [Part("embedding/bias")],
        "norm.weight": [Part("Transformer/encoder_norm/scale")],
        "norm.bias": [Part("Transformer/encoder_norm/bias")],
        "attn_pool.latent": [Part("MAPHead_0/probe")],
        "attn_pool.norm.weight": [Part("MAPHead_0/LayerNorm_0/scale")],
        "attn_pool.norm.bias": [Part("MAPHead_0/LayerNorm_0/bias")],
    }
    parts |= _linear("attn_pool", "MAPHead_0", None, {"q": ("query",), "kv": ("key", "value")})
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embedding": (g, g, d) if variant.naflex else (1, g * g, d),
        "embedding/kernel": (p * p * 3, d) if variant.naflex else (p, p, 3, d),
        "embedding/bias": (d,),
        "Transformer/encoder_norm/scale": (d,),
        "Transformer/encoder_norm/bias": (d,),
        "MAPHead_0/probe": (1, 1, d),
    } | {f"MAPHead_0/{name}": shape for name, shape in _shapes(d, m, variant.num_heads, 1).items()}
    for i in range(variant.depth):
        theirs, layer = (_blocks(), i) if stacked else (_blocks(i), None)
        for ours, norm in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_1")):
            parts[f"blocks.{i}.{ours}.weight"] = [Part(f"{theirs}/{norm}/scale", layer=layer)]
            parts[f"blocks.{i}.{ours}.bias"] = [Part(f"{theirs}/{norm}/bias", layer=layer)]
        parts |= _linear(f"blocks.{i}", theirs, layer, {"attn.qkv": ("query", "key", "value")})
        lead = (variant.depth,) if stacked else ()
        shapes |= {f"{theirs}/{name}": lead + shape for name, shape in _shapes(d, m, variant.num_heads, 2).items()}
    return Layout(parts, shapes)


def _linear(ours: str, theirs: str, layer: int | None, fused: dict[str, tuple[str, ...]]) -> dict[str, list[Part]]:
    """The linear layers of a block or of the MAP head."""
    attention = "attn." if "attn.qkv" in fused else ""
    names = {f"{ours}.{name}": [f"{theirs}/{_ATTENTION}/{x}" for x in inputs] for name, inputs in fused.items()}
    names[f"{ours}.{attention}proj"] = [f"{theirs}/{_ATTENTION}/out"]
    names[f"{ours}.mlp.fc1"] = [f"{theirs}/MlpBlock_0/Dense_0"]
    names[f"{ours}.mlp.fc2"] = [f"{theirs}/MlpBlock_0/Dense_1"]
    return {
        f"{name}.{kind}": [Part(f"{source}/{leaf}", layer=layer) for source in sources]
        for name, sources in names.items()
        for kind, leaf in (("weight", "kernel"), ("bias", "bias"))
    }


def _shapes(d: int, m: int, heads: int, norms: int) -> dict[str, tuple[int, ...]]:
    """Shapes inside one block or the MAP head."""
    shapes: dict[str, tuple[int, ...]] = {
        f"{_ATTENTION}/out/kernel": (heads, d // heads, d),
        f"{_ATTENTION}/out/bias": (d,),
        "MlpBlock_0/Dense_0/kernel": (d, m),
        "MlpBlock_0/Dense_0/bias": (m,),
        "MlpBlock_0/Dense_1/kernel": (m, d),
        "MlpBlock_0/Dense_1/bias": (d,),
    }
    for x in ("query", "key", "value"):
        shapes |= {f"{_ATTENTION}/{x}/kernel": (d, heads, d // heads), f"{_ATTENTION}/{x}/bias": (heads, d // heads)}
    for i in range(norms):
        shapes |= {f"LayerNorm_{i}/scale": (d,), f"LayerNorm_{i}/bias": (d,)}
    return shapes


def read(found: Mapping[str, Stored], layout: Layout, wanted: Mapping[str, Wanted]) -> Iterator[tuple[str, Tensor]]:
    """Read arrays member by member, and yield each of our tensors once its last part is read."""
    places: dict[str, dict[int | None, tuple[str, int]]] = defaultdict(dict)
    for name in wanted:
        for i, part in enumerate(layout.parts[name]):
            places[part.name][part.layer] = (name, i)
    begun: dict[str, Tensor] = {}  # incomplete tensors only, which keeps the peak memory low
    missing = {name: len(layout.parts[name]) for name in wanted}
    for source, by_layer in places.items():
        stored = found[source]
        assert isinstance(stored, StoredArray)
        stacked = None not in by_layer
        for i, value in enumerate(read_slices(stored, stacked)):
            if (place := by_layer.get(i if stacked else None)) is None:
                continue
            name, index = place
            want = wanted[name]
            ours = begun.setdefault(name, torch.empty(want.shape, dtype=want.dtype, device="cpu"))
            ours.view(len(layout.parts[name]), -1)[index].copy_(arranged(source, value).reshape(-1))
            missing[name] -= 1
            if not missing[name]:
                yield name, begun.pop(name)


def arranged(name: str, value: Tensor) -> Tensor:
    """Reorder an array of the file as in our tensors: outputs first."""
    # (rows, columns, channels, D), for NaFlex flattened to (rows * columns * channels, D)
    if name == "embedding/kernel":
        return value.permute(3, 2, 0, 1) if value.ndim == 4 else conv_kernel(value.T, math.isqrt(len(value) // 3))
    if not name.endswith("/kernel"):
        return value
    if name.endswith("/out/kernel"):  # (heads, width of a head, D)
        return value.flatten(0, 1).T
    return value.flatten(1).T  # (D, heads, width of a head), or (inputs, outputs)
