"""Heads as files: export, and load from an exported head or a training checkpoint. Nothing in a file is executed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .base import CARD, DenseTask
from .checkpoint_files import read_checkpoint
from .extractor import Extractor
from .files import whole_file
from .segmentation import SegmentationTask
from .sweep import without_sweep

TASKS: dict[str, type[DenseTask]] = {SegmentationTask.task: SegmentationTask}
WEIGHTS, DESCRIPTION = "head.safetensors", "head.json"


def load(source: str | Path, backbone: str | Path | Extractor | None = None) -> Any:
    """A trained task, ready for ``predict``.

    Args:
        source: A checkpoint of a training run, or a directory that ``export`` wrote.
        backbone: Where the backbone's weights are now (path, name or Hugging Face id), or an Extractor that is in use
            already; by default where they were in training.

    Raises:
        ValueError: The file is damaged or not ours, or the backbone's weights are not those of the training.
    """
    path = Path(source).expanduser()
    args, card, state = _read_directory(path) if path.is_dir() else _read_checkpoint(path)
    if card.get("task") not in TASKS:
        raise ValueError(f"{path} holds a head for {card.get('task')!r}; this version knows {', '.join(TASKS)}.")
    if backbone is not None:
        args = args | {"backbone": backbone}
    elif args.get("tune") == "full":  # the checkpoint holds all of the backbone's weights
        args = args | {"backbone": card["backbone"]["name"], "pretrained": False}
    try:
        task = TASKS[card["task"]](**args)
    except ValueError as error:
        hint = "" if backbone is not None else f" It is the backbone of {path}: pass backbone= if it has moved."
        raise ValueError(f"{error}{hint}") from error
    task.check_card(card, str(path))
    task.load_state_dict(state)
    return task.eval()


def export(checkpoint: str | Path, directory: str | Path) -> Path:
    """Write the head of a training checkpoint as ``head.safetensors`` and ``head.json``.

    Args:
        checkpoint: A checkpoint of a training run.
        directory: Folder to write to; made if it is not there.

    Returns:
        The path of ``head.safetensors``.

    Raises:
        ValueError: The checkpoint is damaged or not ours.
    """
    args, card, state = _read_checkpoint(Path(checkpoint).expanduser())
    directory = Path(directory).expanduser()
    with whole_file(directory / WEIGHTS) as partial:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, partial)
    with whole_file(directory / DESCRIPTION) as partial:
        partial.write_text(json.dumps(card | {"arguments": args}, indent=2) + "\n")
    return directory / WEIGHTS


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any], Mapping[str, Tensor]]:
    """Arguments, card and tensors of a training checkpoint; of a sweep those of its best head."""
    checkpoint = read_checkpoint(path)
    args, state = without_sweep(checkpoint["hyper_parameters"], checkpoint[CARD], checkpoint["state_dict"])
    return args, checkpoint[CARD], state


def _read_directory(folder: Path) -> tuple[dict[str, Any], dict[str, Any], Mapping[str, Tensor]]:
    """Arguments, card and tensors of an exported head."""
    for name in (WEIGHTS, DESCRIPTION):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}; expected a directory that `siglip2 export` wrote.")
    try:
        card = json.loads((folder / DESCRIPTION).read_text())
        return card["arguments"], card, load_file(folder / WEIGHTS)
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"{folder} holds a damaged head ({error}). Export or copy it again.") from error
