"""``siglip2 demo``: a tiny tower learns to segment generated scenes in about two minutes, offline."""

import argparse
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from PIL import Image

from ..data.module import collate
from ..data.scenes.module import GeneratedScenes
from ..outputs.contact_sheet import picture, sheet
from ..outputs.encoded import write_picture
from ..outputs.pca import pca_colours
from ..outputs.results import ResultWriter
from ..runs.configs import find_config
from ..runs.messages import LIGHTNING_ADVICE
from ..runs.progress import LineProgress
from ..runs.threads import choose_threads
from ..runs.yaml_files import read_yaml
from ..tasks.segmentation import SegmentationTask
from .inputs import output_path

CONFIG = "segmentation/generated_scenes"
_SHOWN = 4  # scenes in the picture

_BEFORE = """\
A tiny SigLIP 2 tower ({parameters:.1f} M parameters) with a linear head learns to segment {scenes} generated rooms.
Its weights are RANDOM at the start and trained here end to end. They contain no published SigLIP 2 weights: the score
shows that training and evaluation work, not how good SigLIP 2 is.
"""
_AFTER = """\
{picture}: image, ground truth, prediction and features (first three principal components) of held-out scenes.

Next:
  siglip2 fit --config {config}       the same from the command line, with checkpoints
  siglip2 models                                           the published checkpoints by name
  siglip2 pca PHOTO... --output pca.png                    real weights (google/siglip2-base-patch16-256) on your photos
  siglip2 features PHOTO... --output DIR                   their dense features
  siglip2 fit --config segmentation/linear_camvid ...      a linear probe on your labels (see the README)
"""


def run(command: str, arguments: list[str]) -> None:
    """Train, test, write ``DIR/results.json`` and ``DIR/scenes.png``, and print the next commands."""
    parser = argparse.ArgumentParser(prog=f"siglip2 {command}", description=__doc__)
    parser.add_argument("--output", default="demo", type=output_path, help="folder to write to")
    parser.add_argument("--seed", default=0, type=int, help="random seed of weights and scenes")
    parser.add_argument("--scenes", type=int, help="number of training scenes, each seen once (default: the config's)")
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)  # fails before the training if it cannot be written
    task, data, trainer = _build(args.seed, args.scenes, args.output)
    parameters = sum(p.numel() for p in task.parameters()) / 1e6
    print(_BEFORE.format(parameters=parameters, scenes=data.counts["train"]), flush=True)
    trainer.fit(task, data)
    trainer.test(task, data, verbose=False)
    path = args.output / "scenes.png"
    write_picture(_picture(task, data), path)
    print(_AFTER.format(picture=path, config=CONFIG))


def _build(seed: int, scenes: int | None, output: Path) -> tuple[SegmentationTask, GeneratedScenes, Trainer]:
    """Task, data module and trainer of the config, without checkpoints."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in LIGHTNING_ADVICE:
        warnings.filterwarnings("ignore", message=message, module="lightning")
    config: dict[str, Any] = read_yaml(find_config(CONFIG))
    settings = config["data"]["init_args"] | {"seed": seed} | ({} if scenes is None else {"train_images": scenes})
    data = GeneratedScenes(**settings)
    seed_everything(seed, verbose=False)
    task = SegmentationTask(classes=data.classes, img_size=data.img_size, **config["model"]["init_args"])
    choose_threads(min(task.extractor.channels))
    options = config["trainer"] | {"default_root_dir": output, "logger": False, "enable_checkpointing": False}
    options |= {"enable_model_summary": False, "limit_val_batches": 0}
    progress = [] if sys.stdout.isatty() else [LineProgress()]
    return task, data, Trainer(**options, callbacks=[ResultWriter(), *progress])


@torch.no_grad()
def _picture(task: SegmentationTask, data: GeneratedScenes) -> Image.Image:
    test = data.datasets["test"]
    batch = collate([test[0, i] for i in range(_SHOWN)])
    task.eval().cpu()
    maps = task.maps(batch)
    found = task.answer(batch)
    palette = torch.tensor(list(task.colours.values()), dtype=torch.uint8)
    rows = [
        [picture(part) for part in (image, *(palette[m].permute(2, 0, 1) for m in (mask, labels)), colours)]
        for image, mask, labels, colours in zip(
            batch["image"], batch["mask"], found, pca_colours(list(maps[0])), strict=True
        )
    ]
    return sheet(rows, height=192, titles=("image", "ground truth", "prediction", "features"), legend=task.colours)
