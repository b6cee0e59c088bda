"""The configs of depth and normals: their data, their figures, a run of one of each kind, and real samples."""

import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from jsonargparse import ArgumentParser
from PIL import Image

import heads
from heads.cli import main
from heads.data.depth_normals.module import SurfaceModule
from heads.runs.configs import config_root

pytestmark = pytest.mark.filterwarnings("ignore:.*are missing. Scores on it")

SAMPLES = Path(__file__).parents[5] / "shared" / "data"

CONFIGS = sorted(
    path
    for task in ("depth", "normals")
    for path in (config_root() / task).glob("*.yaml")
    if "GeneratedScenes" not in path.read_text()
)
FIRST = {tuple(re.findall(r"class_path: (.*)", p.read_text())): p for p in CONFIGS[::-1]}  # of each task and data


def folders(root, kind):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for i in range(2):
            image = rng.integers(0, 256, (40, 56, 3), np.uint8)
            label = rng.integers(500, 9000, (40, 56), np.uint16)
            if kind == "normals":
                label = np.broadcast_to(np.array([128, 128, 250], np.uint8), (40, 56, 3)).copy()
            for folder, array in ((split, image), (f"{split}_{kind}", label)):
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(root / folder / f"{i}.png")
    return root


@pytest.fixture
def root_of(request, tmp_path):
    """Makes the data that a config asks for."""

    def make(data):
        name = data["class_path"].removeprefix("heads.")
        if name.endswith("Folder"):
            return folders(tmp_path / "own", "depth" if name == "DepthFolder" else "normals")
        layout = {"NYUv2": "nyu", "NYUv2Normals": "nyu", "NYUv2BTS": "nyu_bts", "KITTIEigen": "kitti", "NAVI": "navi"}
        return request.getfixturevalue(layout[name])

    return make


def options(kind):
    """The arguments of a data module, with those that it passes on to its bases."""
    chain = [base for base in reversed(kind.__mro__) if issubclass(base, SurfaceModule)]
    return {name: p for base in chain for name, p in inspect.signature(base).parameters.items()}


def small(data):
    """A config's arguments of its data, and smaller ones in place of some."""
    own = dict(data["init_args"]) | {"img_size": [40, 56], "num_workers": 0, "batch_size": 1}
    own |= {"geonet": None} if "geonet" in own else {}  # thirty thousand files
    kind = getattr(heads, data["class_path"].removeprefix("heads."))
    crop = options(kind)["crop"].default  # a size, or a probability
    return own | ({"crop": [40, 56]} if isinstance(crop, tuple) else {})


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("KITTIEigen", "train_list test_list predict_images crop rotate flip colour"),
        ("NYUv2", "depth black_border predict_images crop rotate flip colour"),
        ("NYUv2BTS", "train_list test_list predict_images crop rotate flip colour"),
        ("NYUv2Normals", "normals normals_key axes geonet geonet_axes square predict_images jitter crop flip"),
        ("NAVI", "targets relative stride prefix predict_images jitter crop"),
    ],
)
def test_the_command_line_has_every_option_of_a_public_data_set_in_order(name, own):
    parser = ArgumentParser()
    parser.add_class_arguments(getattr(heads, name))
    assert list(parser.get_defaults().as_dict()) == f"root img_size {own} batch_size num_workers seed".split()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_data_of_a_config_are_read(path, root_of):
    config = yaml.safe_load(path.read_text())
    data, task = config["data"], config["model"]["class_path"]
    kind = getattr(heads, data["class_path"].removeprefix("heads."))
    assert set(data["init_args"]) <= set(options(kind))
    module: SurfaceModule = kind(str(root_of(data)), **small(data))
    label = "depth" if task == "heads.DepthTask" else "normal"
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].shape[2:] == batch[label].shape[2:] == (40, 56)
    module.setup("test")
    batch = next(iter(module.test_dataloader()))
    assert batch["image"].shape[2:] == (40, 56) and len(batch[label]) == 1


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_config_names_its_figure_twice_and_how_it_is_called(path):
    text = path.read_text()
    config = yaml.safe_load(text)
    assert config["trainer"]["default_root_dir"] == f"runs/{path.parent.name}_{path.stem}"
    assert f"--config {path.parent.name}/{path.stem} --data.root" in text
    if not path.stem.startswith(("folder", "probe3d")):  # nothing is published for these
        figure = config["results"]["published"]
        title = text.splitlines()[0]
        assert f"RMSE {figure['value']:.3f}"[: len(str(figure["value"])) + 5] in title
        assert figure["source"].split(":")[0] in title


@pytest.mark.parametrize("path", FIRST.values(), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_config_runs_and_its_checkpoint_loads(path, root_of, checkpoint, tmp_path):
    config = yaml.safe_load(path.read_text())
    layers = list(range(len(config["model"]["init_args"]["layers"])))  # of the tiny tower
    changed = {k: v for k, v in small(config["data"]).items() if v != config["data"]["init_args"].get(k)}
    own = [f"--data.{k}={'null' if v is None else v}" for k, v in changed.items()]
    own += ["--data.root", str(root_of(config["data"]))]
    own += ["--model.backbone", str(checkpoint), f"--model.layers={layers}"]
    own += ["--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "1", "--trainer.max_steps", "-1"]
    own += ["--trainer.check_val_every_n_epoch", "1"]
    name = path.relative_to(config_root()).with_suffix("").as_posix()
    assert main(["fit", "--config", name, *own]) == 0
    assert main(["test", "--config", name, *own, "--ckpt_path", "last"]) == 0
    task = heads.load(tmp_path / "checkpoints" / "last.ckpt")
    assert task.predict(np.zeros((30, 70, 3), np.uint8)).shape[-2:] == (30, 70)


NYU = "nyu_depth_v2_mini/scene_a/"
SEVEN = "sevenscenes_rgbd/"
KITTI = "kitti_depth_mini/metric3d_demo/"
REAL = {  # data and task, an image and its label, options of both
    "nyu": ("Depth", f"{NYU}rgb_00{{}}.jpg {NYU}sync_depth_00{{}}.png", ("000", "050"), {}, {}),
    "kitti": (
        "Depth",
        f"{KITTI}image_02/data/0000000{{}}.png {KITTI}proj_depth/groundtruth/image_02/0000000{{}}.png",
        ("005", "050"),
        {"depth_scale": 256, "depth_range": (0.001, 80.0)},
        {"depth_range": (0.001, 80.0), "crop": "kitti_garg"},
    ),
    "rooms": (
        "Depth",
        f"{SEVEN}seq-01/frame-000{{}}.color.jpg {SEVEN}seq-01/frame-000{{}}.depth.png",
        ("000", "050"),
        {"invalid": [65535]},
        {},
    ),
    "normals": (
        "Normals",
        f"{SEVEN}seq-01/frame-000{{}}.color.jpg {SEVEN}normal_from_depth/frame-000{{}}.normal.png",
        ("000", "050"),
        {"axes": ("right", "up", "towards")},
        {},
    ),
}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", REAL)
def test_real_samples_train_and_are_scored(name, checkpoint, trainer, tmp_path):
    kind, line, frames, of_data, of_task = REAL[name]
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("\n".join(line.format(frame, frame) for frame in frames))
    lists = {"train_list": str(pairs), "val_list": str(pairs), "batch_size": 2, "num_workers": 0}
    data = getattr(heads, f"{kind}Folder")(str(SAMPLES), (48, 64), **lists, **of_data)
    fast = {"lr": 0.01, "warmup_steps": 0, "decoder_args": {"batch_norm": False}}  # whose averages take longer
    task = getattr(heads, f"{kind}Task")(str(checkpoint), (48, 64), **fast, **of_task)
    run = trainer(max_epochs=10, check_val_every_n_epoch=10)
    (before,) = run.test(task, data, verbose=False)
    run.fit(task, data)
    (after,) = run.test(task, data, verbose=False)
    assert after["test/excluded"] == 0 and all(math.isfinite(score) for score in after.values())
    assert after["test/RMSE"] < 0.9 * before["test/RMSE"]
