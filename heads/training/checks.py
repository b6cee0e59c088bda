"""Checks before a run starts: options of the task and of the trainer."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateFinder

from .averaging import MovingAverage
from .optim import FACTORS


def check_training(options: Mapping[str, Any], tune: str) -> None:
    """Reject numbers that are out of range and options that contradict each other.

    Args:
        options: Training options of a task: lr, weight_decay, layer_decay, schedule, warmup_steps, ema_decay and sweep.
        tune: What is trained of the backbone.

    Raises:
        ValueError: A number is out of range, or options contradict each other.
    """
    lr, weight_decay, warmup = options["lr"], options["weight_decay"], options["warmup_steps"]
    if not 0 < lr < float("inf") or not 0 <= weight_decay < float("inf") or warmup < 0:
        raise ValueError(
            f"lr is {lr}, weight_decay {weight_decay}, warmup_steps {warmup}; expected lr above 0 and the others at "
            "least 0."
        )
    layer_decay = options["layer_decay"]
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay is {layer_decay}; expected above 0 and at most 1, as in 0.75.")
    if layer_decay != 1 and tune == "frozen":
        raise ValueError(f"layer_decay is {layer_decay} but the backbone is frozen. Set tune to full, or leave it out.")
    if options["schedule"] not in FACTORS:
        raise ValueError(f"schedule is {options['schedule']!r}; expected one of {', '.join(FACTORS)}.")
    if options["ema_decay"] is not None:
        MovingAverage(options["ema_decay"])
    if options["sweep"] is not None and tune != "frozen":
        raise ValueError(f"A sweep shares one forward pass of a frozen backbone, but tune is {tune!r}. Leave one out.")


def check_trainer(trainer: Trainer, sweep: bool) -> None:
    """Reject a precision that would cast the head, and options that Lightning accepts but later fails on.

    Args:
        trainer: The trainer.
        sweep: Whether the task trains a sweep of heads.

    Raises:
        ValueError: The trainer has such an option.
    """
    if sweep and any(isinstance(callback, LearningRateFinder) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        raise ValueError(
            "LearningRateFinder sets one learning rate, but model.sweep sets one for each head. Leave one out."
        )
    if trainer.precision not in ("32-true", "bf16-mixed", "16-mixed"):
        raise ValueError(
            f"trainer.precision is {trainer.precision}; the head computes in float32. Leave it out, and set "
            "model.precision to bfloat16 for the backbone."
        )
    clip, batches = trainer.gradient_clip_val or 0, trainer.accumulate_grad_batches
    if clip < 0 or batches < 1:
        raise ValueError(
            f"trainer.gradient_clip_val is {clip}, accumulate_grad_batches {batches}; expected at least 0 (no "
            "clipping), and at least 1."
        )


@contextmanager
def explained_batch_norm() -> Iterator[None]:
    """Turn BatchNorm's error for one value per channel, which has no variance, into one that names the options.

    Raises:
        ValueError: A batch of one image has one cell, possibly after pooling.
    """
    try:
        yield
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            "A training batch has one image, and a BatchNorm of the head sees one cell of it: one value has no "
            "variance. Set data.batch_size to at least 2 (with at least 2 training images), set data.img_size to "
            "at least two cells, or choose a head without BatchNorm."
        ) from error
