"""The result file: scores, protocol, versions and weights."""

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Column, Table

from siglip2_backbone.files import file_sha256, whole_file
from siglip2_backbone.json_files import read_json

from ..data.interface import ReportedData, check_data
from ..training.distributed import union

RESULTS = "results.json"
_MOST_ROWS = 200  # longer tables are not printed
_VERSIONS = ("siglip2-backbone", "torch", "torchvision", "timm", "transformers", "lightning", "torchmetrics")


@dataclass(frozen=True)
class Published:
    """A published score to compare yours with.

    Args:
        metric: Name of the score, such as mIoU.
        value: The score as printed: a share in per cent, anything else in its unit.
        source: Paper and table.
    """

    metric: str
    value: float
    source: str


class ResultWriter(Callback):
    """Writes ``results.json`` below the trainer's default_root_dir at the end of a test, and prints the scores.

    Args:
        published: A score to compare with (metric, value and source), or several, such as box AP and mask AP.
    """

    def __init__(self, published: Published | list[Published] | None = None) -> None:
        self.published = [published] if isinstance(published, Published) else list(published or ())

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the data module before a test.

        Raises:
            ValueError: There is none, or it lacks something that the result file reports.
        """
        if stage == "test":
            check_data(trainer.datamodule, ReportedData, RESULTS)  # type: ignore[attr-defined]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the result file and print the scores."""
        task: Any = pl_module  # has tables, units and a protocol
        data: ReportedData = trainer.datamodule  # type: ignore[attr-defined]
        skipped = union(data.skipped.get("test", ()))  # a collective call, so before the other processes return
        if not trainer.is_global_zero:
            return
        result = collect(trainer, task) | {"skipped": skipped}
        limit = trainer.limit_test_batches  # 1.0 is all batches, 1 is one; fast_dev_run sets it, too
        if not (isinstance(limit, float) and limit == 1.0):
            _print(result, task, None, data.skips)
            print(f"Only a part of the split was tested: {RESULTS} is left unchanged.")
            return
        if self.published:
            result["published"] = [_compared(p, result, task.units.get(p.metric, "")) for p in self.published]
        path = Path(trainer.default_root_dir) / RESULTS
        with whole_file(path) as partial:
            partial.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
        task.write_test(task.tested, path.parent)
        _print(result, task, path, data.skips)


def collect(trainer: Trainer, task: Any) -> dict[str, Any]:
    """The scores, and everything that must agree before two scores can be compared, as plain data."""
    data: ReportedData = trainer.datamodule  # type: ignore[attr-defined]
    trained = task.checkpointing.trained_with or dict(task.hparams)
    tables = {
        title: {name: {k: finite(v) for k, v in row.items()} for name, row in rows.items()}
        for title, rows in task.tested.tables.items()
    }
    return {
        "task": task.task,
        "metrics": {k.removeprefix("test/"): finite(float(v)) for k, v in trainer.callback_metrics.items()},
        **tables,
        "protocol": task.protocol() | data.describe("test"),
        "training": {key: value for key, value in trained.items() if key not in ("classes", "backbone")},
        "backbone": task.card()["backbone"],
        "checkpoint": str(trainer.ckpt_path) if trainer.ckpt_path else None,
        "checkpoint_sha256": file_sha256(Path(trainer.ckpt_path)) if trainer.ckpt_path else None,
        "versions": {name: version(name) for name in _VERSIONS} | {"python": platform.python_version()},
    }


def finite(value: float | None) -> float | None:
    """The value if it is finite, else ``None``: JSON has no NaN, the score of a class that does not occur."""
    return value if value is not None and math.isfinite(value) else None


def result_of(checkpoint: Path) -> dict[str, Any] | None:
    """The result file of exactly this checkpoint, if it is in the run's folder or next to the checkpoint."""
    for folder in (checkpoint.resolve().parent.parent, checkpoint.resolve().parent):
        try:
            result = read_json(folder / RESULTS)
            tested = result["checkpoint_sha256"]
        except (OSError, ValueError, KeyError, TypeError):  # missing, or another file of that name
            continue
        if tested == file_sha256(checkpoint):
            return dict(result)
    return None


def _compared(published: Published, result: dict[str, Any], unit: str) -> dict[str, Any]:
    """The published score, your score minus it, and whether your score is of the whole split."""
    own, protocol = result["metrics"].get(published.metric), result["protocol"]
    whole = protocol["images"] == protocol.get("images_published", protocol["images"]) and not result["skipped"]
    difference = None if own is None else (100 * own if unit == "%" else own) - published.value
    return asdict(published) | {"difference": difference, "whole_split": whole}


def _print(result: dict[str, Any], task: Any, path: Path | None, skips: str) -> None:
    """Print the scores, the task's tables and its monitored score; ``path`` is the result file, if one was written."""
    see = f", see {path}" if path else ""
    console, scores = Console(markup=False, emoji=False), result["metrics"]  # names of classes are as they are
    for title, rows in ({"score": {name: {"": v} for name, v in scores.items()}} | task.tested.tables).items():
        if len(rows) > _MOST_ROWS:
            console.print(f"{len(rows)} {title}{see}", highlight=False)
            continue
        columns = list(next(iter(rows.values())))
        table = Table(title, *columns)
        for name, row in rows.items():
            shown = (_shown(finite(row[c]), task.units.get(c or name, ""), 1 if c else 3) for c in columns)
            table.add_row(name, *shown)
        console.print(table)
    if "published" in result:
        console.print(_comparison(result, task.units, skips))
    if result["skipped"]:
        console.print(f"{len(result['skipped'])} {skips} were skipped{see}", highlight=False)
    name = task.monitor[0]
    unit = task.units.get(name, "")
    written = f", written to {path}" if path else ""
    console.print(f"{name} {_shown(scores[name], unit, 3)} {unit}{written}", highlight=False)


def _shown(value: float | None, unit: str, digits: int) -> str:
    """Format a share in per cent, anything else unchanged."""
    if value is None:
        return "-"
    return f"{100 * value:.{min(digits, 2)}f}" if unit == "%" else f"{value:.{digits}f}"


def _comparison(result: dict[str, Any], units: Mapping[str, str], skips: str) -> Table:
    """Your scores next to the published ones."""
    protocol, skipped = result["protocol"], len(result["skipped"])
    counted = protocol["images"] - (skipped if skips == "images" else 0)
    without = f" without {skipped} {skips}" if skipped and skips != "images" else ""
    table = Table("score", "here", "published", "difference", Column("source", overflow="fold"))
    for published in result["published"]:
        name, difference, unit = published["metric"], published["difference"], units.get(published["metric"], "")
        own, digits = result["metrics"].get(name), 1 if unit == "%" else 3
        signed = "-" if difference is None else f"{difference:+.{digits}f}"
        table.add_row(name, _shown(own, unit, digits), f"{published['value']:.{digits}f}", signed, published["source"])
        if not published["whole_split"]:
            of = protocol.get("images_published", protocol["images"])
            table.caption = f"Not comparable: {counted} of {of} images{without}."
        if own is None:
            names = ", ".join(result["metrics"])
            table.caption = f"No score is called {name}: set results.published.metric to one of {names}."
    return table
