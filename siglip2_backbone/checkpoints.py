"""Checkpoints in google's format (transformers' SiglipModel and Siglip2Model) to our state dict.

The map is total and strict in both directions: every tensor of the vision tower must be in the file with the expected
shape, and nothing else may be there but the text tower and the two scalars. Only the bytes that are needed are read.

Source of names and defaults: huggingface/transformers 5.23 ``models/siglip`` and ``models/siglip2``.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from .sources import CheckpointFiles
from .tensor_files import DTYPES, StoredTensor, read_rows
from .tower import Siglip2VisionTransformer
from .variants import CUSTOM, VARIANTS, Variant

_PREFIX = "vision_model."
_NOT_VISION = ("text_model.", "logit_scale", "logit_bias")
# hub files leave out what equals the default of transformers' SiglipVisionConfig and Siglip2VisionConfig
_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "patch_size": 16,
    "image_size": 224,
    "num_patches": 256,
    "num_channels": 3,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "vision_use_head": True,
}
_FIXED = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "vision_use_head": True, "num_channels": 3}


@dataclass(frozen=True)
class Part:
    """A tensor of the file, or a third or two of its rows: one of our tensors is one or more parts, one after another.

    Args:
        name: Name in the file, without ``vision_model.``.
        thirds: First third and the third after the last one, of a fused q, k, v tensor.
    """

    name: str
    thirds: tuple[int, int] = (0, 3)


def key_map(depth: int) -> dict[str, list[Part]]:
    """Where each tensor of our state dict comes from: ours -> the file's."""
    ours = {
        "pos_embed": [Part("embeddings.position_embedding.weight")],
        "attn_pool.latent": [Part("head.probe")],
    }
    modules = {
        "patch_embed.proj": "embeddings.patch_embedding",
        "norm": "post_layernorm",
        "attn_pool.proj": "head.attention.out_proj",
        "attn_pool.norm": "head.layernorm",
        "attn_pool.mlp.fc1": "head.mlp.fc1",
        "attn_pool.mlp.fc2": "head.mlp.fc2",
    }
    for i in range(depth):
        block, layer = f"blocks.{i}", f"encoder.layers.{i}"
        modules |= {
            f"{block}.norm1": f"{layer}.layer_norm1",
            f"{block}.norm2": f"{layer}.layer_norm2",
            f"{block}.attn.proj": f"{layer}.self_attn.out_proj",
            f"{block}.mlp.fc1": f"{layer}.mlp.fc1",
            f"{block}.mlp.fc2": f"{layer}.mlp.fc2",
        }
    for kind in ("weight", "bias"):
        ours |= {f"{name}.{kind}": [Part(f"{theirs}.{kind}")] for name, theirs in modules.items()}
        ours[f"attn_pool.q.{kind}"] = [Part(f"head.attention.in_proj_{kind}", (0, 1))]
        ours[f"attn_pool.kv.{kind}"] = [Part(f"head.attention.in_proj_{kind}", (1, 3))]
        for i in range(depth):
            attention = f"encoder.layers.{i}.self_attn"
            ours[f"blocks.{i}.attn.qkv.{kind}"] = [Part(f"{attention}.{x}_proj.{kind}") for x in "qkv"]
    return ours


def expected_shapes(variant: Variant) -> dict[str, tuple[int, ...]]:
    """Shape of every vision tensor in a file of this architecture, by the file's name without ``vision_model.``."""
    d, m, p = variant.embed_dim, variant.mlp_dim, variant.patch_size
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.patch_embedding.weight": (d, p * p * 3) if variant.naflex else (d, 3, p, p),
        "embeddings.position_embedding.weight": (variant.grid_size**2, d),
        "head.probe": (1, 1, d),
        "head.attention.in_proj_weight": (3 * d, d),
        "head.attention.in_proj_bias": (3 * d,),
    }
    for part in (part for parts in key_map(variant.depth).values() for part in parts):
        if part.name not in shapes:
            rows = m if ".fc1." in part.name else d
            columns = {"fc1": d, "fc2": m}.get(part.name.split(".")[-2], d)
            is_matrix = part.name.endswith("weight") and "norm" not in part.name.split(".")[-2]
            shapes[part.name] = (rows, columns) if is_matrix else (rows,)
    return shapes


def variant_of(files: CheckpointFiles) -> Variant:
    """The architecture that a checkpoint holds, from its sparse config.json or, for a lone file, from its shapes.

    A published architecture comes back with its published name, any other one as ``siglip2_custom``.

    Raises:
        ValueError: The config is of another model family or describes what this tower is not.
    """
    if files.config is None:
        return _by_shapes(files)
    naflex = _is_naflex(files.source, files.config)
    value = _vision_values(files.source, files.config)
    side = value["patch_size"] * round(value["num_patches"] ** 0.5) if naflex else value["image_size"]
    found = Variant(
        CUSTOM,
        value["hidden_size"],
        value["num_hidden_layers"],
        value["num_attention_heads"],
        value["intermediate_size"],
        value["patch_size"],
        side,
        naflex,
    )
    return next((v for v in VARIANTS.values() if v.same_architecture(found)), found)


def _is_naflex(source: str, config: dict[str, Any]) -> bool:
    family = config.get("model_type")
    if str(family) not in {"siglip", "siglip2", "siglip_vision_model", "siglip2_vision_model"}:
        raise ValueError(
            f"{source}: config.json says model_type = {family!r}; expected a SigLIP vision tower (siglip, siglip2, "
            "siglip_vision_model or siglip2_vision_model). Pass a checkpoint such as google/siglip2-base-patch16-256."
        )
    return str(family).startswith("siglip2")


def _vision_values(source: str, config: dict[str, Any]) -> dict[str, Any]:
    """The vision tower's settings, with what the config leaves out filled in and what this tower is not refused."""
    vision = config.get("vision_config", config)
    if not isinstance(vision, dict):
        raise ValueError(f"{source}: config.json says vision_config = {vision!r}; expected a JSON object.")
    value = {key: vision.get(key, default) for key, default in _DEFAULTS.items()}
    for key, only in _FIXED.items():
        if value[key] != only:
            raise ValueError(f"{source}: config.json says {key} = {value[key]!r}; SigLIP 2 towers have {only!r}.")
    for key in _DEFAULTS.keys() - _FIXED.keys():
        if type(value[key]) is not int or value[key] < 1:
            raise ValueError(f"{source}: config.json says {key} = {value[key]!r}; expected a positive whole number.")
    width, heads = value["hidden_size"], value["num_attention_heads"]
    if width % heads:
        raise ValueError(
            f"{source}: config.json says hidden_size = {width} and num_attention_heads = {heads}; expected a "
            "width that the heads divide. Check that it is the config.json of this checkpoint."
        )
    return value


def _by_shapes(files: CheckpointFiles) -> Variant:
    """The published variant whose shapes a file without config has; heads, unseen in a shape, follow from the width."""
    found = {name: t.shape for name, t in _vision_tensors(files).items()}
    shared = {v.name: len(expected_shapes(v).items() & found.items()) for v in VARIANTS.values()}
    closest = max(VARIANTS.values(), key=lambda v: shared[v.name])
    if not shared[closest.name]:
        raise ValueError(
            f"{files.source} has no config.json beside it, and its {len(found)} tensors have the shapes of no "
            "published checkpoint. Put the checkpoint's config.json beside it."
        )
    check_tensors(files, closest)
    return closest


def _vision_tensors(files: CheckpointFiles) -> dict[str, StoredTensor]:
    """The file's vision tensors without their prefix; everything that is not of SigLIP is refused."""
    prefix = _PREFIX if any(name.startswith(_PREFIX) for name in files.tensors) else ""
    named = {name: t for name, t in files.tensors.items() if not name.startswith(_NOT_VISION)}
    if not named:
        kinds = sorted({name.split(".")[0] for name in files.tensors}) or ["nothing"]
        raise ValueError(
            f"{files.source} has no vision tensors (found only {', '.join(kinds)}); expected names that start with "
            f"{_PREFIX!r}. Pass the file of the whole model or of its vision tower."
        )
    foreign = [name for name in named if not name.startswith(prefix)]
    if foreign:
        raise ValueError(_named(files, "unexpected tensors", foreign, f"names that start with {_PREFIX!r}"))
    return {name.removeprefix(prefix): t for name, t in named.items()}


def _named(files: CheckpointFiles, what: str, names: list[str], expected: str) -> str:
    shown = ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{files.source} has {len(names)} {what}: {shown}. Expected exactly {expected}. {_remedy(files)}"


def _remedy(files: CheckpointFiles) -> str:
    if files.config is None:
        return "No config.json lies beside it, so the closest published model was taken; put the right one beside it."
    return "Check that the weights are whole and that the config.json beside them is theirs."


def check_tensors(files: CheckpointFiles, variant: Variant) -> dict[str, StoredTensor]:
    """The vision tensors by name, after checking that all are there, no other one is, and every shape and type fits.

    Raises:
        ValueError: A tensor is missing, surplus, of another shape or not floating point.
    """
    found, expected = _vision_tensors(files), expected_shapes(variant)
    if missing := sorted(expected.keys() - found.keys()):
        raise ValueError(_named(files, "missing tensors", missing, f"the tensors of {_described(variant)}"))
    if surplus := sorted(found.keys() - expected.keys()):
        raise ValueError(_named(files, "unexpected tensors", surplus, f"the tensors of {_described(variant)}"))
    for name, shape in expected.items():
        if found[name].shape != shape:
            raise ValueError(
                f"{files.source}: tensor {name} has shape {found[name].shape}; expected {shape} for "
                f"{_described(variant)}. {_remedy(files)}"
            )
        if found[name].dtype not in DTYPES:
            raise ValueError(
                f"{files.source}: tensor {name} is stored as {found[name].dtype}; expected one of {', '.join(DTYPES)}. "
                "Pass the checkpoint that is not quantised."
            )
    return found


def _described(variant: Variant) -> str:
    kind = "NaFlex" if variant.naflex else "fixed"
    sizes = f"width {variant.embed_dim}, {variant.depth} blocks, patch {variant.patch_size}, {variant.img_size} px"
    return f"{variant.name} ({kind}, {sizes})"


def check_variant(files: CheckpointFiles, variant: Variant) -> None:
    """Refuse a checkpoint of another architecture than the named model's.

    Raises:
        ValueError: They differ.
    """
    found = variant_of(files)
    if not found.same_architecture(variant):
        raise ValueError(
            f"{files.source} holds {_described(found)}; the model asked for is {_described(variant)}. Use "
            f"{'create_backbone with its path' if found.name not in VARIANTS else found.name} instead."
        )


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
    found = check_tensors(files, variant)
    sources = key_map(variant.depth)
    classifier = {"head.weight", "head.bias"}
    for name, parameter in list(tower.named_parameters()):
        if name in classifier:
            continue
        shape = (variant.embed_dim, 3, *parameter.shape[2:]) if name == "patch_embed.proj.weight" else parameter.shape
        value = torch.empty(shape, dtype=parameter.dtype, device="cpu")
        _read_parts(value, [(found[part.name], part.thirds) for part in sources[name]], variant)
        if value.shape != parameter.shape:
            value = adapt_input_conv(parameter.shape[1], value)  # in_chans other than 3, by timm's rule
        _assign(tower, name, value.to(device))
    if isinstance(tower.head, nn.Linear):
        tower.head.to_empty(device=device)
        tower.head.reset_parameters()


def _read_parts(value: Tensor, parts: list[tuple[StoredTensor, tuple[int, int]]], variant: Variant) -> None:
    """Fill ``value`` with its parts; a NaFlex kernel is stored as (D, patch, patch, channels)."""
    stored = parts[0][0]
    if value.ndim == 4 and len(stored.shape) == 2:
        d, p = variant.embed_dim, variant.patch_size
        linear = torch.empty(d, p, p, 3, dtype=value.dtype, device="cpu")
        read_rows(stored, linear, (0, d))
        value.copy_(linear.permute(0, 3, 1, 2))
        return
    flat, done = value.view(-1), 0
    for stored, (first, last) in parts:
        rows = stored.shape[0]
        count = math.prod(stored.shape) * (last - first) // 3
        read_rows(stored, flat[done : done + count], (first * rows // 3, last * rows // 3))
        done += count


def _assign(tower: nn.Module, name: str, value: Tensor) -> None:
    """Replace a meta parameter by one with values."""
    path, _, leaf = name.rpartition(".")
    module = tower.get_submodule(path)
    old = getattr(module, leaf)
    setattr(module, leaf, nn.Parameter(value, requires_grad=old.requires_grad))
