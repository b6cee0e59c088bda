"""The configs of detection: their data, their figures, a run of each, and real samples from one YAML."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from pycocotools.coco import COCO

import heads
from heads.cli import main
from heads.runs.configs import config_root

pytestmark = pytest.mark.filterwarnings("ignore:.*are missing. Scores on it", "ignore:Skipped in")

SAMPLES = Path(__file__).parents[5] / "shared" / "data"
CONFIGS = sorted((config_root() / "detection").glob("*.yaml"))
FIXTURES = {"COCODetection": "coco", "LVIS": "lvis", "COCOFolder": "coco_folder", "VOCFolder": "voc_folder"}
SMALL = {
    "mask_rcnn": {"features": 32},
    "faster_rcnn": {"features": 32},
    "retinanet": {"features": 32},
    "fcos": {"features": 64},
    "set_prediction": {"dim": 32, "heads": 2, "layers": 2, "queries": 10, "mlp_dim": 32},
}


def options(config, root, checkpoint, tmp_path):
    """Arguments that give a config small data of its own kind and a tiny tower."""
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    own = ["--model.backbone", str(checkpoint), "--model.detector_args", str(SMALL[model["detector"]])]
    own += ["--data.img_size", "[64, 80]", "--data.num_workers", "0", "--data.batch_size", "2"]
    own += ["--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "1", "--trainer.max_steps", "-1"]
    own += ["--trainer.precision", "32-true"]
    if root is None:
        own += [part for split in ("train", "val", "test") for part in (f"--data.{split}_images", "2")]
    else:
        own += ["--data.root", str(root)]
    if "layers" in model:
        own += ["--model.layers", "[0, 1, 2, 3]"]
    if "tower_args" in model:
        own += ["--model.tower_args", "{window_size: 4, global_blocks: [1], drop_path_rate: 0.1}"]
    if data.get("recipe") == "lsj":
        own += ["--data.scale", "[0.5, 1.5]"]
    return own


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_config_runs_and_its_checkpoint_loads(path, request, checkpoint, tmp_path):
    config = yaml.safe_load(path.read_text())
    data = config["data"]["class_path"].removeprefix("heads.")
    root = request.getfixturevalue(FIXTURES[data]) if data in FIXTURES else None
    own = options(config, root, checkpoint, tmp_path / "run")
    name = f"detection/{path.stem}"
    assert main(["fit", "--config", name, *own]) == 0
    assert main(["test", "--config", name, *own, "--ckpt_path", "last"]) == 0
    task = heads.load(tmp_path / "run" / "checkpoints" / "last.ckpt")
    found = task.predict(np.zeros((30, 70, 3), np.uint8))
    assert found["size"] == (30, 70) and ("masks" in found) == task.has_masks


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_config_names_its_figures_twice_and_goes_where_it_is_called(path):
    text = path.read_text()
    config = yaml.safe_load(text)
    assert config["trainer"]["default_root_dir"].startswith("runs/")
    assert text.startswith("# ") and f"--config detection/{path.stem}" in text
    if config["data"]["class_path"].endswith(("Folder", "GeneratedScenes")):
        return
    published = config["results"]["published"]
    comments = " ".join(line.removeprefix("#") for line in text.splitlines() if line.startswith("#"))
    for figure in published if isinstance(published, list) else [published]:
        assert str(figure["value"]) in comments and figure["source"].split(" (")[0].split(",")[0] in comments


REAL = {  # root below the samples, data, and options of it
    "bccd": ("bccd/BCCD", "VOCFolder", {"test_set": "test", "skip_invalid": True}),
    "coco": (
        "coco_sample",
        "COCOFolder",
        {
            "train_annotations": "annotations/instances_train2017.json",
            "val_annotations": "annotations/instances_val2017.json",
            "train_images": "train2017",
            "val_images": "val2017",
        },
    ),
}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("sample", REAL)
@pytest.mark.parametrize("detector", SMALL)
@pytest.mark.filterwarnings("ignore:.*No object of")  # the samples lack many of COCO's classes
def test_real_samples_train_and_are_scored_from_one_yaml(detector, sample, checkpoint, tmp_path):
    root, data, args = REAL[sample]
    masks = {"masks": True} if detector == "mask_rcnn" and sample == "coco" else {}
    if detector == "mask_rcnn" and not masks:
        pytest.skip("BCCD has no masks")
    config = {
        "trainer": {
            "default_root_dir": str(tmp_path / "run"),
            "max_epochs": 1,
            "limit_train_batches": 2,
            "limit_val_batches": 2,
            "limit_test_batches": 4,
            "enable_progress_bar": False,
        },
        "model": {
            "class_path": "heads.DetectionTask",
            "init_args": {
                "backbone": str(checkpoint),
                "detector": detector,
                "detector_args": SMALL[detector],
                "pyramid": None if detector == "set_prediction" else "resample",
            },
        },
        "data": {
            "class_path": f"heads.{data}",
            "init_args": {
                "root": str(SAMPLES / root),
                "img_size": [64, 80],
                "recipe": "plain",
                "batch_size": 2,
                "num_workers": 0,
            }
            | args
            | masks,
        },
    }
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(path)]) == 0
    assert main(["test", "--config", str(path), "--ckpt_path", "last"]) == 0


def test_the_results_of_a_test_are_a_file_that_pycocotools_loads(coco_folder, checkpoint, tmp_path):
    path = config_root() / "detection" / "folder_coco.yaml"
    own = options(yaml.safe_load(path.read_text()), coco_folder, checkpoint, tmp_path / "run")
    own += ["--model.score_threshold", "0", "--model.detector", "mask_rcnn", "--data.masks", "true"]
    assert main(["fit", "--config", "detection/folder_coco", *own]) == 0
    assert main(["test", "--config", "detection/folder_coco", *own, "--ckpt_path", "last"]) == 0
    truth = COCO(str(coco_folder / "annotations" / "val.json"))
    loaded = truth.loadRes(str(tmp_path / "run" / "detections.json"))
    assert len(loaded.anns) > 0 and all("segmentation" in entry for entry in loaded.anns.values())
