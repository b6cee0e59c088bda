"""Every YAML that comes along trains, tests and loads again, on generated data and a tiny tower."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import heads
from heads.cli import main
from heads.runs.configs import config_root

# those of strategy are parts of a config; data/test_surface_configs.py has those on depth and normals from files, and
# data/test_detection_configs.py all of detection
CONFIGS = sorted(
    p
    for p in config_root().rglob("*.yaml")
    if p.parent.name == "segmentation" or (p.stem == "generated_scenes" and p.parent.name != "detection")
)


def own_data(name: str, config: dict, published, tmp_path: Path) -> list[str]:
    """Arguments that give a config data of its own kind, a few images each."""
    if name == "GeneratedScenes":
        return [part for split in ("train", "val", "test") for part in (f"--data.{split}_images", "2")]
    if name != "SegmentationFolder":
        return ["--data.root", str(published(name))]
    write_folder(tmp_path / "data", config)
    return ["--data.root", str(tmp_path / "data")]


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


def small(config: dict) -> list[str]:
    """Arguments that make a run small, of those that a config sets."""
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    sizes = {"model.window": "[40, 56]", "model.stride": "[20, 28]"}
    own = ["--data.img_size", "[40, 56]", "--data.num_workers", "0", "--data.batch_size", "2"]
    own += ["--trainer.max_epochs", "1", "--trainer.max_steps", "-1", "--trainer.check_val_every_n_epoch", "1"]
    own += [part for name, size in sizes.items() if name.split(".")[1] in model for part in (f"--{name}", size)]
    if "test_short_side" in data:
        own += ["--data.test_short_side", "40"]
    if data.get("train_set") == "trainaug":
        own += ["--data.train_set", "train"]
    if max(model.get("layers", [0])) > 3:  # blocks of the tiny tower
        own += ["--model.layers", str(list(range(len(model["layers"]))))]
    return own


@pytest.mark.filterwarnings("ignore:.*are missing. Scores on it")  # the data sets are tiny
@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_config_runs_and_its_checkpoint_loads(path, checkpoint, published, tmp_path):
    config = yaml.safe_load(path.read_text())
    name = config["data"]["class_path"].removeprefix("heads.")
    own = own_data(name, config["data"]["init_args"], published, tmp_path)
    own += ["--model.backbone", str(checkpoint), *small(config)]
    own += ["--trainer.default_root_dir", str(tmp_path)]
    config_name = path.relative_to(config_root()).with_suffix("").as_posix()
    assert main(["fit", "--config", config_name, *own]) == 0
    assert main(["test", "--config", config_name, *own, "--ckpt_path", "last"]) == 0
    task = heads.load(tmp_path / "checkpoints" / "last.ckpt")
    assert task.predict(torch.zeros(3, 30, 70, dtype=torch.uint8)).shape[-2:] == (30, 70)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_config_of_a_published_protocol_names_its_figure_twice_and_goes_where_it_is_called(path):
    text = path.read_text()
    config = yaml.safe_load(text)
    assert config["trainer"]["default_root_dir"].startswith("runs/")
    assert text.startswith("# ") and f"--config {path.parent.name}/{path.stem}" in text
    if not config["data"]["class_path"].endswith(("Folder", "GeneratedScenes")):
        figure = config["results"]["published"]
        title = text.splitlines()[0]
        assert str(figure["value"]) in title and figure["source"].split(":")[0] in title
