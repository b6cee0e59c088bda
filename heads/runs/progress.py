"""Progress as lines of text, for output that is not a terminal."""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

_EVERY = 10.0  # seconds between two lines


class LineProgress(ProgressBar):
    """Prints the progress every ten seconds; a bar that redraws itself would fill a log file or stay invisible.

    A line has the epoch, the batch and the scores that a bar would show, such as ``epoch 2 of 10, batch 30 of 120,
    train/loss 0.412``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._said = time.monotonic()

    def disable(self) -> None:
        """Stop printing, for example while a learning rate finder tries values."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print a line if one is due."""
        self._say(trainer, pl_module, f"{_epoch(trainer)}, batch {batch_idx + 1} of {_count(self.total_train_batches)}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a line with the epoch's scores if one is due."""
        self._say(trainer, pl_module, f"{_epoch(trainer)} finished")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line if one is due."""
        self._say(trainer, pl_module, f"validation, batch {batch_idx + 1} of {_total(trainer.num_val_batches)}")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line if one is due."""
        self._say(trainer, pl_module, f"test, batch {batch_idx + 1} of {_total(trainer.num_test_batches)}")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line if one is due."""
        self._say(trainer, pl_module, f"predict, batch {batch_idx + 1} of {_total(trainer.num_predict_batches)}")

    def _say(self, trainer: Trainer, pl_module: LightningModule, where: str) -> None:
        now = time.monotonic()
        if not self._enabled or not trainer.is_global_zero or now - self._said < _EVERY:
            return
        self._said = now
        shown = self.get_metrics(trainer, pl_module).items()
        values = (f"{name} {value:.3f}" for name, value in shown if isinstance(value, float))
        print(", ".join((where, *values)), flush=True)


def _epoch(trainer: Trainer) -> str:
    known = trainer.max_epochs is not None and trainer.max_epochs > 0
    return f"epoch {trainer.current_epoch + 1}" + (f" of {trainer.max_epochs}" if known else "")


def _count(batches: float) -> str:
    return "?" if batches == float("inf") else str(int(batches))


def _total(batches: list[int | float]) -> str:
    return _count(sum(batches))
