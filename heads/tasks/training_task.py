"""How anything is trained here: rates, schedule, moving average, random draws, finite losses, several processes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor

from ..data.sampling import mixed_seed
from ..training.averaging import MovingAverage
from ..training.checks import check_trainer
from ..training.distributed import average_buffers
from ..training.optim import Groups, WarmupSchedule


class TrainingTask(LightningModule):
    """A module that is trained with AdamW on a schedule by the step. It knows nothing of heads and labels.

    Subclasses define ``training_step``, ``parameter_groups`` and ``spread``.

    Args:
        arguments: The arguments that build the task again, as plain data. Training reads ``lr``, ``weight_decay``,
            ``layer_decay``, ``schedule``, ``warmup_steps``, ``ema_decay`` and, where there is one, ``sweep``.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters(dict(arguments))
        self._peak_lr: float = arguments["lr"]  # that the optimiser was made with

    def parameter_groups(self) -> Groups:
        """What the optimiser trains, each group with its learning rate and weight decay."""
        raise NotImplementedError

    def spread(self, mesh: Any) -> None:
        """Distribute the parameters over the processes of a device mesh, in place."""
        raise NotImplementedError

    def kept_state(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint keeps, and that a moving average is taken of."""
        return self.state_dict()

    def trained_buffers(self) -> Iterable[Tensor]:
        """Buffers that training changes: all by default."""
        return self.buffers()

    # Set-up.

    def setup(self, stage: str) -> None:
        """Refuse a trainer that does not train.

        Raises:
            ValueError: An option of the trainer cannot be honoured.
        """
        check_trainer(self.trainer, sweep=self.hparams.get("sweep") is not None)
        self._seed = torch.initial_seed()  # before a finder of Lightning tries its first batch
        # torch's DistributedDataParallel would broadcast these in every forward pass, also where a process has fewer
        # validation batches than another one and would wait for ever
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

    def configure_model(self) -> None:
        """Distribute the parameters over the processes where the strategy asks for it.

        Raises:
            ValueError: A moving average is asked for as well.
        """
        if self._device_mesh is not None:
            if self.hparams["ema_decay"] is not None:
                raise ValueError("ema_decay does not work with sharded weights. Leave it out, or use strategy ddp.")
            self.spread(self._device_mesh)

    def configure_callbacks(self) -> list[Callback]:
        """The moving average, if there is one."""
        decay = self.hparams["ema_decay"]
        return [] if decay is None else [MovingAverage(decay)]

    def configure_optimizers(self) -> Any:
        """AdamW, its rate scheduled by the optimiser step."""
        options = self.hparams
        optimizer = torch.optim.AdamW(self.parameter_groups(), lr=options["lr"])
        schedule = WarmupSchedule(
            optimizer, options["schedule"], options["warmup_steps"], lambda: self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # Training.

    def on_train_start(self) -> None:
        """Train with the learning rate that a finder has set, if one ran.

        Lightning's finder sets the rate of every group of the optimiser, which the schedule would undo.
        """
        found = self.hparams["lr"]
        if found != self._peak_lr:
            self.lr_schedulers().rescale(found / self._peak_lr)  # type: ignore[union-attr]  # there is one
            self._peak_lr = found

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout from the run's seed, the epoch and the batch alone, so that a resumed run draws the same."""
        torch.manual_seed(mixed_seed(self._seed, self.current_epoch, batch_idx, self.global_rank))

    def on_after_backward(self) -> None:
        """Keep BatchNorm's statistics equal in all processes."""
        average_buffers(self.trained_buffers())

    def check_finite(self, losses: Tensor, names: Sequence[str], batch: Mapping[str, Any], batch_idx: int) -> None:
        """Stop at a loss that is infinite or not a number.

        Args:
            losses: One or several, ``(N,)``.
            names: What each belongs to; "" for the only one.
            batch: The batch, with the paths of its images.
            batch_idx: Its number.

        Raises:
            ValueError: A loss is not finite; the message names the images.
        """
        finite = torch.isfinite(losses.detach())
        if finite.all():
            return
        which = [name for name, good in zip(names, finite.tolist(), strict=True) if not good and name]
        heads = f" of the head {', '.join(which)}" if which else ""
        raise ValueError(
            f"The loss{heads} is {losses[~finite][0].item()} in epoch {self.current_epoch}, batch {batch_idx}: "
            f"{', '.join(str(path) for path in batch['path'])}. Check these images and labels, or lower lr; the last "
            "checkpoint is unchanged."
        )
