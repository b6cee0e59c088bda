"""Convert checkpoints in timm's format to our state dict: VisionTransformer unchanged, NaFlexVit's ``embeds`` renamed.

This includes our own models as saved by timm's tools: our state dict, with one of our names in the config.

Source of names and defaults: huggingface/pytorch-image-models 1.0.31 ``timm/models/vision_transformer.py`` and
``timm/models/naflexvit.py``.
"""

import re
from collections.abc import Collection
from reprlib import repr as shortened
from typing import Any

from ..variants import CUSTOM, VARIANTS, Variant, by_timm_name, native_size, published
from .layout import Layout, Part, closest, read_in_place
from .layout import vision_tensors as without_prefix
from .sources import CheckpointFiles, Stored
from .transformers_format import check_size

read = read_in_place

NAFLEX = {
    "pos_embed": "embeds.pos_embed",
    "patch_embed.proj.weight": "embeds.proj.weight",
    "patch_embed.proj.bias": "embeds.proj.bias",
}
_WIDEST = 1024  # largest MLP width, as a multiple of the tower's width
_SIZES = ("patch_size", "embed_dim", "depth", "num_heads", "img_size")


def is_timm(files: CheckpointFiles) -> bool:
    """Whether a checkpoint is in timm's format, by its config or, without one, by its names."""
    if files.config is not None:
        return "architecture" in files.config
    return any(name.startswith(("blocks.", "patch_embed.", "embeds.")) for name in files.tensors)


def vision_tensors(files: CheckpointFiles) -> dict[str, Stored]:
    """All tensors: timm stores only the vision tower.

    Raises:
        ValueError: The MAP head is missing.
    """
    found = without_prefix(files, "", re.compile(r"(?!)"))
    if not any(name.startswith("attn_pool.") for name in found):
        raise ValueError(_no_map_head(files, "a tower"))
    return found


def variant_of(files: CheckpointFiles) -> Variant:
    """The architecture, from config.json's ``architecture`` and ``model_args`` or, for a lone file, from its shapes.

    Raises:
        ValueError: It is not a SigLIP tower, or it has no MAP head.
    """
    if files.config is None:
        found = vision_tensors(files)
        naflex = any(name.startswith("embeds.") for name in found)
        candidates = {v.name: (v, layout(v, found)) for v in VARIANTS.values() if v.naflex == naflex}
        return closest(files, found, candidates)
    return _by_config(files, files.config)


def _by_config(files: CheckpointFiles, config: dict[str, Any]) -> Variant:
    name = str(config["architecture"]).split(".")[0]
    known = by_timm_name(name.replace("_siglip_gap_", "_siglip_")) or VARIANTS.get(name)
    if known is None:
        raise ValueError(
            f"{files.source}: config.json says architecture = {shortened(name)}; expected a SigLIP tower, such as "
            "timm's vit_base_patch16_siglip_256. Pass a checkpoint such as timm/vit_base_patch16_siglip_256.v2_webli."
        )
    if "_gap_" in name:
        raise ValueError(_no_map_head(files, f"timm's {name}"))
    return _with_model_args(files.source, known, config.get("model_args") or {})


def _no_map_head(files: CheckpointFiles, what: str) -> str:
    return (
        f"{files.source} holds {what} without its MAP head: all tensors attn_pool.* are missing, as in timm's "
        "*_siglip_gap_* models. Pass the checkpoint of the same name without gap_, such as "
        "timm/vit_base_patch16_siglip_256.v2_webli."
    )


def _with_model_args(source: str, base: Variant, args: Any) -> Variant:
    """The architecture that timm builds from a name and arguments."""
    if not isinstance(args, dict):
        raise ValueError(f"{source}: config.json says model_args = {shortened(args)}; expected a JSON object.")
    value = {key: _side(args.get(key), getattr(base, key)) for key in _SIZES}
    value["grid_size"] = _side(args.get("pos_embed_grid_size"), base.grid_size)
    for key, size in value.items():
        check_size(source, key, size)
    ratio = args.get("mlp_ratio", base.mlp_dim / base.embed_dim)
    if type(ratio) not in (int, float) or not 0 < ratio <= _WIDEST:
        raise ValueError(
            f"{source}: config.json says mlp_ratio = {shortened(ratio)}; expected a positive number, at most {_WIDEST}."
        )
    if value["embed_dim"] % value["num_heads"]:
        raise ValueError(
            f"{source}: config.json says embed_dim = {value['embed_dim']} and num_heads = {value['num_heads']}; "
            "expected a width divisible by the number of heads. Check that config.json belongs to this checkpoint."
        )
    side, grid = value["img_size"], value.pop("grid_size")
    if base.naflex:
        value["img_size"] = value["patch_size"] * grid
    elif side % value["patch_size"] == 0:  # 378 px are 27 cells of 14 px, for which google uses 384 px
        value["img_size"] = native_size(value["patch_size"], side // value["patch_size"])
    same_mlp = "mlp_ratio" not in args and value["embed_dim"] == base.embed_dim
    mlp_dim = base.mlp_dim if same_mlp else int(value["embed_dim"] * ratio)  # timm truncates
    return published(Variant(CUSTOM, mlp_dim=mlp_dim, naflex=base.naflex, **value))


def _side(given: Any, default: int) -> Any:
    """A size as given; timm saves a square as (side, side)."""
    if isinstance(given, list) and len(given) == 2 and given[0] == given[1]:
        return given[0]
    return default if given is None else given


def layout(variant: Variant, names: Collection[str]) -> Layout:
    """Where our tensors are; a NaFlexVit is recognised by its names."""
    shapes = expected_shapes(variant)
    theirs = NAFLEX if any(name.startswith("embeds.") for name in names) else {}
    parts = {name: [Part(theirs.get(name, name))] for name in shapes}
    if theirs:
        shapes = naflex_shapes(variant)
    return Layout(parts, shapes)


def naflex_shapes(variant: Variant) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the same tower as timm's NaFlexVit."""
    shapes = {NAFLEX.get(name, name): shape for name, shape in expected_shapes(variant).items()}
    d, p, g = variant.embed_dim, variant.patch_size, variant.grid_size
    return shapes | {"embeds.proj.weight": (d, p * p * 3), "embeds.pos_embed": (1, g, g, d)}


def expected_shapes(variant: Variant) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of our state dict, which is that of timm's VisionTransformer."""
    d, m, p = variant.embed_dim, variant.mlp_dim, variant.patch_size
    weights: dict[str, tuple[int, ...]] = {
        "patch_embed.proj": (d, 3, p, p),
        "norm": (d,),
        "attn_pool.q": (d, d),
        "attn_pool.kv": (2 * d, d),
        "attn_pool.proj": (d, d),
        "attn_pool.norm": (d,),
        "attn_pool.mlp.fc1": (m, d),
        "attn_pool.mlp.fc2": (d, m),
    }
    for i in range(variant.depth):
        weights |= {
            f"blocks.{i}.norm1": (d,),
            f"blocks.{i}.attn.qkv": (3 * d, d),
            f"blocks.{i}.attn.proj": (d, d),
            f"blocks.{i}.norm2": (d,),
            f"blocks.{i}.mlp.fc1": (m, d),
            f"blocks.{i}.mlp.fc2": (d, m),
        }
    shapes: dict[str, tuple[int, ...]] = {"pos_embed": (1, variant.grid_size**2, d), "attn_pool.latent": (1, 1, d)}
    shapes |= {f"{name}.weight": shape for name, shape in weights.items()}
    return shapes | {f"{name}.bias": shape[:1] for name, shape in weights.items()}
