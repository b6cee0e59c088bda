"""Every YAML that comes along trains, tests and loads again, on generated data and a tiny tower."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import heads
from heads.cli import main
from heads.cli.configs import config_root

CONFIGS = sorted(p for p in config_root().rglob("*.yaml") if p.parent.name != "strategy")  # those are parts of a config


def own_data(root: Path, data: dict) -> list[str]:
    """Arguments that give a config data of its own kind, a few images of 40 x 56 px."""
    if data["class_path"] == "heads.GeneratedScenes":
        return [part for split in ("train", "val", "test") for part in (f"--data.{split}_images", "2")]
    write_folder(root, data["init_args"])
    return ["--data.root", str(root)]


def write_folder(root: Path, data: dict) -> None:
    """Two pairs a split, in the folders and with the label values that a config names."""
    rng = np.random.default_rng(0)
    values = [*range(len(data["classes"])), *data.get("ignore_values", [])]
    for split in ("train", "val"):
        for i in range(2):
            for folder, array in (
                (data.get(f"{split}_images", split), rng.integers(0, 256, (40, 56, 3), np.uint8)),
                (data.get(f"{split}_masks", f"{split}annot"), rng.choice(values, (40, 56)).astype(np.uint8)),
            ):
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(root / folder / f"{i}.png")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_runs_and_its_checkpoint_loads(path, checkpoint, tmp_path):
    own = own_data(tmp_path / "data", yaml.safe_load(path.read_text())["data"])
    own += ["--data.num_workers", "0", "--data.batch_size", "2"]
    own += ["--data.img_size", "[40, 56]", "--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "1"]
    own += ["--model.backbone", str(checkpoint)]
    config = path.relative_to(config_root()).with_suffix("").as_posix()
    assert main(["fit", "--config", config, *own]) == 0
    assert main(["test", "--config", config, *own, "--ckpt_path", "last"]) == 0
    task = heads.load(tmp_path / "checkpoints" / "last.ckpt")
    assert task.predict(np.zeros((30, 70, 3), np.uint8)).shape == (30, 70)
