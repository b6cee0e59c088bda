"""Convert checkpoints in google's format (transformers' SiglipModel and Siglip2Model) to our state dict.

Source of names and defaults: huggingface/transformers 5.23 ``models/siglip`` and ``models/siglip2``.
"""

import re
from collections.abc import Collection
from reprlib import repr as shortened
from typing import Any

from ..variants import CUSTOM, VARIANTS, Variant, published
from .family import is_classifier
from .layout import Layout, Part, closest, read_in_place
from .layout import vision_tensors as without_prefix
from .sources import CheckpointFiles, Stored

read = read_in_place

PREFIX = "vision_model."
_NOT_VISION = re.compile(r"text_model\..*|logit_scale|logit_bias")
_NOT_THE_TOWER = re.compile(_NOT_VISION.pattern + r"|classifier\.(weight|bias)")  # for an image classifier
_LARGEST = 2**20  # upper limit of each size in a config, which keeps their products small
# files on the hub omit the defaults of transformers' SiglipVisionConfig and Siglip2VisionConfig
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
FIXED = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "vision_use_head": True, "num_channels": 3}


def vision_tensors(files: CheckpointFiles) -> dict[str, Stored]:
    """The vision tensors; transformers has written them with and without prefix."""
    others = _NOT_THE_TOWER if is_classifier(files) else _NOT_VISION
    return without_prefix(files, prefix_of(files), others)


def prefix_of(files: CheckpointFiles) -> str:
    """Prefix of the vision tensors' names in this file."""
    return PREFIX if any(name.startswith(PREFIX) for name in files.tensors) else ""


def layout(variant: Variant, names: Collection[str]) -> Layout:
    """Where our tensors are; this does not depend on the names."""
    return Layout(key_map(variant.depth), expected_shapes(variant))


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

    A published architecture has its published name, any other one is called ``siglip2_custom``.

    Raises:
        ValueError: The config is of another model family or describes an unsupported tower.
    """
    if files.config is None:
        tensors = vision_tensors(files)
        return closest(files, tensors, {v.name: (v, layout(v, tensors)) for v in VARIANTS.values()})
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
    return published(found)


def _is_naflex(source: str, config: dict[str, Any]) -> bool:
    family = config.get("model_type")
    if str(family) not in {"siglip", "siglip2", "siglip_vision_model", "siglip2_vision_model"}:
        raise ValueError(
            f"{source}: config.json says model_type = {shortened(family)}; expected a SigLIP vision tower (siglip, "
            "siglip2, siglip_vision_model or siglip2_vision_model). Pass a checkpoint such as "
            "google/siglip2-base-patch16-256."
        )
    return str(family).startswith("siglip2")


def check_size(source: str, key: str, size: Any) -> None:
    """Refuse a value that cannot be a size of a tower.

    Raises:
        ValueError: It is not a positive whole number, or it is too large.
    """
    if type(size) is not int or not 1 <= size <= _LARGEST:
        raise ValueError(
            f"{source}: config.json says {key} = {shortened(size)}; expected a positive whole number, at most "
            f"{_LARGEST}."
        )


def _vision_values(source: str, config: dict[str, Any]) -> dict[str, Any]:
    """The vision tower's settings, with defaults filled in; unsupported values are refused."""
    vision = config.get("vision_config", config)
    if not isinstance(vision, dict):
        raise ValueError(f"{source}: config.json says vision_config = {shortened(vision)}; expected a JSON object.")
    value = {key: vision.get(key, default) for key, default in _DEFAULTS.items()}
    for key, only in FIXED.items():
        if value[key] != only:
            raise ValueError(
                f"{source}: config.json says {key} = {shortened(value[key])}; SigLIP 2 towers have {only!r}."
            )
    for key in _DEFAULTS.keys() - FIXED.keys():
        check_size(source, key, value[key])
    width, heads = value["hidden_size"], value["num_attention_heads"]
    if width % heads:
        raise ValueError(
            f"{source}: config.json says hidden_size = {width} and num_attention_heads = {heads}; expected a "
            "width divisible by the number of heads. Check that config.json belongs to this checkpoint."
        )
    return value
