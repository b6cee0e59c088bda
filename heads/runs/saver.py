"""The checkpoints of a run: ``last`` at the end of every epoch, and ``best`` by the monitored score."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor


class RunCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, with a ``last`` of the last epoch.

    Lightning (2.6) writes ``last`` only in epochs that also write a ``best``. In a run that stops improving, ``last``
    would then equal ``best``, and a killed run would lose every epoch since. Further differences: a smoke run
    (``fast_dev_run``) leaves no file; the leftover of a killed process is overwritten instead of being kept next to a
    ``best-v1``; a moved run folder resumes with the ``best`` in it.

    Args:
        arguments: Those of ModelCheckpoint; ``save_last`` is true or false.

    Raises:
        ValueError: ``save_last`` is "link", which would make ``last`` another name for ``best``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.save_last == "link":
            raise ValueError("checkpoint.save_last is link; expected true or false: last is always a separate file.")
        self._wrote_last = False

    @property
    def state_key(self) -> str:
        """ModelCheckpoint's key, under which every checkpoint of this library stores the callback."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``best`` if the score improved, then always ``last``, whose state names the new ``best``."""
        self._wrote_last = False
        super().on_train_epoch_end(trainer, pl_module)
        if not self._wrote_last and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write nothing after a smoke run."""
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            super().on_train_end(trainer, pl_module)

    def _save_last_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        self._wrote_last = True
        super()._save_last_checkpoint(trainer, monitor_candidates)

    def file_exists(self, filepath: str | Path, trainer: Trainer) -> bool:
        """Whether a path is a checkpoint of this run; any other file there is the leftover of a killed process."""
        return str(filepath) in self.best_k_models and super().file_exists(filepath, trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the paths of the run's checkpoints, also if its folder was moved."""
        super().load_state_dict(_moved(state_dict, self.dirpath))


def _moved(state: dict[str, Any], folder: str | Path | None) -> dict[str, Any]:
    """The state with its paths changed to ``folder`` if its checkpoints are there, otherwise unchanged."""
    if folder is None or str(state["dirpath"]) == str(folder):
        return state

    def here(path: str) -> str:
        return str(Path(folder) / Path(path).name) if path else path

    known = {here(path): score for path, score in state["best_k_models"].items()}
    if not known or not all(Path(path).is_file() for path in known):
        return state
    paths = {key: here(state[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
    return state | paths | {"best_k_models": known, "dirpath": str(folder)}
