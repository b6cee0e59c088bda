"""A warning that names the classes without a pixel in any label of a split."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn

from ..data.classes import IGNORE
from ..training.distributed import gather_objects

_SHOWN = 10  # names


class ClassesSeen(Callback):
    """Collects the classes in the labels of a split, and warns of missing ones at the end of its first epoch.

    Data sets list the classes of the whole label with each sample, under ``classes_in``, because a training crop may
    lack some. No file is read for this, and the counts of all processes are merged.

    Args:
        names: Names of the classes, in the order of the labels.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.seen: dict[str, set[int]] = {}
        self.labels: dict[str, int] = {}
        self._said: set[str] = set()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the classes of a batch."""
        self._note("train", batch)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note the classes of a batch; a sanity check reads too few labels."""
        if not trainer.sanity_checking:
            self._note("val", batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note the classes of a batch."""
        self._note("test", batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn once."""
        self._say("train")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn once."""
        if not trainer.sanity_checking:
            self._say("val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn once."""
        self._say("test")

    def _note(self, split: str, batch: dict[str, Any]) -> None:
        if split not in self._said:
            for classes in batch.get("classes_in", ()):
                self.seen.setdefault(split, set()).update(classes)
                self.labels[split] = self.labels.get(split, 0) + 1

    def _say(self, split: str) -> None:
        if split in self._said:
            return
        self._said.add(split)
        found = gather_objects((self.seen.get(split, set()), self.labels.get(split, 0)))
        seen, labels = set().union(*(classes for classes, _ in found)), sum(count for _, count in found)
        missing = [repr(name) for place, name in enumerate(self.names) if place not in seen]
        if not labels or not missing or not seen - {IGNORE}:  # the metric refuses a split whose pixels are all ignored
            return
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        ignored = (
            " Pixels of value 255 are ignored; if they mark a class, save its index instead." if IGNORE in seen else ""
        )
        rank_zero_warn(
            f"The {labels} {split} labels that were read have no pixel of {', '.join(missing[:_SHOWN])}{more}. Check "
            f"that data.classes has the length and the first index of the label files.{ignored}"
        )
