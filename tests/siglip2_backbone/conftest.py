"""Checkpoints that transformers writes, with random weights, and the means to compare with transformers."""

import json
import shutil
from pathlib import Path

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
    return paths


@pytest.fixture(scope="session")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same fixed tiny weights, written in every way that is read."""
    return _checkpoints(tmp_path_factory.mktemp("fixed"), naflex=False)


@pytest.fixture(scope="session")
def naflex(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same NaFlex tiny weights, written in every way that is read."""
    return _checkpoints(tmp_path_factory.mktemp("naflex"), naflex=True)


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
