"""Options of Lightning's trainer that users try first, on each kind of task: honoured, or refused by their names."""

import pytest
import torch

from heads.cli import main
from heads.storage.checkpoints import read_checkpoint

MODEL = {
    "segmentation": "{class_path: heads.SegmentationTask, init_args: {backbone: BACKBONE, warmup_steps: 1}}",
    "depth": "{class_path: heads.DepthTask, init_args: {backbone: BACKBONE, warmup_steps: 1}}",
    "detection": (
        "{class_path: heads.DetectionTask, init_args: {backbone: BACKBONE, pyramid: resample, detector: fcos, "
        "detector_args: {features: 32}, score_threshold: 0.0, warmup_steps: 1}}"
    ),
}
CONFIG = """
trainer: {{default_root_dir: {root}, max_epochs: 1, accelerator: cpu}}
model: {model}
data:
  class_path: heads.GeneratedScenes
  init_args:
    {{img_size: [48, 64], train_images: 6, val_images: 2, test_images: 2, batch_size: 2, num_workers: 0}}
"""
FINDER = "lightning.pytorch.callbacks."


@pytest.fixture(params=list(MODEL))
def run(request, tmp_path, checkpoint):
    """Runs a command on the task's config; gives its status."""
    path = tmp_path / "a.yaml"
    model = MODEL[request.param].replace("BACKBONE", str(checkpoint))
    path.write_text(CONFIG.format(root=tmp_path / "run", model=model))

    def main_on(command, *options):
        return main([command, "--config", str(path), *options])

    return main_on


def left(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {".lock"}


def test_a_smoke_run_leaves_nothing_and_blocks_nothing(run, tmp_path, capsys):
    assert run("fit", "--trainer.fast_dev_run", "true") == 0
    assert "leaves no checkpoint" in capsys.readouterr().out
    assert left(tmp_path) == {"a.yaml"}


def test_overfitting_a_batch(run):
    assert run("fit", "--trainer.overfit_batches", "1", "--data.num_workers", "1") == 0


def test_without_checkpoints(run, tmp_path):
    assert run("fit", "--trainer.enable_checkpointing", "false") == 0
    assert not [name for name in left(tmp_path / "run") if name.endswith(".ckpt")]


def test_barebones(run, tmp_path, capsys):
    assert run("fit", "--trainer.barebones", "true", "--trainer.limit_train_batches", "1") == 0
    assert run("test", "--trainer.barebones", "true") == 2
    assert "trainer.barebones logs no score" in capsys.readouterr().err


def test_the_learning_rate_that_a_finder_finds_is_trained_with(run, tmp_path):
    finder = [f"--trainer.callbacks+={FINDER}LearningRateFinder", "--trainer.callbacks.num_training_steps", "8"]
    finder += ["--trainer.callbacks.min_lr", "1e-5", "--trainer.callbacks.max_lr", "1e-2"]
    assert run("fit", *finder) == 0
    found = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    lr = found["hyper_parameters"]["lr"]
    assert 1e-5 <= lr <= 1e-2
    again = ["--model.lr", repr(lr), "--trainer.default_root_dir", str(tmp_path / "again")]
    assert run("fit", *again) == 0
    same_weights(found, read_checkpoint(tmp_path / "again" / "checkpoints" / "last.ckpt"))
    assert not list(tmp_path.rglob(".lr_find*"))


def test_the_batch_size_that_a_finder_finds_is_trained_with(run, tmp_path):
    finder = [f"--trainer.callbacks+={FINDER}BatchSizeFinder", "--trainer.callbacks.max_trials", "2"]
    assert run("fit", *finder, "--trainer.callbacks.init_val", "1", "--trainer.callbacks.steps_per_trial", "1") == 0
    found = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    size = next(state["batch_size"] for state in found.values() if isinstance(state, dict) and "batch_size" in state)
    again = ["--data.batch_size", str(size), "--trainer.default_root_dir", str(tmp_path / "again")]
    assert run("fit", *again) == 0
    same_weights(found, read_checkpoint(tmp_path / "again" / "checkpoints" / "last.ckpt"))


def same_weights(found, expected):
    assert found["global_step"] == expected["global_step"]
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], tensor), name
