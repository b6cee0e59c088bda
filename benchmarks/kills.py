"""Check that a run which is killed at random moments and resumed ends like an undisturbed run.

For each kind of run: 30 epochs with a falling monitored score, once undisturbed, and once killed by SIGKILL at ten
random moments and resumed each time by ``fit --ckpt_path last``. ``last`` and ``best`` of both must agree in every
weight, in the state of the optimiser and of the schedule, and in the scores. Exits with status 1 if they differ.

Each run is a fork of this process, so that a start costs no imports.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import torch

import heads
from heads.cli import main
from heads.storage.checkpoints import read_checkpoint

# falling: the epoch number with mode min, which gets worse in each epoch; task: the score that the task monitors
SCORES = {"falling": "{monitor: epoch, mode: min}", "task": "{}"}
SEGMENTATION = "{class_path: heads.SegmentationTask, init_args: {backbone: TOWER, pretrained: false, warmup_steps: 2"
KINDS = {
    "frozen": SEGMENTATION + "}}",
    "ema": SEGMENTATION + ", tune: full, ema_decay: 0.5}}",
    "sweep": SEGMENTATION + ", sweep: {lr: [1e-3, 1e-2], weight_decay: [0, 0.1]}}}",
    "mask_rcnn": (
        "{class_path: heads.DetectionTask, init_args: {backbone: TOWER, pretrained: false, pyramid: resample, "
        "detector: mask_rcnn, detector_args: {features: 16}, score_threshold: 0.0, warmup_steps: 2}}"
    ),
    "depth": "{class_path: heads.DepthTask, init_args: {backbone: TOWER, pretrained: false, warmup_steps: 2}}",
}
CONFIG = """
trainer: {{default_root_dir: {root}, max_epochs: {epochs}, enable_progress_bar: false, enable_model_summary: false}}
checkpoint: {score}
model: {model}
data:
  class_path: heads.GeneratedScenes
  init_args: {{img_size: [48, 64], train_images: 4, val_images: 2, test_images: 2, batch_size: 2, num_workers: 0}}
"""


def start(config: Path, log: Path) -> int:
    """Fork a run into its own process group; return its process id."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        status = 1
        try:
            status = main(["fit", "--config", str(config), "--ckpt_path", "last"])
        finally:
            sys.stdout.flush()
            os._exit(status)


def differences(found: dict, expected: dict) -> list[str]:
    """Names of the parts that differ between two checkpoints; paths are ignored."""
    wrong = []
    for name, tensor in expected["state_dict"].items():
        if not torch.equal(found["state_dict"][name], tensor):
            wrong.append(name)
    for key in ("epoch", "global_step", "lr_schedulers", "siglip2_head"):
        if found[key] != expected[key]:
            wrong.append(key)
    pairs = zip(found["optimizer_states"], expected["optimizer_states"], strict=True)
    for mine, theirs in pairs:
        for number, state in theirs["state"].items():
            if any(not torch.equal(value, mine["state"][number][name]) for name, value in state.items()):
                wrong.append(f"optimiser state {number}")
    (mine,), (theirs,) = ([s for k, s in c["callbacks"].items() if "Checkpoint" in k] for c in (found, expected))
    if mine["best_model_score"] != theirs["best_model_score"]:
        wrong.append("best score")
    return wrong


def compare(kind: str, score: str, folder: Path, epochs: int, kills: int, rng: random.Random) -> bool:
    """Do one kind of run undisturbed and killed; return whether both agree."""
    roots = {name: folder / kind / name for name in ("whole", "killed")}
    for name, root in roots.items():
        root.parent.mkdir(parents=True, exist_ok=True)
        model = KINDS[kind].replace("TOWER", "siglip2_tiny_patch8_128")
        config = CONFIG.format(root=root, epochs=epochs, score=SCORES[score], model=model)
        (root.parent / f"{name}.yaml").write_text(config)
    log = folder / kind / "log"
    began = time.monotonic()
    _, status = os.waitpid(start(folder / kind / "whole.yaml", log), 0)
    whole = time.monotonic() - began
    if status:
        print(f"{kind}: the undisturbed run failed:\n{log.read_text()[-2000:]}")
        return False
    reached = []
    for _ in range(kills):
        child = start(folder / kind / "killed.yaml", log)
        time.sleep(rng.uniform(0.2, 0.7) * whole)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        last = roots["killed"] / "checkpoints" / "last.ckpt"
        reached.append(read_checkpoint(last)["epoch"] if last.exists() else None)
    _, status = os.waitpid(start(folder / kind / "killed.yaml", log), 0)
    if status:
        print(f"{kind}: the resumed run failed:\n{log.read_text()[-2000:]}")
        return False
    wrong = []
    for name in ("last.ckpt", "best.ckpt"):
        killed, undisturbed = (
            read_checkpoint(root / "checkpoints" / name) for root in (roots["killed"], roots["whole"])
        )
        wrong += [f"{name}: {part}" for part in differences(killed, undisturbed)]
    epoch = read_checkpoint(roots["whole"] / "checkpoints" / "last.ckpt")["epoch"] + 1
    best = read_checkpoint(roots["whole"] / "checkpoints" / "best.ckpt")["epoch"] + 1
    left = sorted(path.name for path in (roots["killed"] / "checkpoints").iterdir())
    print(
        f"{kind:10} last is epoch {epoch}, best is epoch {best}; killed after epochs "
        f"{['-' if e is None else e + 1 for e in reached]}; differences: {wrong or 'none'}; files: {left}",
        flush=True,
    )
    return not wrong and epoch == epochs and left == ["best.ckpt", "last.ckpt"]


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--score", default="falling", choices=SCORES)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # threads do not survive a fork
    for name in ("SegmentationTask", "DepthTask", "DetectionTask", "GeneratedScenes"):
        getattr(heads, name)  # import them here, so that no fork has to
    import_module("heads.runs.trainer")
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        agree = [compare(kind, args.score, Path(folder), args.epochs, args.kills, rng) for kind in args.kinds]
    sys.exit(not all(agree))


if __name__ == "__main__":
    run()
