"""The commands on single images with a NaFlex checkpoint: each image at its own size, as transformers prepares it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import Siglip2ImageProcessor, Siglip2VisionConfig, Siglip2VisionModel

from heads.cli import main
from heads.data.images import read_image

SIZES = {"landscape.png": (75, 131), "portrait.jpg": (140, 60), "square.png": (90, 90)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def naflex(tmp_path_factory):
    """Directory of a tiny Siglip2VisionModel, whose positions and MAP head matter."""
    torch.manual_seed(0)
    config = {"hidden_size": 96, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3}
    model = Siglip2VisionModel(Siglip2VisionConfig(**config, patch_size=8, num_patches=64))
    for name, parameter in model.named_parameters():
        noise = torch.randn_like(parameter)
        parameter.data = 1 + 0.3 * noise if "norm" in name else noise / parameter[0].numel() ** 0.5
    folder = tmp_path_factory.mktemp("naflex")
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def transformers_says(naflex, path, max_patches):
    """Tokens, pooled output, and rows and columns of an image, by transformers from the picture on."""
    processor = Siglip2ImageProcessor(patch_size=8, max_num_patches=max_patches)
    inputs = processor(read_image(path), return_tensors="pt")
    output = Siglip2VisionModel.from_pretrained(naflex).eval()(**inputs)
    rows, columns = inputs["spatial_shapes"][0].tolist()
    return output.last_hidden_state[0, : rows * columns], output.pooler_output, (rows, columns)


def stored(path):
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


@pytest.mark.parametrize("budget", [None, 40])
def test_embeddings_are_those_of_transformers_on_its_own_preparation(photos, naflex, tmp_path, budget):
    path = tmp_path / "e.safetensors"
    more = [] if budget is None else ["--max-patches", str(budget)]
    assert main(["embed", str(photos), "--model", str(naflex), *more, "--output", str(path)]) == 0
    tensors, card = stored(path)
    said = [transformers_says(naflex, photos / name, budget or 256) for name in SIZES]
    torch.testing.assert_close(tensors["embeddings"], torch.cat([pooled for _, pooled, _ in said]), atol=1e-5, rtol=0)
    assert json.loads(card["max_patches"]) == (budget or 256) and "size" not in card
    assert json.loads(card["sizes"]) == [[8 * rows, 8 * columns] for *_, (rows, columns) in said]
    assert json.loads(card["sizes"])[0] != json.loads(card["sizes"])[1]


def test_features_have_the_images_own_grids(photos, naflex, tmp_path):
    arguments = ["--model", str(naflex), "--max-patches", "40", "--output", str(tmp_path)]
    assert main(["features", str(photos), *arguments]) == 0
    for name in SIZES:
        tokens, _, grid = transformers_says(naflex, photos / name, 40)
        tensors, card = stored((tmp_path / name).with_suffix(".safetensors"))
        assert json.loads(card["grid"]) == list(grid) and card["max_patches"] == "40"
        assert json.loads(card["size"]) == [8 * side for side in grid]
        torch.testing.assert_close(tensors["layer_1"].flatten(1).T, tokens, atol=1e-5, rtol=1e-5)


def test_a_size_that_is_asked_for_wins(photos, naflex, tmp_path):
    arguments = ["--model", str(naflex), "--size", "64", "--output", str(tmp_path)]
    assert main(["features", str(photos), *arguments]) == 0
    for name in SIZES:
        card = stored((tmp_path / name).with_suffix(".safetensors"))[1]
        assert json.loads(card["size"]) == [64, 64] and json.loads(card["grid"]) == [8, 8]
        assert "max_patches" not in card


def test_pca_takes_the_images_own_sizes(photos, naflex, tmp_path, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr("heads.cli.pca.pca_colours", lambda maps: seen.extend(maps) or [m[:3].sigmoid() for m in maps])
    assert main(["pca", str(photos), "--model", str(naflex), "--output", str(tmp_path / "pca.png")]) == 0
    assert [tuple(m.shape[1:]) for m in seen] == [transformers_says(naflex, photos / n, 256)[2] for n in SIZES]
    assert "up to 256 patches" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-patches", "0"], "--max-patches is 0; expected at least 1"),
        (["--max-patches", "9", "--size", "64"], "--max-patches is 9 and --size is [64]; expected only one"),
        (["--max-patches", "9", "--model", "FIXED"], "is not a NaFlex checkpoint"),
    ],
)
def test_a_budget_that_says_nothing_is_refused(photos, naflex, checkpoint, tmp_path, capsys, arguments, message):
    model = [] if "--model" in arguments else ["--model", str(naflex)]
    given = [a.replace("FIXED", str(checkpoint)) for a in arguments] + model
    assert main(["embed", str(photos), *given, "--output", str(tmp_path / "e.safetensors")]) == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_fixed_checkpoint_has_one_size_on_its_card(photos, checkpoint, tmp_path):
    path = tmp_path / "e.safetensors"
    assert main(["embed", str(photos), "--model", str(checkpoint), "--output", str(path)]) == 0
    card = stored(path)[1]
    assert json.loads(card["size"]) == [128, 128] and not {"sizes", "max_patches"} & card.keys()
