"""Files that version 0.1.0 wrote before its files moved into rooms: they must go on loading, resuming and comparing.

``files_of_0_1`` holds the output of ``siglip2 fit``, ``test`` and ``export`` at commit 0f122bf, with ``config.yaml`` as
``--print_config`` wrote it, on a tower whose weights are a formula (:func:`tower`).
"""

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

import heads
from heads.cli import main
from heads.storage.checkpoints import read_checkpoint
from siglip2_backbone.checkpoints.transformers_format import PREFIX, expected_shapes
from siglip2_backbone.variants import CUSTOM, Variant

OLD = Path(__file__).parent / "files_of_0_1"
SIZES = {"embed_dim": 8, "mlp_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32}
CONFIG = {
    "model_type": "siglip_vision_model",
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "attention_dropout": 0.0,
    "num_channels": 3,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 32,
}


def formula(name, shape):
    """The same values on every machine and with every version of torch."""
    count = np.arange(np.prod(shape), dtype=np.uint64)
    mixed = (count * np.uint64(2654435761) + np.uint64(zlib.crc32(name.encode()))) % np.uint64(65521)
    return (mixed.astype(np.float64) / 65521 - 0.5).astype(np.float32).reshape(shape)


@pytest.fixture
def old(tmp_path, monkeypatch):
    """The working folder in which the files were written."""
    monkeypatch.chdir(tmp_path)
    Path("tower").mkdir()
    shapes = expected_shapes(Variant(CUSTOM, **SIZES))
    save_file({f"{PREFIX}{name}": formula(name, s) for name, s in shapes.items()}, "tower/model.safetensors")
    Path("tower/config.json").write_text(json.dumps(CONFIG))
    Path("run/checkpoints").mkdir(parents=True)
    for name in ("best.ckpt", "last.ckpt"):
        shutil.copy(OLD / "best.ckpt", Path("run/checkpoints") / name)
    shutil.copy(OLD / "results.json", "run")
    shutil.copytree(OLD / "exported", "exported")
    return tmp_path


def test_they_are_small():
    assert sum(path.stat().st_size for path in OLD.rglob("*") if path.is_file()) < 100_000


def test_a_checkpoint_and_an_export_load_as_one_head(old):
    trained = heads.load("run/checkpoints/best.ckpt", backbone="tower")
    exported = heads.load("exported", backbone="tower")
    stored = load_file(OLD / "exported" / "head.safetensors")
    for task in (trained, exported):
        state = task.kept_state()
        assert state.keys() == stored.keys() and all(torch.equal(state[name], stored[name]) for name in stored)
    image = torch.arange(3 * 32 * 48).reshape(3, 32, 48).remainder(251).to(torch.uint8)
    assert torch.equal(trained.predict(image), exported.predict(image))


def test_a_test_repeats_the_stored_scores(old):
    before = json.loads(Path("run/results.json").read_text())
    assert main(["test", "--config", str(OLD / "config.yaml"), "--ckpt_path", "best"]) == 0
    after = json.loads(Path("run/results.json").read_text())
    assert after.keys() == before.keys()
    assert after["metrics"] == pytest.approx(before["metrics"], abs=1e-6)
    for same in ("task", "protocol", "training", "checkpoint", "checkpoint_sha256"):
        assert after[same] == before[same]
    assert after["backbone"]["fingerprint"] == before["backbone"]["fingerprint"]


def test_a_run_is_resumed_from_its_printed_config(old):
    before = read_checkpoint(OLD / "best.ckpt")
    arguments = ["--config", str(OLD / "config.yaml"), "--trainer.max_epochs", "2", "--ckpt_path", "last"]
    assert main(["fit", *arguments]) == 0
    after = read_checkpoint(Path("run/checkpoints/last.ckpt"))
    assert (before["epoch"], after["epoch"]) == (0, 1) and after["global_step"] == 2 * before["global_step"]
    weight = "decoder.classifier.weight"
    assert not torch.equal(after["state_dict"][weight], before["state_dict"][weight])
    steps = [next(iter(c["optimizer_states"][0]["state"].values()))["step"] for c in (before, after)]
    assert steps[1] == 2 * steps[0]  # AdamW went on from its state


def test_an_export_of_the_old_checkpoint_is_the_old_export(old):
    assert main(["export", "run/checkpoints/best.ckpt", "again"]) == 0
    before, after = (json.loads(Path(folder, "head.json").read_text()) for folder in ("exported", "again"))
    assert {key: after[key] for key in before} == before
    assert Path("again/head.safetensors").read_bytes() == Path("exported/head.safetensors").read_bytes()
