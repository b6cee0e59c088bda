"""Counting over a split: every head in validation, where a sweep finds its best one, and the best head in a test."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..training.distributed import gather
from ..training.sweep import label
from .finite import naming_images

if TYPE_CHECKING:
    from .head_task import HeadTask


class Measuring:
    """Runs a task's metrics over a split.

    Args:
        task: The task; its ``metrics``, ``best_head``, ``sweep_scores`` and ``tested`` are set here.
    """

    def __init__(self, task: "HeadTask") -> None:
        self.task = task

    def start(self) -> None:
        """Start from zero, whatever a sanity check or an interrupted epoch has counted."""
        task = self.task
        if not task.metrics:
            task.metrics.extend(task.new_metrics().to(task.device) for _ in task.settings)
        for metric in task.metrics:
            metric.reset()  # type: ignore[operator]
        gather(task, whole=True)

    def validate(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count a batch for each head."""
        task = self.task
        with naming_images(batch, "validate", batch_idx):
            outputs = task.outputs(batch, range(len(task.metrics)), "val")
        for metric, output in zip(task.metrics, outputs, strict=True):
            task.update(metric, output, batch)

    def end_validation(self) -> None:
        """Log the split's scores, the best head's under their plain names."""
        task = self.task
        gather(task, whole=False)
        scored = [task.scores(metric, "val").values for metric in task.metrics]
        if not task.trainer.sanity_checking:
            self._choose_head(scored)
            best = {name: float(value) for name, value in scored[task.best_head].items()}
            task.checkpointing.validated(best)
        self._log("val", scored[task.best_head])

    def _choose_head(self, scored: Sequence[Mapping[str, Tensor]]) -> None:
        """Of a sweep, the head with the best score."""
        if len(scored) == 1:
            return
        task = self.task
        name, mode = task.monitor
        values = [float(scores[name]) for scores in scored]
        task.best_head = values.index(max(values) if mode == "max" else min(values))
        task.sweep_scores = list(values)
        each = {f"val/{name}/{label(s)}": v for s, v in zip(task.settings, values, strict=True)}
        task.log_dict(each, sync_dist=True, reduce_fx="max")

    def test(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count a batch for the best head."""
        task = self.task
        with naming_images(batch, "test", batch_idx):
            (output,) = task.outputs(batch, [task.best_head], "test")
        task.update(task.metrics[task.best_head], output, batch)

    def end_test(self) -> None:
        """Log the split's scores, and keep them with their tables for the result file."""
        task = self.task
        task.tested = task.scores(task.metrics[task.best_head], "test")
        self._log("test", task.tested.values)

    def _log(self, stage: str, scores: Mapping[str, Tensor]) -> None:
        for name, value in scores.items():
            # the same in every process; "max" keeps them to the last bit where a mean might round
            shown = name == self.task.monitor[0]
            self.task.log(f"{stage}/{name}", value, prog_bar=shown, sync_dist=True, reduce_fx="max")
