"""What every dense task shares: a frozen backbone, a head, its optimiser and its checkpoints. No task knowledge."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from .extractor import Extractor
from .optim import parameter_groups, warmup_cosine

_BACKBONE = "extractor."  # prefix of the tensors that a checkpoint leaves out
CARD = "siglip2_head"  # key of a checkpoint under which a task describes itself


class DenseTask(LightningModule):
    """A head on a frozen backbone.

    Subclasses define ``task``, ``training_step``, ``predict`` and what else they need. A checkpoint holds the head,
    the task's arguments and a card with the backbone's name and fingerprint, but not the backbone.

    Args:
        extractor: The backbone.
        decoder: The head.
        lr: Peak learning rate of AdamW.
        weight_decay: Decay of the head's matrices and kernels.
        warmup_steps: Optimiser steps of linear warm-up; a cosine to zero follows.

    Raises:
        ValueError: A number is out of range.
    """

    task: ClassVar[str]

    def __init__(
        self, extractor: Extractor, decoder: nn.Module, *, lr: float, weight_decay: float, warmup_steps: int
    ) -> None:
        super().__init__()
        if lr <= 0 or weight_decay < 0 or warmup_steps < 0:
            raise ValueError(
                f"lr is {lr}, weight_decay {weight_decay}, warmup_steps {warmup_steps}; expected lr above 0 and the "
                "others at least 0."
            )
        self.extractor = extractor
        self.decoder = decoder
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self._fingerprint: str | None = None
        self.trained_with: dict[str, Any] | None = None  # arguments of the run that a loaded checkpoint comes from

    def setup(self, stage: str) -> None:
        """Refuse a trainer that would put the head into another type.

        Raises:
            ValueError: The trainer's precision is not float32 or mixed.
        """
        precision = self.trainer.precision
        if precision not in ("32-true", "bf16-mixed", "16-mixed"):
            raise ValueError(
                f"trainer.precision is {precision}; the head computes in float32. Leave it out, and set "
                "model.precision to bfloat16 for the backbone."
            )

    def forward(self, image: Tensor) -> Tensor:
        """The head's output on images ``(B, 3, H, W)`` in [0, 1]; the head computes in float32 under any precision."""
        maps = self.extractor(image)
        with torch.autocast(image.device.type, enabled=False):
            output: Tensor = self.decoder(maps)
        return output

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and cosine, stepped after every optimiser step."""
        optimizer = torch.optim.AdamW(parameter_groups(self.decoder, self.weight_decay), lr=self.lr)
        schedule = warmup_cosine(optimizer, self.warmup_steps, lambda: self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # Checkpoints: the head alone, and a card that says which backbone it belongs to.

    def card(self) -> dict[str, Any]:
        """What a head needs to be used again, as plain data: its task, and its backbone by name and fingerprint."""
        if self._fingerprint is None:  # the backbone is frozen, so once is enough
            self._fingerprint = self.extractor.fingerprint()
        backbone = {"name": self.extractor.name, "source": self.extractor.source, "fingerprint": self._fingerprint}
        reading = {key: self.extractor.arguments[key] for key in ("layers", "norm", "pooled", "precision")}
        return {"task": self.task, "backbone": backbone, "reading": reading}

    def check_card(self, card: Mapping[str, Any], source: str) -> None:
        """Refuse a head of another task or backbone.

        Raises:
            ValueError: The card is not this task's, or names a backbone with other weights.
        """
        own = self.card()
        if card.get("task") != own["task"]:
            raise ValueError(f"{source} holds a head for {card.get('task')!r}; this task is {own['task']!r}.")
        if card["reading"] != own["reading"]:
            raise ValueError(
                f"{source} was trained with the backbone's {card['reading']}; this task has {own['reading']}. Pass "
                "those of the training."
            )
        theirs, ours = card["backbone"], own["backbone"]
        if theirs["fingerprint"] != ours["fingerprint"]:
            raise ValueError(
                f"{source} was trained on {theirs['name']} from {theirs['source']} (fingerprint "
                f"{theirs['fingerprint'][:12]}); this backbone is {ours['name']} from {ours['source']} (fingerprint "
                f"{ours['fingerprint'][:12]}). Pass the weights that the head was trained with."
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the backbone out and add the card."""
        checkpoint["state_dict"] = _head_only(checkpoint["state_dict"])
        checkpoint[CARD] = self.card()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the card before any weight is loaded."""
        if CARD not in checkpoint:
            raise ValueError("The checkpoint was not written by this library: it has no card. Pass one that was.")
        self.check_card(checkpoint[CARD], "The checkpoint")
        self.trained_with = dict(checkpoint["hyper_parameters"])
        if self._trainer is not None and self.trainer.training:
            self._check_same_run(self.trained_with)

    def _check_same_run(self, before: Mapping[str, Any]) -> None:
        """A run that goes on with other arguments would be neither the one nor the other."""
        other = [key for key, value in before.items() if key != "backbone" and self.hparams.get(key) != value]
        if other:
            described = ", ".join(f"{key} = {before[key]!r}, now {self.hparams.get(key)!r}" for key in other)
            raise ValueError(
                f"The run to resume had {described}. Resume it with the same arguments, or start a new run."
            )

    def head_state(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint keeps."""
        return _head_only(self.state_dict())

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the head; the backbone's tensors may be absent, everything else is checked.

        Raises:
            ValueError: Tensors of the head are missing, surplus or of another shape.
        """
        try:
            result = super().load_state_dict(state_dict, strict=False, assign=assign)
        except RuntimeError as error:  # how torch refuses a shape
            raise ValueError(f"The head's tensors do not fit: {error}") from error
        missing = [key for key in result.missing_keys if not key.startswith(_BACKBONE)]
        if strict and (missing or result.unexpected_keys):
            raise ValueError(
                f"The head's tensors do not fit: missing {missing}, unexpected {result.unexpected_keys}. Build the "
                "task with the decoder that the head was trained with."
            )
        return result


def _head_only(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith(_BACKBONE)}
