"""The exponential moving average of the trained weights."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor


class MovingAverage(Callback):
    """Keeps ``average = decay * average + (1 - decay) * weights``, updated after every optimiser step.

    Validation uses the average, and a checkpoint stores it as the head. The checkpoint also holds the weights
    themselves, from which a resumed run continues. Only the state that a checkpoint holds is averaged, not a frozen
    backbone, which Lightning's own callback would copy and average as well. Counters of BatchNorm are copied.

    Args:
        decay: Weight of the past, above 0 and below 1.

    Raises:
        ValueError: ``decay`` is out of range.

    Source: Polyak averaging with exponential weights, as timm's ModelEmaV3 without its warm-up.
    """

    def __init__(self, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"ema_decay is {decay}; expected above 0 and below 1, as in 0.999.")
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self._step = 0  # the last optimiser step in the average

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the weights, unless a checkpoint has restored the average."""
        device, task = pl_module.device, _task(pl_module)
        own = self.average or {name: tensor.detach().clone() for name, tensor in task.kept_state().items()}
        self.average = {name: tensor.to(device) for name, tensor in own.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update after an optimiser step, not after a batch that only accumulates gradients."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        for name, tensor in _task(pl_module).kept_state().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - self.decay)
            else:
                self.average[name].copy_(tensor)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in place of the weights."""
        self._swap(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the weights back."""
        self._swap(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the task."""
        self._swap(pl_module)
        self.average = {}

    @torch.no_grad()
    def _swap(self, pl_module: LightningModule) -> None:
        if not self.average:  # validation without training
            return
        for name, tensor in _task(pl_module).kept_state().items():
            weights = tensor.detach().clone()
            tensor.copy_(self.average[name])
            self.average[name].copy_(weights)

    # In a checkpoint the average is the head, and the weights are stored under "averaging".

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Replace the weights in the checkpoint by the average."""
        if not self.average:  # after training: the task already holds the average
            return
        weights = {name: checkpoint["state_dict"][name] for name in self.average}
        checkpoint["averaging"] = {"weights": weights, "step": self._step}
        checkpoint["state_dict"] = checkpoint["state_dict"] | self.average

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the average from the checkpoint, and the weights of the task, to continue training.

        Validation, test and prediction use the average, which the task has already loaded.
        """
        state = checkpoint.get("averaging")
        if state is None or trainer.state.fn != TrainerFn.FITTING:  # None if saved after training
            return
        self.average = {name: checkpoint["state_dict"][name].clone() for name in state["weights"]}
        self._step = state["step"]
        pl_module.load_state_dict(state["weights"])


def _task(module: LightningModule) -> Any:
    """The module as one of our tasks, which have ``kept_state``."""
    return module
