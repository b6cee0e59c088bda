"""A warning of the classes that no label of a split has, once all its labels have been read."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn

from ..data.classes import IGNORE
from ..training.distributed import gather_objects

_SHOWN = 10  # names in a warning


class ClassesSeen(Callback):
    """Collects the classes in the labels of each split, and warns at the end of the first epoch of those without any.

    A dataset gives the classes of a whole label with each sample, under ``classes_in``, because a training crop may
    lack some. No file is read again, and several processes count together. A run over part of a split (a sanity check,
    ``limit_val_batches``, an epoch that ``max_steps`` ends) gives no warning: the other labels may have the class.

    Args:
        names: Names of the classes, in the order of the labels.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._seen: dict[str, set[int]] = {"train": set(), "val": set(), "test": set()}
        self._labels = dict.fromkeys(self._seen, 0)  # number of labels read
        self._done: set[str] = set()  # splits that need no further look

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Collect the classes of a batch."""
        self._collect("train", batch)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the classes of a batch."""
        if not trainer.sanity_checking:
            self._collect("val", batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the classes of a batch."""
        self._collect("test", batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn once, after an epoch that was not cut short."""
        if trainer.is_last_batch:
            self._report("train", trainer.limit_train_batches)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn once."""
        if not trainer.sanity_checking:
            self._report("val", trainer.limit_val_batches)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn once."""
        self._report("test", trainer.limit_test_batches)

    def _collect(self, split: str, batch: Any) -> None:
        if split in self._done or not isinstance(batch, dict):
            return
        for classes in batch.get("classes_in", ()):
            self._seen[split] |= classes
            self._labels[split] += bool(classes)  # none: a file that was skipped

    def _report(self, split: str, limit: float) -> None:
        """Warn of the classes without a pixel; a collective call, so all processes come to the same decision."""
        if split in self._done or not (isinstance(limit, float) and limit == 1.0):  # 1.0 is all batches, 1 is one
            return
        self._done.add(split)
        found = gather_objects((self._seen[split], self._labels[split]))
        seen = set().union(*(classes for classes, _ in found))
        missing = [repr(name) for index, name in enumerate(self.names) if index not in seen]
        if not missing or not seen - {IGNORE}:  # labels without any class are reported elsewhere
            return
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        ignored = " A class stored as 255 is ignored: store it as its index." if IGNORE in seen else ""
        labels = sum(count for _, count in found)
        rank_zero_warn(
            f"No label of {split} has a pixel of {', '.join(missing[:_SHOWN])}{more} ({labels} labels were read). "
            f"Check that data.classes is not too long and starts at the same value as the files.{ignored}"
        )
