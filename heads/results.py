"""The result file: what was measured, how, with which versions and on which weights."""

import json
import math
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from .files import file_sha256, whole_file

RESULTS = "results.json"
_VERSIONS = ("siglip2-backbone", "torch", "torchvision", "timm", "transformers", "lightning", "torchmetrics")


class ResultWriter(Callback):
    """Writes ``results.json`` below the trainer's default_root_dir at the end of a test, and prints the classes."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write and print."""
        if not trainer.is_global_zero:
            return
        limit = trainer.limit_test_batches  # 1.0 is all batches, 1 is one; fast_dev_run sets it, too
        if not (isinstance(limit, float) and limit == 1.0):
            print("A part of the split was tested: results.json is left as it was.")
            return
        result = collect(trainer, pl_module)
        path = Path(trainer.default_root_dir) / RESULTS
        with whole_file(path) as partial:
            partial.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
        _print(result, path)


def collect(trainer: Trainer, task: Any) -> dict[str, Any]:
    """Everything that another number must agree in before the two can be compared, as plain data."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    trained = task.trained_with or dict(task.hparams)
    return {
        "task": task.task,
        "metrics": {k.removeprefix("test/"): finite(float(v)) for k, v in trainer.callback_metrics.items()},
        "classes": {name: {k: finite(v) for k, v in row.items()} for name, row in task.per_class.items()},
        "protocol": task.protocol() | data.describe("test"),
        "training": {key: value for key, value in trained.items() if key not in ("classes", "backbone")},
        "backbone": task.card()["backbone"],
        "checkpoint": str(trainer.ckpt_path) if trainer.ckpt_path else None,
        "checkpoint_sha256": file_sha256(Path(trainer.ckpt_path)) if trainer.ckpt_path else None,
        "versions": {name: version(name) for name in _VERSIONS} | {"python": platform.python_version()},
    }


def finite(value: float) -> float | None:
    """JSON has no NaN: a class that does not occur has no score."""
    return value if math.isfinite(value) else None


def result_of(checkpoint: Path) -> dict[str, Any] | None:
    """The result file of exactly this checkpoint, if it lies in the run's folder or beside the checkpoint."""
    for folder in (checkpoint.resolve().parent.parent, checkpoint.resolve().parent):
        try:
            result = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
            tested = result["checkpoint_sha256"]
        except (OSError, ValueError, KeyError, TypeError):  # none there, or something else of that name
            continue
        if tested == file_sha256(checkpoint):
            return dict(result)
    return None


def _print(result: dict[str, Any], path: Path) -> None:
    table = Table("class", "IoU", "acc")
    for name, row in result["classes"].items():
        table.add_row(name, *(_percent(row[k], 1) for k in ("IoU", "acc")))
    console = Console()
    console.print(table)
    console.print(f"mIoU {_percent(result['metrics']['mIoU'], 2)} %, written to {path}", highlight=False)


def _percent(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}"
