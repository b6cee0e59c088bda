"""Write a tower as a directory that timm, transformers or this library reads: model.safetensors and config.json.

Tensors keep the values and the dtype of the checkpoint; only their names and layout change.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from .checkpoints import Checkpoint
from .checkpoints.family import OWN_SIGLIP1_TAG, SIGLIP1_TAG, siglip1_by
from .checkpoints.timm_format import NAFLEX, naflex_shapes
from .checkpoints.transformers_format import FIXED, PREFIX, expected_shapes, key_map
from .factory import build_tower, open_tower, pretrained_cfg
from .files import refuse_occupied, whole_directory
from .fingerprint import fingerprint
from .variants import VARIANTS, Variant

Library = Literal["timm", "transformers", "siglip2"]
"""``timm``: timm's own model, by ``timm.create_model("local-dir:DIR", pretrained=True)``. ``transformers``:
``SiglipVisionModel.from_pretrained(DIR)``, or ``Siglip2VisionModel``. ``siglip2``: this library's model by timm's call,
once ``siglip2_backbone`` is imported."""


def convert(source: str | Path, destination: str | Path, target: Library, cache_dir: str | Path | None = None) -> str:
    """Write the vision tower of a checkpoint in another format.

    Args:
        source: Any source of :func:`~siglip2_backbone.create_backbone`.
        destination: Directory to write, missing or empty. It is written completely or not at all.
        target: The library that will load the result.
        cache_dir: Folder of huggingface_hub's cache, if not the default one.

    Returns:
        The fingerprint of the tower in its stored dtype.

    Raises:
        ValueError: The source cannot be read, the destination is occupied or cannot be written, or the target has no
            name for the architecture.
    """
    destination = Path(destination).expanduser()
    refuse_occupied(destination)
    checkpoint = open_tower(source, cache_dir)
    variant, dtype = checkpoint.variant, checkpoint.dtype
    configs = _configs(checkpoint, target)
    tower = build_tower(variant, checkpoint, pretrained_cfg=pretrained_cfg(variant), device="cpu", dtype=dtype)
    tensors = _renamed(tower.state_dict(), variant, target)
    with whole_directory(destination) as folder:
        save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
        for name, content in configs.items():
            (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    return fingerprint(tower)


def _configs(checkpoint: Checkpoint, target: Library) -> dict[str, dict[str, Any]]:
    """Content of the JSON files, by file name."""
    files, variant = checkpoint.files, checkpoint.variant
    if target == "transformers":
        return transformers_configs(variant, checkpoint.dtype)
    one = siglip1_by(files) is not None  # other weights get no tag: their training is unknown
    if target == "timm":
        return {"config.json": timm_config(variant, SIGLIP1_TAG if one else None)}
    if variant.name not in VARIANTS:
        raise ValueError(
            f"{files.source} matches no model of this library, so config.json would lack a model name. Choose timm or "
            "transformers as the format; create_backbone reads both."
        )
    return {"config.json": _timm_style(variant, variant.name, OWN_SIGLIP1_TAG if one else None)}


def _renamed(state: dict[str, Tensor], variant: Variant, target: Library) -> dict[str, Tensor]:
    if target == "timm":
        return to_timm(state, variant)
    if target == "transformers":  # every version of transformers writes the prefix
        return {f"{PREFIX}{name}": t for name, t in to_transformers(state, variant).items()}
    return state


def to_timm(state: Mapping[str, Tensor], variant: Variant) -> dict[str, Tensor]:
    """Convert our state dict to that of timm's VisionTransformer or, for NaFlex, of timm's NaFlexVit."""
    if not variant.naflex:
        return dict(state)
    kernel = "patch_embed.proj.weight"
    state = {**state, kernel: _linear_kernel(state[kernel])}
    shapes = naflex_shapes(variant)
    return {NAFLEX.get(name, name): t.reshape(shapes[NAFLEX.get(name, name)]) for name, t in state.items()}


def to_transformers(state: Mapping[str, Tensor], variant: Variant) -> dict[str, Tensor]:
    """Convert our state dict to that of transformers' SiglipVisionModel or Siglip2VisionModel."""
    pieces: dict[str, dict[int, Tensor]] = defaultdict(dict)  # file's name -> first third of q, k, v -> piece
    for name, parts in key_map(variant.depth).items():
        value = _linear_kernel(state[name]) if variant.naflex and name == "patch_embed.proj.weight" else state[name]
        for part, piece in zip(parts, value.chunk(len(parts)), strict=True):
            pieces[part.name][part.thirds[0]] = piece
    shapes = expected_shapes(variant)
    return {
        name: torch.cat([piece for _, piece in sorted(by_third.items())]).reshape(shapes[name])
        for name, by_third in pieces.items()
    }


def _linear_kernel(kernel: Tensor) -> Tensor:
    """A kernel ``(D, 3, P, P)`` as NaFlex stores it, ``(D, P * P * 3)`` with the inner order (row, column, channel)."""
    return kernel.permute(0, 2, 3, 1).flatten(1)


def transformers_configs(variant: Variant, dtype: torch.dtype) -> dict[str, dict[str, Any]]:
    """Complete config.json and preprocessor_config.json, by file name; no value relies on a version's defaults."""
    family = "Siglip2" if variant.naflex else "Siglip"
    side, patch = variant.img_size, variant.patch_size
    config = FIXED | {
        "architectures": [f"{family}VisionModel"],
        "model_type": f"{family.lower()}_vision_model",
        "hidden_size": variant.embed_dim,
        "intermediate_size": variant.mlp_dim,
        "num_hidden_layers": variant.depth,
        "num_attention_heads": variant.num_heads,
        "patch_size": patch,
        "attention_dropout": 0.0,
        "dtype": str(dtype).removeprefix("torch."),
    }
    prepare = {
        "image_processor_type": f"{family}ImageProcessor",
        "do_resize": True,
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    if variant.naflex:
        config["num_patches"] = prepare["max_num_patches"] = variant.grid_size**2
        prepare["patch_size"] = patch
    else:
        config["image_size"] = side
        prepare["size"] = {"height": side, "width": side}
    return {"config.json": config, "preprocessor_config.json": prepare}


def timm_config(variant: Variant, tag: str | None = None) -> dict[str, Any]:
    """config.json that makes plain timm build the same tower: timm's closest model name plus the differing arguments.

    ``act_layer`` is always set, because timm builds half of the published towers with the exact GELU.
    """
    base = max(
        (v for v in VARIANTS.values() if v.timm_name and v.naflex == variant.naflex),
        key=lambda v: len(vars(v).items() & vars(variant).items()),
    )
    args: dict[str, Any] = {"act_layer": "gelu_tanh"}
    args |= {
        key: getattr(variant, key)
        for key in ("patch_size", "embed_dim", "depth", "num_heads")
        if getattr(variant, key) != getattr(base, key)
    }
    if (variant.embed_dim, variant.mlp_dim) != (base.embed_dim, base.mlp_dim):
        args["mlp_ratio"] = (variant.mlp_dim + 0.5) / variant.embed_dim  # timm truncates ratio * width: add half a unit
    if variant.naflex and variant.grid_size != base.grid_size:
        args["pos_embed_grid_size"] = [variant.grid_size, variant.grid_size]
    if not variant.naflex and not str(base.timm_name).endswith(f"_{variant.img_size}"):
        args["img_size"] = variant.img_size
    config = _timm_style(variant, str(base.timm_name), tag) | {"model_args": args}
    if variant.naflex:
        config["pretrained_cfg"] |= {"first_conv": NAFLEX["patch_embed.proj.weight"].removesuffix(".weight")}
    else:
        config["pretrained_cfg"] |= {"fixed_input_size": True}  # unless dynamic_img_size is set
    return config


def _timm_style(variant: Variant, architecture: str, tag: str | None) -> dict[str, Any]:
    """config.json as timm writes it."""
    cfg = pretrained_cfg(variant).to_dict(remove_source=True)
    del cfg["architecture"]
    cfg.pop("tag", None)
    if tag is not None:
        cfg["tag"] = tag
        del cfg["paper_ids"], cfg["paper_name"]  # they cite SigLIP 2
    return {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": variant.embed_dim,
        "global_pool": "map",
        "pretrained_cfg": cfg,
    }
