"""Two processes (gloo, on the CPU): the same counts as one, whoever has more images; sharded as copied."""

import json
import math
import shutil
import subprocess
import sys

import pytest
import torch

import heads
from heads import DepthTask, DetectionTask, GeneratedScenes, NormalsTask
from heads.training.distributed import from_first, gather_objects

# Fits and tests a task whose backbone is tuned; Lightning starts it once more for the second process.
RUN = """
import json, sys, torch, yaml
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from heads import SegmentationFolder, SegmentationTask
from heads.runs.configs import config_root
from heads.outputs.results import ResultWriter

class PlainDescent(SegmentationTask):
    # AdamW would blow up the rounding of gradients that are zero, as BatchNorm makes those of the scale before it
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

torch.set_num_threads(1)
strategy, root, task_args, data_args = json.loads(sys.argv[1])
if strategy == "fsdp":
    options = yaml.safe_load((config_root() / "strategy" / "fsdp.yaml").read_text())["trainer"]["strategy"]
    strategy = ModelParallelStrategy(**options["init_args"])
torch.manual_seed(0)
task, data = PlainDescent(**task_args), SegmentationFolder(**data_args)
quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
trainer = Trainer(
    default_root_dir=root, accelerator="cpu", devices=2, strategy=strategy, max_epochs=2, gradient_clip_val=1.0,
    num_sanity_val_steps=2, callbacks=[ResultWriter()], **quiet,
)
trainer.fit(task, data)
trainer.save_checkpoint(f"{root}/end.ckpt")
loss = trainer.callback_metrics["train/loss"]
trainer.test(task, data, ckpt_path=f"{root}/end.ckpt", verbose=False)
matrix = task.metrics[0].compute()
if trainer.is_global_zero:
    torch.save({"matrix": matrix, "loss": loss}, f"{root}/matrix.pt")
"""
COLOURS = {"sky": [0, 0, 255], "road": [90, 90, 90], "car": [200, 0, 0]}


def run_in_two(strategy, root, task, data):
    (root / "run.py").write_text(RUN)
    arguments = json.dumps([strategy, str(root), task, data])
    run = subprocess.run([sys.executable, root / "run.py", arguments], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return torch.load(root / "matrix.pt", weights_only=True)


@pytest.fixture(scope="module")
def two_processes(checkpoint, scenes, tmp_path_factory):
    """Folder, confusion matrix and last loss after two epochs, by strategy."""
    found = {}
    for strategy in ("ddp", "fsdp"):
        root = tmp_path_factory.mktemp(strategy)
        task = {"backbone": str(checkpoint), "classes": COLOURS, "img_size": [48, 64], "tune": "full", "pooled": True}
        data = {"root": str(scenes), "classes": COLOURS, "img_size": [48, 64], "ignore_values": [7]}
        data |= {"batch_size": 1, "num_workers": 0}  # three images are tested: two by one process, one by the other
        found[strategy] = (root, run_in_two(strategy, root, task, data))
    return found


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_process_counts_what_two_have_counted(two_processes, strategy, data, trainer):
    root, found = two_processes[strategy]
    task = heads.load(root / "end.ckpt")
    trainer().test(task, data, verbose=False)
    alone = task.metrics[0].compute()
    assert alone.sum() == 3 * (48 * 64 - 36)  # every image once, without its unlabelled corner
    assert torch.equal(found["matrix"], alone)


def test_a_sharded_backbone_trains_as_a_copied_one(two_processes):
    (ddp, a), (fsdp, b) = two_processes["ddp"], two_processes["fsdp"]
    torch.testing.assert_close(a["loss"], b["loss"], atol=1e-5, rtol=1e-5)
    states = [heads.load(root / "end.ckpt").kept_state() for root in (ddp, fsdp)]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], atol=2e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


# Tests an untrained head; three images, of which one process has two.
MEASURE = """
import json, sys, torch
from lightning.pytorch import Trainer
import heads

threads, root, name, args = json.loads(sys.argv[1])
torch.set_num_threads(threads)  # other sums in the last digit otherwise
data = heads.GeneratedScenes((48, 64), test_images=3, batch_size=1, num_workers=0)
args |= {"classes": data.classes} if name == "DetectionTask" else {}
torch.manual_seed(0)
task = getattr(heads, name)(**args)
quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
trainer = Trainer(default_root_dir=root, accelerator="cpu", devices=2, strategy="ddp", **quiet)
trainer.test(task, data, verbose=False)
scores = trainer.callback_metrics if name == "DetectionTask" else task.metrics[0].compute()
if trainer.is_global_zero:
    torch.save(dict(scores), f"{root}/scores.pt")
"""


def measured_in_two(kind, args, root):
    arguments = json.dumps([torch.get_num_threads(), str(root), kind.__name__, args])
    (root / "run.py").write_text(MEASURE)
    run = subprocess.run([sys.executable, root / "run.py", arguments], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return torch.load(root / "scores.pt", weights_only=True)


@pytest.mark.parametrize("kind", [DepthTask, NormalsTask])
def test_depth_and_normals_score_to_the_last_bit_what_one_process_does(kind, checkpoint, trainer, tmp_path):
    args = {"backbone": str(checkpoint), "img_size": [48, 64]}
    found = measured_in_two(kind, args, tmp_path)
    torch.manual_seed(0)
    task = kind(**args)
    trainer().test(task, GeneratedScenes((48, 64), test_images=3, batch_size=1, num_workers=0), verbose=False)
    alone = task.metrics[0].compute()
    assert alone["images"] == 3 and alone.keys() == found.keys()
    assert all(torch.equal(alone[name], found[name]) for name in alone)


def test_detection_scores_to_the_last_bit_what_one_process_does(checkpoint, trainer, tmp_path):
    args = {"backbone": str(checkpoint), "img_size": [48, 64], "pyramid": "resample", "detector": "mask_rcnn"}
    args |= {"detector_args": {"features": 32}, "score_threshold": 0.0}
    found = measured_in_two(DetectionTask, args, tmp_path)
    data = GeneratedScenes((48, 64), test_images=3, batch_size=1, num_workers=0)
    torch.manual_seed(0)
    (alone,) = trainer().test(DetectionTask(**args, classes=data.classes), data, verbose=False)
    assert alone["test/AR100"] > 0 and alone.keys() == found.keys()
    assert all(score == float(found[name]) or math.isnan(score) for name, score in alone.items())


# Trains a detector that does not read the finest level of a learned pyramid.
FIT_UNREAD = """
import sys, torch
from lightning.pytorch import Trainer
import heads

torch.set_num_threads(1)
torch.manual_seed(0)
data = heads.GeneratedScenes((48, 64), train_images=4, val_images=2, batch_size=1, num_workers=0)
task = heads.DetectionTask(sys.argv[1], data.classes, (48, 64), detector="fcos", pyramid="sfp", tune="full")
quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
Trainer(
    default_root_dir=sys.argv[2], accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, **quiet
).fit(task, data)
torch.save(task.kept_state(), f"{sys.argv[2]}/{task.global_rank}.pt")
"""


def test_two_processes_train_a_detector_that_leaves_a_level_unread(checkpoint, tmp_path):
    (tmp_path / "run.py").write_text(FIT_UNREAD)
    arguments = [sys.executable, tmp_path / "run.py", str(checkpoint), str(tmp_path)]
    run = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_damaged_files_of_every_process_are_named_and_keep_none_waiting(checkpoint, scenes, tmp_path):
    root = shutil.copytree(scenes, tmp_path / "scenes")
    for damaged in ("train/3.png", "val/0.png", "val/1.png"):  # the last two are of one process each
        (root / damaged).write_bytes(b"damaged")
    task = {"backbone": str(checkpoint), "classes": COLOURS, "img_size": [48, 64]}
    data = {"root": str(root), "classes": COLOURS, "img_size": [48, 64], "ignore_values": [7]}
    found = run_in_two("ddp", tmp_path, task, data | {"batch_size": 1, "num_workers": 0, "skip_corrupt": True})
    assert found["matrix"].sum() == 48 * 64 - 36  # the one image that can be read, once
    skipped = json.loads((tmp_path / "results.json").read_text())["skipped"]
    assert [reason.split(" is ")[0] for reason in skipped] == [str(root / "val" / f"{i}.png") for i in range(2)]


def test_a_process_alone_hears_and_asks_only_itself():  # two of them: see metrics/test_detection.py
    assert gather_objects({"an": "image"}) == [{"an": "image"}]
    assert from_first(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        from_first(lambda: 1 / 0)
