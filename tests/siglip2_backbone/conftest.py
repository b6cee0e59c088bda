"""Checkpoints that transformers writes, with random weights, and the means to compare with transformers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    Siglip2Config,
    Siglip2Model,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.utils.logging import disable_progress_bar

from siglip2_backbone import Variant

disable_progress_bar()

TEXT = {"vocab_size": 32, "hidden_size": 96, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 3}
TEXT |= {"bos_token_id": 0, "eos_token_id": 1}  # the defaults lie outside this vocabulary
TINY = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 3, "patch_size": 8}


@torch.no_grad()
def _scale_up(model: nn.Module, seed: int = 0) -> nn.Module:
    """Make every parameter matter: transformers starts with zero biases, norms of one and nearly uniform attention."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
        if name.endswith("bias"):
            parameter.copy_(0.3 * noise)
        elif "norm" in name:
            parameter.copy_(1 + 0.3 * noise)
        elif "position_embedding" in name or name.endswith("probe"):
            parameter.copy_(0.7 * noise)
        elif name.startswith("logit"):
            parameter.copy_(noise)
        else:
            parameter.copy_(1.5 * noise / parameter[0].numel() ** 0.5)
    return model.eval()


def whole_model(naflex: bool) -> nn.Module:
    """A tiny SiglipModel or Siglip2Model, both towers."""
    if naflex:
        config = Siglip2Config(text_config=TEXT, vision_config=TINY | {"num_patches": 256})
        return _scale_up(Siglip2Model(config))
    return _scale_up(SiglipModel(SiglipConfig(text_config=TEXT, vision_config=TINY | {"image_size": 128})))


def _prefixed(source: Path, folder: Path) -> Path:
    """A vision-only directory with names as transformers 4 wrote them, or as transformers 5 holds them in memory."""
    shutil.copytree(source, folder)
    tensors = load_file(source / "model.safetensors")
    bare = {name.removeprefix("vision_model."): tensor for name, tensor in tensors.items()}
    bare_already = bare.keys() == tensors.keys()
    save_file({f"vision_model.{k}": v for k, v in bare.items()} if bare_already else bare, folder / "model.safetensors")
    return folder


def _sparse(source: Path, folder: Path) -> Path:
    """A whole model with a config.json that, like google's, has nothing but what differs from the defaults."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    kind, vision = config["model_type"], config["vision_config"]
    keys = (*TINY, "num_patches" if kind == "siglip2" else "image_size")
    vision = {key: vision[key] for key in keys if vision[key] != 256} | {"model_type": f"{kind}_vision_model"}
    text = {"model_type": f"{kind}_text_model", "vocab_size": 32}
    sparse = {"initializer_factor": 1.0, "model_type": kind, "text_config": text, "vision_config": vision}
    (folder / "config.json").write_text(json.dumps(sparse))
    return folder


def _checkpoints(root: Path, naflex: bool) -> dict[str, Path]:
    model = whole_model(naflex)
    model.save_pretrained(root / "whole")
    model.save_pretrained(root / "sharded", max_shard_size="300KB")
    model.vision_model.save_pretrained(root / "vision")
    (root / "lone").mkdir()
    shutil.copy(root / "whole" / "model.safetensors", root / "lone" / "weights.safetensors")
    paths = {name: root / name for name in ("whole", "sharded", "vision")}
    paths["other prefix"] = _prefixed(root / "vision", root / "other_prefix")
    paths["sparse"] = _sparse(root / "whole", root / "sparse")
    paths["file beside its config"] = root / "whole" / "model.safetensors"
    paths["lone file"] = root / "lone" / "weights.safetensors"
    return paths | _npz(model, root / "npz")


@pytest.fixture(scope="session")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same fixed tiny weights, written in every way that is read."""
    return _checkpoints(tmp_path_factory.mktemp("fixed"), naflex=False)


@pytest.fixture(scope="session")
def naflex(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same NaFlex tiny weights, written in every way that is read."""
    return _checkpoints(tmp_path_factory.mktemp("naflex"), naflex=True)


def _linear_arrays(path: str, weights: list[Tensor], biases: list[Tensor], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """A flax layer of every block: the kernel input first, as (input, output) split as ``shape`` says."""
    kernels = [weight.T.reshape(shape) for weight in weights]
    return {f"{path}/kernel": torch.stack(kernels), f"{path}/bias": torch.stack(biases)}


def _layer_arrays(state: dict[str, Tensor], layers: list[str], names: dict[str, str], heads: int) -> dict[str, Tensor]:
    """The arrays of blocks, or of the MAP head, stacked along a leading axis."""
    d = state["post_layernorm.bias"].numel()
    attention, arrays = "MultiHeadDotProductAttention_0", {}
    for theirs, ours in names.items():
        weights, biases = ([state[f"{layer}{ours}.{kind}"] for layer in layers] for kind in ("weight", "bias"))
        if "Norm" in theirs:
            arrays |= {f"{theirs}/scale": torch.stack(weights), f"{theirs}/bias": torch.stack(biases)}
        elif theirs in ("query", "key", "value"):
            biases = [bias.view(heads, -1) for bias in biases]
            arrays |= _linear_arrays(f"{attention}/{theirs}", weights, biases, (d, heads, -1))
        elif theirs == "out":
            arrays |= _linear_arrays(f"{attention}/out", weights, biases, (heads, -1, d))
        else:
            arrays |= _linear_arrays(theirs, weights, biases, tuple(weights[0].T.shape))
    return arrays


def _big_vision(model: nn.Module, scan: bool = True) -> dict[str, np.ndarray]:
    """The vision tower of transformers as big_vision saves it, without what stands before its names."""
    state = dict(model.state_dict())
    heads, depth = model.config.num_attention_heads, model.config.num_hidden_layers
    for kind in ("weight", "bias"):
        for x, part in zip("qkv", state[f"head.attention.in_proj_{kind}"].chunk(3), strict=True):
            state[f"head.attention.{x}_proj.{kind}"] = part
    mlp = {"MlpBlock_0/Dense_0": "mlp.fc1", "MlpBlock_0/Dense_1": "mlp.fc2"}
    block = {"LayerNorm_0": "layer_norm1", "LayerNorm_1": "layer_norm2", "out": "self_attn.out_proj"} | mlp
    block |= {name: f"self_attn.{name[0]}_proj" for name in ("query", "key", "value")}
    head = {"LayerNorm_0": "layernorm", "out": "attention.out_proj"} | mlp
    head |= {name: f"attention.{name[0]}_proj" for name in ("query", "key", "value")}
    blocks = _layer_arrays(state, [f"encoder.layers.{i}." for i in range(depth)], block, heads)
    kernel, table = state["embeddings.patch_embedding.weight"], state["embeddings.position_embedding.weight"]
    side = int(len(table) ** 0.5)
    arrays = {
        "embedding/kernel": kernel.T if kernel.ndim == 2 else kernel.permute(2, 3, 1, 0),
        "embedding/bias": state["embeddings.patch_embedding.bias"],
        "pos_embedding": table.view(side, side, -1) if kernel.ndim == 2 else table[None],
        "Transformer/encoder_norm/scale": state["post_layernorm.weight"],
        "Transformer/encoder_norm/bias": state["post_layernorm.bias"],
        "MAPHead_0/probe": state["head.probe"],
    }
    arrays |= {f"MAPHead_0/{k}": v[0] for k, v in _layer_arrays(state, ["head."], head, heads).items()}
    if scan:
        arrays |= {f"Transformer/encoderblock/{name}": value for name, value in blocks.items()}
    else:
        arrays |= {f"Transformer/encoderblock_{i}/{k}": v[i] for k, v in blocks.items() for i in range(depth)}
    return {name: np.ascontiguousarray(value.detach().numpy()) for name, value in arrays.items()}


@pytest.fixture(scope="session")
def big_vision():
    """Arrays of a tower of transformers, as big_vision names and orders them."""
    return _big_vision


def _npz(model: nn.Module, folder: Path) -> dict[str, Path]:
    """The whole model in every way in which big_vision's files come."""
    folder.mkdir()
    ways = {"npz": (True, "params/img/"), "npz numbered": (False, "params/img/"), "npz tower": (True, "params/")}
    others = {"params/txt/Embed_0/embedding": np.zeros((32, 4), np.float32), "params/t": np.zeros(1, np.float32)}
    others["params/b"] = np.zeros(1, np.float32)
    paths = {}
    for way, (scan, prefix) in ways.items():
        arrays = {f"{prefix}{k}": v for k, v in _big_vision(model.vision_model, scan).items()}
        arrays |= others if prefix == "params/img/" else {}
        paths[way] = folder / f"{way.replace(' ', '_')}.npz"
        (np.savez if scan else np.savez_compressed)(paths[way], **arrays)
    return paths


@pytest.fixture
def edited(fixed, tmp_path):
    """Write a copy of the fixed vision-only directory with other tensors or config."""

    def edit(tensors=lambda t: t, config=lambda c: c) -> Path:
        folder = Path(shutil.copytree(fixed["vision"], tmp_path / "edited", dirs_exist_ok=True))
        save_file(tensors(load_file(fixed["vision"] / "model.safetensors")), folder / "model.safetensors")
        config_path = folder / "config.json"
        config_path.write_text(json.dumps(config(json.loads(config_path.read_text()))))
        return folder

    return edit


@pytest.fixture(scope="session")
def relative_error():
    """Relative L2 error of a result against its reference, in float64."""

    def error(found: Tensor, reference: Tensor) -> float:
        assert found.shape == reference.shape
        return float((found.double() - reference.double()).norm() / reference.double().norm())

    return error


@pytest.fixture(scope="session")
def scale_up():
    """Draw weights that make every parameter matter."""
    return _scale_up


def _transformers_twin(variant: Variant) -> nn.Module:
    """The same tower in transformers, without memory."""
    config = {
        "hidden_size": variant.embed_dim,
        "num_hidden_layers": variant.depth,
        "num_attention_heads": variant.num_heads,
        "intermediate_size": variant.mlp_dim,
        "patch_size": variant.patch_size,
    }
    with torch.device("meta"):
        if variant.naflex:
            return Siglip2VisionModel(Siglip2VisionConfig(**config, num_patches=variant.grid_size**2))
        return SiglipVisionModel(SiglipVisionConfig(**config, image_size=variant.img_size))


@pytest.fixture(scope="session")
def transformers_twin():
    """The same tower in transformers, on the meta device."""
    return _transformers_twin
