"""`siglip2 fit | validate | test | predict` as a user types them; a run that is killed is a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from heads.cli import main
from heads.data.images import read_labels
from heads.runs.lock import locked
from heads.runs.trainer import find_checkpoint, monitored
from heads.storage.checkpoints import read_checkpoint
from heads.tasks.checkpointing import CARD

SAMPLES = Path(__file__).parents[4] / "shared" / "data"
CAMVID = SAMPLES / "camvid"
CONFIG = """
trainer: {{default_root_dir: {root}, max_epochs: 3, enable_progress_bar: false}}
model:
  class_path: heads.SegmentationTask
  init_args: {{backbone: {checkpoint}, warmup_steps: 2}}
data:
  class_path: heads.SegmentationFolder
  init_args:
    root: {scenes}
    img_size: [48, 64]
    classes: {{sky: [0, 0, 255], road: [90, 90, 90], car: [200, 0, 0]}}
    ignore_values: [7]
    batch_size: 2
    num_workers: {workers}
"""
# The warm-up of its loss ends in the second epoch.
DEPTH = """
trainer: {{default_root_dir: {root}, max_epochs: 3, enable_progress_bar: false}}
model:
  class_path: heads.DepthTask
  init_args: {{backbone: {checkpoint}, warmup_steps: 2, sig_warmup_steps: 4, gradient_weight: 0.5}}
data:
  class_path: heads.GeneratedScenes
  init_args:
    {{img_size: [48, 64], train_images: 6, val_images: 2, test_images: 2, batch_size: 2, num_workers: {workers}}}
"""
# Proposals and regions are drawn at random.
DETECTION = """
trainer: {{default_root_dir: {root}, max_epochs: 3, enable_progress_bar: false}}
model:
  class_path: heads.DetectionTask
  init_args:
    backbone: {checkpoint}
    pyramid: resample
    detector: faster_rcnn
    detector_args: {{features: 32}}
    score_threshold: 0.0
    warmup_steps: 2
data:
  class_path: heads.GeneratedScenes
  init_args:
    {{img_size: [48, 64], train_images: 6, val_images: 2, test_images: 2, batch_size: 2, num_workers: {workers}}}
"""
TEXTS = {"depth": DEPTH, "detection": DETECTION}


@pytest.fixture
def config(tmp_path, checkpoint, scenes):
    """Writes a config whose run goes to a folder of this name."""

    def write(name="run", workers=0, kind="frozen"):
        path = tmp_path / f"{name}.yaml"
        text = TEXTS.get(kind, CONFIG)
        path.write_text(text.format(root=tmp_path / name, checkpoint=checkpoint, scenes=scenes, workers=workers))
        return str(path)

    return write


def test_fit_test_predict_export_from_one_yaml(config, scenes, tmp_path, capsys):
    path, run = config(), tmp_path / "run"
    assert main(["fit", "--config", path]) == 0
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list(run.glob("logs/version_0/metrics.csv")) and list(run.glob("logs/version_0/events.*"))
    assert main(["validate", "--config", path, "--ckpt_path", "best"]) == 0
    assert main(["test", "--config", path, "--ckpt_path", "best"]) == 0
    assert 0 <= json.loads((run / "results.json").read_text())["metrics"]["mIoU"] <= 1
    assert main(["predict", "--config", path, "--ckpt_path", "last", "--data.predict_images", str(scenes / "val")]) == 0
    assert read_labels(run / "predictions" / "labels" / "0.png").shape == (48, 64)
    assert main(["export", str(run / "checkpoints" / "best.ckpt"), str(tmp_path / "head")]) == 0
    assert {p.name for p in (tmp_path / "head").iterdir()} == {"head.safetensors", "head.json", "README.md"}
    assert "with the scores of validation and test" in capsys.readouterr().out


# Each makes a run kill itself and its workers, as nothing else can at a moment that is known.
KILLED = """
import os, signal, sys, torch
from pathlib import Path
from heads.tasks.head_task import HeadTask
from heads.storage.checkpoints import WholeCheckpointIO
from heads.cli import main

torch.set_num_threads(int(sys.argv[1]))  # other sums in the last digit otherwise
step, save, write = HeadTask.training_step, torch.save, WholeCheckpointIO.save_checkpoint

def step_until_killed(self, batch, batch_idx):
    if (self.current_epoch, batch_idx) == (1, 1):
        os.killpg(0, signal.SIGKILL)
    return step(self, batch, batch_idx)

def save_half(checkpoint, file):
    save(checkpoint, file)
    file.write_bytes(file.read_bytes()[:1000])
    os.killpg(0, signal.SIGKILL)

def write_until_killed(self, checkpoint, path, storage_options=None):
    if checkpoint["epoch"] == epoch and Path(path).name == "last.ckpt":
        torch.save = save_half
    write(self, checkpoint, path, storage_options)

epoch = 0 if sys.argv[2] == "writing the first one" else 1
if sys.argv[2] == "in an epoch":
    HeadTask.training_step = step_until_killed
else:
    WholeCheckpointIO.save_checkpoint = write_until_killed
main(sys.argv[3:])
"""


# Each kind keeps something of its own in a checkpoint.
KINDS = {
    "frozen": {},
    "full": {"tune": "full", "layer_decay": "0.8", "ema_decay": "0.5", "schedule": "onecycle", "pooled": "true"},
    "lora": {"tune": "lora", "lora": "{rank: 2, dropout: 0.1}", "schedule": "poly"},
    "depth": {},
    "detection": {},
    "sweep": {"sweep": "{lr: [1e-3, 1e-2], weight_decay: [0, 0.1]}"},
}


def options(kind):
    return [part for name, value in KINDS[kind].items() for part in (f"--model.{name}", value)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, checkpoint, scenes):
    """Outcomes of runs that nobody killed, by kind; each is run once."""
    found = {}

    def run(kind):
        if kind not in found:
            root = tmp_path_factory.mktemp("whole") / "run"
            path = root.with_suffix(".yaml")
            text = TEXTS.get(kind, CONFIG)
            path.write_text(text.format(root=root, checkpoint=checkpoint, scenes=scenes, workers=0))
            assert main(["fit", "--config", str(path), *options(kind)]) == 0
            found[kind] = outcome(root, str(path), kind)
        return found[kind]

    return run


def outcome(run, config, kind):
    """Scores of the last checkpoint, and what the last one and the best hold."""
    assert main(["test", "--config", config, "--ckpt_path", "last", *options(kind)]) == 0
    result = json.loads((run / "results.json").read_text())
    heads = [find_checkpoint(kind, str(run / "checkpoints"), "test") for kind in ("last", "best")]
    return [result["metrics"], result.get("classes")], [read_checkpoint(Path(path))["state_dict"] for path in heads]


@pytest.mark.parametrize(
    ("moment", "workers", "kind"),
    [
        ("in an epoch", 0, "frozen"),
        ("in an epoch", 2, "frozen"),
        ("while writing", 0, "frozen"),
        ("writing the first one", 0, "frozen"),
        ("in an epoch", 0, "full"),
        ("while writing", 0, "lora"),
        ("in an epoch", 0, "sweep"),
        ("in an epoch", 0, "depth"),
        ("in an epoch", 0, "detection"),
    ],
)
def test_a_killed_run_goes_on_and_ends_the_same(whole, config, tmp_path, moment, workers, kind):
    broken = config("broken", workers, kind)
    arguments = ["fit", "--config", broken, *options(kind)]
    command = [sys.executable, "-c", KILLED, str(torch.get_num_threads()), moment, *arguments]
    killed = subprocess.run(command, start_new_session=True, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = {path.name: read_checkpoint(path)["epoch"] for path in (tmp_path / "broken" / "checkpoints").glob("[!.]*")}
    assert left.get("last.ckpt") == (None if moment == "writing the first one" else 0) and "best.ckpt" in left
    assert main([*arguments, "--ckpt_path", "last"]) == 0
    scores, heads = outcome(tmp_path / "broken", broken, kind)
    assert scores == whole(kind)[0]
    for found, expected in zip(heads, whole(kind)[1], strict=True):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_whole(config, tmp_path):
    # a limit on the size of a file stands for the disk: what is written after the first epoch goes over it
    full = (
        "import resource, signal, sys\n"
        "from heads import SegmentationTask\n"
        "from heads.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing past the limit is then an error, as on a full disk\n"
        "def limit(self):\n"
        "    if self.current_epoch == 1:\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))\n"
        "SegmentationTask.on_train_epoch_start = limit\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["fit", "--config", config(), "--trainer.logger", "false"]
    stopped = subprocess.run([sys.executable, "-c", full, *arguments], capture_output=True, text=True)
    assert stopped.returncode == 2, stopped.stderr
    assert "cannot be written" in stopped.stderr and "Traceback" not in stopped.stderr
    files = {path.name: path for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert files.keys() == {"best.ckpt", "last.ckpt"}  # and no half of one
    assert all(read_checkpoint(path)["epoch"] == 0 for path in files.values())
    assert main([*arguments, "--ckpt_path", "last"]) == 0


def test_a_warning_is_one_line_without_its_place_in_the_code(coco_of_scenes, checkpoint, tmp_path):
    path = coco_of_scenes / "annotations" / "val.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][2] = 0
    path.write_text(json.dumps(content))
    own = ["--data.root", str(coco_of_scenes), "--data.img_size", "[48, 64]", "--data.skip_invalid", "true"]
    own += ["--data.num_workers", "0", "--model.backbone", str(checkpoint), "--model.detector_args", "{features: 32}"]
    own += ["--trainer.max_epochs", "1", "--trainer.default_root_dir", str(tmp_path / "run")]
    command = [sys.executable, "-c", "import sys; from heads.cli import main; sys.exit(main())"]
    fit = subprocess.run([*command, "fit", "--config", "detection/folder_coco", *own], capture_output=True, text=True)
    said = [line for line in fit.stderr.splitlines() if "Skipped" in line]
    assert fit.returncode == 0 and len(said) == 1, fit.stderr
    assert said[0].startswith("siglip2: Skipped in val: annotation") and "rank_zero_warn" not in fit.stderr


def test_a_fit_without_validation_says_where_its_checkpoint_is(config, tmp_path, capsys):
    assert main(["fit", "--config", config(), "--trainer.limit_val_batches", "0", "--trainer.max_epochs", "1"]) == 0
    assert f"the last one: {tmp_path / 'run' / 'checkpoints' / 'last.ckpt'}" in capsys.readouterr().out


def test_fit_with_last_starts_where_there_is_nothing(config):
    assert main(["fit", "--config", config(), "--ckpt_path", "last", "--trainer.max_epochs", "1"]) == 0


@pytest.mark.parametrize(
    ("subcommand", "arguments", "message"),
    [
        ("test", [], "test needs a trained head: pass --ckpt_path best"),
        ("test", ["--ckpt_path", "best"], "holds no checkpoint 'best'"),
        ("fit", ["--ckpt_path", "gone.ckpt"], "No checkpoint gone.ckpt"),
        ("test", ["--ckpt_path", "."], "heads.load takes an exported head's folder"),
        ("fit", ["--model.lrr", "1"], "'lrr' is not accepted"),
        ("fit", ["--bogus", "1"], "--bogus"),
        ("fit", ["--model.lr", "0"], "lr is 0"),
        ("fit", ["--model.decoder", "nope"], "nope"),
        ("fit", ["--model.backbone", "siglip2_base_patch16_257"], "Did you mean siglip2_base_patch16_256"),
        ("fit", ["--data.classes", "null"], "classes is None; expected their number"),
        ("fit", ["--data.classes", "300"], "300 classes; expected 1 to 255"),
        ("fit", ["--data.ignore_values", "[]", "--data.num_workers", "1"], "has label values [7]; expected classes 0"),
        ("fit", ["--data.root", "gone"], "No folder gone"),
        ("fit", ["--config", "nope"], "No config nope"),
        ("predict", ["--ckpt_path", "CKPT"], "data.predict_images is not set"),
        ("predict", ["--ckpt_path", "CKPT", "--data.predict_images", "gone"], "No folder gone"),
        ("fit", ["--ckpt_path", "CKPT"], "any.ckpt is not a readable checkpoint"),
        ("test", ["--ckpt_path", "CKPT"], "any.ckpt is not a readable checkpoint"),
        ("fit", ["--model.decoder_args", "{upsample: 0}"], "upsample is 0"),
        ("fit", ["--trainer.precision", "bf16-true"], "trainer.precision is bf16-true; the head computes in float32"),
        ("fit", ["--trainer.gradient_clip_val=-1"], "gradient_clip_val is -1"),
        ("fit", ["--trainer.accumulate_grad_batches", "0"], "accumulate_grad_batches 0; expected"),
        ("fit", ["--trainer.accelerator", "warp"], "invalid accelerator name"),
        ("fit", ["--trainer.default_root_dir", "any.ckpt"], "Not a directory: any.ckpt"),
        ("fit", ["--data.classes", "[a, b, a]"], "'a' twice"),
        ("fit", ["--model.lr=-1e-3"], "lr is -0.001"),
        ("fit", ["--model.sweep", "{lr: [1e-3, 0]}"], "lr is 0"),
        ("fit", ["--model.sweep", "{lr: [-1e-3, 1]}"], "lr is -0.001"),
        ("fit", ["--model.layer_decay", "0.8"], "layer_decay is 0.8 but the backbone is frozen"),
        ("fit", ["--model.tune", "full", "--model.sweep", "{lr: [1, 2]}"], "A sweep shares one forward pass of a"),
        ("fit", ["--model.tune", "partly"], "partly"),
        ("fit", ["--model.lora", "{rank: 4}"], "Set tune to lora"),
        ("fit", ["--data.classes", "{a: [1, 2], b: [1, 2, 3]}"], "class 'a' is [1, 2]"),
    ],
)
def test_what_is_wrong_is_said_without_traceback(config, tmp_path, capsys, monkeypatch, subcommand, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "any.ckpt").touch()
    arguments = [str(tmp_path / "any.ckpt") if a == "CKPT" else a for a in arguments]
    assert main([subcommand, "--config", config(), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error.partition(f"siglip2 {subcommand}: ")[2]
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("at", "key"),
    [
        ("", "datta: {{x: 1}}"),
        ("trainer: {{", "max_epoch: 1, "),
        ("  init_args: {{", "learning_rate: 1, "),
        ("  init_args: {{", "decoder_args: {{dropuot: 0.1}}, "),
        ("  init_args: {{", "tune: lora, lora: {{rnak: 2}}, "),
        ("  init_args: {{", "sweep: {{momentum: [0.9]}}, "),
        ("    root: {scenes}\n", "    shuffle: true\n"),
        ("", "checkpoint: {{montior: val/mIoU}}"),
        ("", "predictions: {{colour: red}}"),
    ],
)
def test_an_unknown_key_in_a_file_is_refused(checkpoint, scenes, tmp_path, capsys, at, key):
    text = CONFIG.replace(at, at + key, 1) if at else CONFIG + key + "\n"
    path = tmp_path / "a.yaml"
    path.write_text(text.format(root=tmp_path / "run", checkpoint=checkpoint, scenes=scenes, workers=0))
    assert main(["fit", "--config", str(path)]) == 2
    error = capsys.readouterr().err
    wrong = re.findall(r"(\w+): ", key)[-1] if "{" in key else key.strip().partition(":")[0]
    assert (wrong if wrong != "x" else "datta") in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, checkpoint, scenes):
    """The checkpoint of a short run from the command line."""
    root = tmp_path_factory.mktemp("fitted") / "run"
    path = root.with_suffix(".yaml")
    path.write_text(CONFIG.format(root=root, checkpoint=checkpoint, scenes=scenes, workers=0))
    assert main(["fit", "--config", str(path), "--trainer.max_epochs", "1"]) == 0
    return root / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize("subcommand", ["fit", "test", "predict"])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("classes", "has the classes ['sky', 'road', 'car']; this task has ['a', 'b', 'c']"),
        ("tower", "this backbone is siglip2_tiny_patch8_128 from"),
        ("task", "holds a head for 'depth'; this task is 'segmentation'"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    config, fitted, other_checkpoint, scenes, tmp_path, capsys, subcommand, other, message
):
    content = read_checkpoint(fitted)
    content[CARD]["task"] = "depth" if other == "task" else "segmentation"
    torch.save(content, tmp_path / "a.ckpt")
    arguments = {"classes": ["--data.classes", "[a, b, c]"], "tower": ["--model.backbone", str(other_checkpoint)]}
    arguments = [*arguments.get(other, []), "--ckpt_path", str(tmp_path / "a.ckpt")]
    before = (tmp_path / "a.ckpt").read_bytes()
    arguments += ["--data.predict_images", str(scenes / "val")]
    assert main([subcommand, "--config", config(), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert (tmp_path / "a.ckpt").read_bytes() == before and not list(tmp_path.glob("run/*.json"))
    assert not (tmp_path / "run" / "predictions").exists() and not (tmp_path / "run" / "checkpoints").exists()


def test_the_script_keeps_its_name_because_lightning_starts_it_again_for_each_device(config, monkeypatch):
    seen = []
    monkeypatch.setattr("heads.runs.trainer.DenseCLI", lambda *args, **kwargs: seen.append(sys.argv))
    monkeypatch.setattr("heads.runs.trainer._report", lambda *args: None)
    monkeypatch.setattr(sys, "argv", ["bin/siglip2", "as typed"])
    assert main(["fit", "--config", config()]) == 0
    assert seen[0][:2] == ["bin/siglip2", "fit"] and sys.argv == ["bin/siglip2", "as typed"]


def test_best_has_the_highest_score_whatever_is_newest(tmp_path):
    for score, name in ((0.7, "best.ckpt"), (0.2, "best-v1.ckpt")):  # the last one written is the newest
        state = {"monitor": "val/mIoU", "current_score": torch.tensor(score)}
        torch.save({CARD: {}, "callbacks": {"ModelCheckpoint": state}}, tmp_path / name)
    assert find_checkpoint("best", str(tmp_path), "test") == str(tmp_path / "best.ckpt")
    assert find_checkpoint("last", str(tmp_path), "fit") is None


def test_best_has_the_smallest_error_where_small_is_good(tmp_path):
    for score, name in ((0.7, "best.ckpt"), (0.2, "best-v1.ckpt")):
        state = {"monitor": "val/RMSE", "current_score": torch.tensor(score)}
        torch.save({CARD: {}, "callbacks": {"ModelCheckpoint": state}}, tmp_path / name)
    assert find_checkpoint("best", str(tmp_path), "test", "min") == str(tmp_path / "best-v1.ckpt")


def test_the_task_says_by_which_score_it_goes():
    assert monitored(None, "", "heads.SegmentationTask") == ("val/mIoU", "max")
    assert monitored(None, "", "heads.DepthTask") == monitored("val/RMSE", "", "heads.DepthTask") == ("val/RMSE", "min")
    assert monitored("val/delta1", "max", "heads.DepthTask") == ("val/delta1", "max")
    with pytest.raises(
        ValueError, match=r"checkpoint.monitor is val/delta1; set checkpoint.mode as well: max if higher"
    ):
        monitored("val/delta1", "", "heads.DepthTask")


@pytest.mark.parametrize(
    ("task", "score", "files"),
    [
        ("Depth", "RMSE", {"depth/0.npy", "depth/0.png", "colours/0.png"}),
        ("Normals", "RMSE", {"normals/0.npy", "colours/0.png"}),
    ],
)
def test_depth_and_normals_fit_test_and_predict_from_one_yaml(config, scenes, tmp_path, capsys, task, score, files):
    path, run = Path(config(kind="depth")), tmp_path / "run"
    path.write_text(path.read_text().replace("heads.DepthTask", f"heads.{task}Task"))
    if task == "Normals":
        path.write_text(path.read_text().replace(", sig_warmup_steps: 4, gradient_weight: 0.5", ""))
    options = ["--config", str(path), "--trainer.max_epochs", "1"]
    assert main(["fit", *options]) == 0
    assert f"Best val/{score}" in capsys.readouterr().out
    assert main(["test", *options, "--ckpt_path", "best"]) == 0
    result = json.loads((run / "results.json").read_text())
    assert result["metrics"][score] > 0 and "classes" not in result
    assert result["protocol"]["averaged_over"].startswith("images") and result["protocol"]["flip_test"] is False
    photos = ["--data.predict_images", str(scenes / "val")]
    assert main(["predict", *options, *photos, "--ckpt_path", "best"]) == 0
    written = {p.relative_to(run / "predictions").as_posix() for p in (run / "predictions").rglob("0.*")}
    assert written == files


def test_a_second_run_does_not_mix_with_the_first(config, tmp_path, capsys):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "best.ckpt").touch()
    assert main(["fit", "--config", config()]) == 2
    assert "holds the checkpoints of an earlier run" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 2])
def test_a_terminated_run_does_not_end_as_if_it_were_finished(config, tmp_path, workers):
    own = ["fit", "--config", config(workers=workers), "--trainer.max_epochs", "500"]
    command = [sys.executable, "-c", "import sys; from heads.cli import main; sys.exit(main())", *own]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)  # as a batch system does: the workers get it as well
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 143, error
    assert "siglip2: terminated; fit --ckpt_path last resumes" in error and "Traceback" not in error
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} <= {"best.ckpt", "last.ckpt"}


def test_two_runs_do_not_train_in_one_folder(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("heads.runs.lock._PATIENCE", 0.1)
    with locked(tmp_path / "run"):
        assert main(["fit", "--config", config()]) == 2
        assert f"Another run trains in {tmp_path / 'run'}" in capsys.readouterr().err
    assert (
        main(["fit", "--config", config(), "--trainer.max_epochs", "1"]) == 0
    )  # the lock was left behind by the first


def test_a_best_without_a_last_is_not_overwritten(config, tmp_path, capsys):
    assert main(["fit", "--config", config()]) == 0
    folder = tmp_path / "run" / "checkpoints"
    (folder / "best.ckpt").write_bytes((folder / "last.ckpt").read_bytes())
    (folder / "last.ckpt").unlink()
    before = (folder / "best.ckpt").read_bytes()
    assert main(["fit", "--config", config(), "--ckpt_path", "last"]) == 2
    assert "holds best.ckpt but no last.ckpt to resume from. Resume with --ckpt_path" in capsys.readouterr().err
    assert (folder / "best.ckpt").read_bytes() == before


@pytest.mark.skipif(not CAMVID.is_dir(), reason="needs ../shared/data/camvid")
def test_camvid_from_the_config_that_comes_along(checkpoint, tmp_path):
    own = ["--data.root", str(CAMVID), "--model.backbone", str(checkpoint), "--data.img_size", "[96, 128]"]
    own += ["--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "2", "--data.num_workers", "0"]
    assert main(["fit", "--config", "segmentation/linear_camvid", *own]) == 0
    assert main(["test", "--config", "segmentation/linear_camvid", *own, "--ckpt_path", "best"]) == 0
    result = json.loads((tmp_path / "results.json").read_text())
    assert len(result["classes"]) == 11 and result["protocol"]["images"] == 16
    assert all(row["IoU"] is not None for row in result["classes"].values())


@pytest.mark.filterwarnings("ignore:.*are missing. Scores on it")  # a few images of each data set
@pytest.mark.filterwarnings("ignore:No label of .* has a pixel of")
@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("name", "folder", "classes", "images"),
    [
        ("ADE20K", "ade20k_sample", 150, 3),
        ("PascalVOC", "voc2012_mini", 21, 2),
        ("COCOStuff", "coco_stuff_mini", 171, 8),
    ],
)
def test_public_data_sets_from_fit_to_the_figure_beside_the_published_one(
    checkpoint, tmp_path, capsys, name, folder, classes, images
):
    config = {
        "results": {"published": {"metric": "mIoU", "value": 12.3, "source": "a paper"}},
        "trainer": {"default_root_dir": str(tmp_path / "run"), "max_epochs": 1, "limit_train_batches": 1},
        "model": {"class_path": "heads.SegmentationTask", "init_args": {"backbone": str(checkpoint)}},
        "data": {
            "class_path": f"heads.{name}",
            "init_args": {"root": str(SAMPLES / folder), "img_size": [64, 64], "test_short_side": 64, "num_workers": 0},
        },
    }
    config["data"]["init_args"] |= {"recipe": "dinov3", "batch_size": 2}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(path)]) == 0
    assert main(["test", "--config", str(path), "--ckpt_path", "last"]) == 0
    result = json.loads((tmp_path / "run" / "results.json").read_text())
    assert len(result["classes"]) == classes and result["protocol"]["images"] == images
    assert result["published"][0]["difference"] == pytest.approx(100 * result["metrics"]["mIoU"] - 12.3)
    assert f"Not comparable: {images} of" in capsys.readouterr().out
