"""The commands on single images: features, embed, pca."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from heads.cli import main
from heads.data.images import read_image
from siglip2_backbone import FeatureMaps, create_backbone, fingerprint
from siglip2_backbone.preprocess import squash


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg"):
        Image.fromarray(rng.integers(0, 256, (50, 70, 3), np.uint8)).save(folder / name)
    return folder


def prepared(path, size=(128, 128)):
    return 2 * squash(read_image(path), size)[None].float() / 255 - 1


def test_features_are_the_backbones(photos, checkpoint, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--model", str(checkpoint), "--layers", "1", "-1", "--size", "64", "96", "--output", str(out)]
    assert main(["features", str(photos), *arguments]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["a.safetensors", "b.safetensors"]
    maps = create_backbone(checkpoint, out_indices=[1, 3]).eval()(prepared(photos / "a.png", (64, 96)))
    stored = load_file(out / "a.safetensors")
    torch.testing.assert_close(stored["layer_1"], maps[0][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(stored["layer_3"], maps[1][0], atol=1e-5, rtol=1e-5)
    with safe_open(out / "a.safetensors", "pt") as file:
        card = file.metadata()
    assert str(checkpoint) not in str(card)
    assert json.loads(card["grid"]) == [8, 12] and json.loads(card["original_size"]) == [50, 70]
    assert card["fingerprint"] == fingerprint(create_backbone(checkpoint, pooled=True))
    assert card["fingerprint"] in capsys.readouterr().out


def test_fingerprint_does_not_depend_on_the_layers(photos, checkpoint, tmp_path, capsys):
    for layers in (["0"], ["1", "2"]):
        main(["features", str(photos), "--model", str(checkpoint), "--layers", *layers, "--output", str(tmp_path)])
    first, second = (line.split()[-1] for line in capsys.readouterr().out.splitlines() if "fingerprint" in line)
    assert first == second


@pytest.mark.parametrize("normalize", [[], ["--normalize"]])
def test_embeddings_are_the_map_heads(photos, checkpoint, tmp_path, normalize):
    path = tmp_path / "e.safetensors"
    assert main(["embed", str(photos), "--model", str(checkpoint), *normalize, "--output", str(path)]) == 0
    with safe_open(path, "pt") as file:
        card = file.metadata()
    assert json.loads(card["images"]) == ["a.png", "b.jpg"] and card["source"] == checkpoint.name
    assert not any(str(place).encode() in path.read_bytes() for place in (photos, checkpoint))
    found = load_file(path)["embeddings"]
    backbone = create_backbone(checkpoint, pooled=True).eval()
    expected = torch.cat([backbone.forward_pooled(prepared(photos / n))[1] for n in ("a.png", "b.jpg")])
    if normalize:
        expected = expected / expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-5)


def test_relative_names_are_kept_and_other_folders_are_not_revealed(photos, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(photos.parent)
    for given, expected in ((photos.name, f"{photos.name}/a.png"), (f"../{photos.parent.name}/{photos.name}", "a.png")):
        assert main(["embed", given, "--model", str(checkpoint), "--output", str(tmp_path / "e.safetensors")]) == 0
        with safe_open(tmp_path / "e.safetensors", "pt") as file:
            assert json.loads(file.metadata()["images"])[0] == expected


def test_pca_writes_a_picture(photos, checkpoint, tmp_path):
    path = tmp_path / "pca.png"
    assert (
        main(["pca", str(photos / "a.png"), str(photos / "b.jpg"), "--model", str(checkpoint), "--output", str(path)])
        == 0
    )
    assert read_image(path).shape[1] == 2 * 256 + 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["features", "gone.png", "--output", "o"], "No file or folder gone.png"),
        (["features", "PHOTO", "--model", "siglip2_base_patch16_999", "--output", "o"], "Did you mean"),
        (["features", "PHOTO", "--model", "siglip2_tiny_patch8_128", "--output", "o"], "no published weights"),
        (
            ["features", "PHOTO", "--model", "siglip2_tiny_patch8_128_sfp", "--output", "o"],
            "is a pyramid; expected a tower",
        ),
        (["features", "PHOTO", "--layers", "9", "--output", "o"], "out_indices is [9]"),
        (["features", "PHOTO", "--size", "0", "--output", "o"], "--size is [0]"),
        (
            ["features", "PHOTO", "--size", "1", "--output", "o"],
            "--size is [1]; expected one side, or height and width, of at least 2",
        ),
        (["features", "PHOTO", "PHOTO/../x/a.png", "--output", "o"], "No file or folder"),
        (["pca", "PHOTO", "--output", "o.txt"], "expected a name that ends in .png"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(photos, checkpoint, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    model = [] if "--model" in arguments else ["--model", str(checkpoint)]
    assert main([a.replace("PHOTO", str(photos / "a.png")) for a in arguments] + model) == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["features", "embed", "pca"])
def test_what_a_folder_has_beside_images_is_said_in_one_line(photos, checkpoint, tmp_path, capsys, recwarn, command):
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_bytes((photos / name).read_bytes())
    (tmp_path / "c.heic").touch()
    (tmp_path / "sub").mkdir()
    output = tmp_path / {"features": "sub", "embed": "sub/e.safetensors", "pca": "sub/p.png"}[command]
    assert main([command, str(tmp_path), "--model", str(checkpoint), "--output", str(output)]) == 0
    (said,) = (str(warning.message) for warning in recwarn)
    assert "read 2 images, skipped 1 .heic (c.heic), 1 sub-folder (sub)" in said


@pytest.mark.parametrize("command", ["embed", "features", "pca"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_written(photos, checkpoint, tmp_path, monkeypatch, capsys, command, value):
    forward, seen = FeatureMaps.forward_pooled, []

    def pooled(model, pixels):
        maps, found = forward(model, pixels)
        seen.append(pixels)
        if len(seen) == 2:  # b.jpg
            maps[0][0, 0, 0, 0] = found[0, 0] = value
        return maps, found

    monkeypatch.setattr(FeatureMaps, "forward_pooled", pooled)
    monkeypatch.setattr(FeatureMaps, "forward", lambda model, pixels: pooled(model, pixels)[0])
    name = {"embed": "e.safetensors", "features": "out", "pca": "p.png"}[command]
    more = ["--normalize"] if command == "embed" else []
    arguments = [str(photos), "--model", str(checkpoint), *more, "--output", str(tmp_path / name)]
    assert main([command, *arguments]) == 2
    assert f"{photos / 'b.jpg'}: the model's output" in capsys.readouterr().err
    written = [p.name for p in tmp_path.rglob("*") if p.is_file()]
    assert written == (["a.safetensors"] if command == "features" else [])
