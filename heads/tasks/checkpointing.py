"""What a task stores: what was trained, and a card that says which backbone it belongs to."""

from collections.abc import Mapping
from typing import Any, ClassVar

from lightning.pytorch import LightningModule
from torch import Tensor

from ..backbones.extractor import Extractor
from ..data.module import DenseDataModule
from .stored_card import check_stored

_BACKBONE = "extractor."  # prefix of the tensors that a checkpoint leaves out, unless they are trained
# how a head sees its backbone
_READING = ("layers", "norm", "pooled", "pyramid", "precision", "tune", "lora", "tower_args")
CARD = "siglip2_head"  # key of a checkpoint under which a task describes itself


class StoredTask(LightningModule):
    """Checkpoints that hold what was trained, and are refused on another backbone.

    :class:`heads.tasks.base.DenseTask` is what is made of it; it fills these in.

    Attributes:
        extractor: The backbone.
        settings: Learning rate and weight decay of each head.
        best_head: Number of the head with the best scores, of a sweep by the last validation.
        sweep_scores: Score of each head in the last validation.
        trained_with: Arguments of the run that a loaded checkpoint comes from.
    """

    task: ClassVar[str]
    monitor: ClassVar[tuple[str, str]]  # the score that tells the best head and epoch, and "max" or "min"

    extractor: Extractor
    settings: list[dict[str, float]]
    best_head: int
    sweep_scores: list[float | None]
    trained_with: dict[str, Any] | None = None
    _fingerprint: str | None = None
    _validated: tuple[int, dict[str, float]] | None = None  # the step, and what was found there

    def card(self) -> dict[str, Any]:
        """What a head needs to be used again, as plain data: its task, and its backbone by name and fingerprint."""
        if self._fingerprint is None:  # of the weights that are frozen, or that training starts from
            self._fingerprint = self.extractor.fingerprint()
        backbone = {"name": self.extractor.name, "source": self.extractor.source, "fingerprint": self._fingerprint}
        card = {"task": self.task, "backbone": backbone, "reading": self._reading()}
        if len(self.settings) > 1:
            heads = [{**s, self.monitor[0]: v} for s, v in zip(self.settings, self.sweep_scores, strict=True)]
            card["sweep"] = {"best": self.best_head, "heads": heads}
        return card

    def _reading(self) -> dict[str, Any]:
        return {key: self.extractor.arguments[key] for key in _READING}

    def protocol(self) -> dict[str, Any]:
        """How this task measures, apart from the data: what two numbers must agree in to be compared."""
        reading = self._reading()
        given = "32-true" if self._trainer is None else self.trainer.precision
        if given != "32-true" and reading["precision"] == "float32" and reading["tune"] != "frozen":
            reading["precision"] = given  # the trainer's autocast reaches a backbone that is tuned
        return reading

    def check_card(self, card: Mapping[str, Any], source: str) -> None:
        """Refuse a head of another task or backbone.

        Raises:
            ValueError: The card is not this task's, or names a backbone with other weights.
        """
        own = self.card()
        if card.get("task") != own["task"]:
            raise ValueError(f"{source} holds a head for {card.get('task')!r}; this task is {own['task']!r}.")
        read, reading = card["reading"], own["reading"]
        if other := [key for key in reading if read.get(key) != reading[key]]:
            described = ", ".join(f"{key} = {read.get(key)!r}, here {reading[key]!r}" for key in other)
            raise ValueError(f"{source} was trained with {described}. Pass what it was trained with.")
        theirs, ours = card["backbone"], own["backbone"]
        same = "name" if self.extractor.tune == "full" else "fingerprint"  # its weights are all in the checkpoint
        if theirs[same] != ours[same]:
            raise ValueError(
                f"{source} was trained on {theirs['name']} from {theirs['source']} (fingerprint "
                f"{theirs['fingerprint'][:12]}); this backbone is {ours['name']} from {ours['source']} (fingerprint "
                f"{ours['fingerprint'][:12]}). Pass the weights that the head was trained with."
            )
        self._fingerprint = theirs["fingerprint"]

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Lightning's, but ``compile`` of the training is not followed unless it is asked for: no file starts one."""
        return super().load_from_checkpoint(checkpoint_path, *args, **{"compile": False} | kwargs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what was not trained; add the card, and the scores of these weights if they were validated."""
        checkpoint["state_dict"] = self._kept(checkpoint["state_dict"])
        checkpoint[CARD] = self.card() | self._validation()

    def _validation(self) -> dict[str, Any]:
        """Scores on the validation split and how they came about; none if training has gone on since."""
        step, scores = self._validated or (None, {})
        if step != self.trainer.global_step:
            return {"metrics": {}, "protocol": self.protocol()}
        data = getattr(self.trainer, "datamodule", None)
        protocol = self.protocol() | (data.describe("val") if isinstance(data, DenseDataModule) else {})
        limit = self.trainer.limit_val_batches  # 1.0 is all batches, 1 is one
        if not (isinstance(limit, float) and limit == 1.0):
            protocol["limit_val_batches"] = limit
        return {"metrics": scores, "protocol": protocol}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the card before any weight is loaded."""
        if CARD not in checkpoint:
            raise ValueError("The checkpoint was not written by this library: it has no card. Pass one that was.")
        card = checkpoint[CARD]
        try:
            check_stored(card, checkpoint.get("hyper_parameters"), checkpoint.get("state_dict"))
        except ValueError as error:
            raise ValueError(f"The checkpoint is damaged ({error}). Pass one that `siglip2 fit` wrote.") from error
        self.check_card(card, "The checkpoint")
        self.trained_with = dict(checkpoint["hyper_parameters"])
        theirs, ours = self.trained_with.get("sweep"), self.hparams["sweep"]
        if theirs != ours:
            raise ValueError(
                f"The checkpoint was trained with sweep = {theirs}, here {ours}. Pass that of the training."
            )
        if self._trainer is not None and self.trainer.training:
            self._check_same_run(self.trained_with)
        if "sweep" in card:
            self.best_head = card["sweep"]["best"]
            self.sweep_scores = [head.get(self.monitor[0]) for head in card["sweep"]["heads"]]

    def _check_same_run(self, before: Mapping[str, Any]) -> None:
        """A run that goes on with other arguments would be neither the one nor the other."""
        other = [key for key, value in before.items() if key != "backbone" and self.hparams.get(key) != value]
        if other:
            described = ", ".join(f"{key} = {before[key]!r}, now {self.hparams.get(key)!r}" for key in other)
            raise ValueError(
                f"The run to resume had {described}. Resume it with the same arguments, or start a new run."
            )

    def kept_state(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint keeps: the heads, and what was trained of the backbone."""
        return self._kept(self.state_dict())

    def _kept(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        trained = {_BACKBONE + name for name in self.extractor.trained}
        return {name: tensor for name, tensor in state.items() if not name.startswith(_BACKBONE) or name in trained}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load what a checkpoint keeps; the other tensors of the backbone may be absent, everything else is checked.

        Raises:
            ValueError: Tensors are missing, surplus or of another shape.
        """
        try:
            result = super().load_state_dict(state_dict, strict=False, assign=assign)
        except RuntimeError as error:  # how torch refuses a shape
            raise ValueError(f"The head's tensors do not fit: {error}") from error
        missing = sorted(self.kept_state().keys() & set(result.missing_keys))
        if strict and (missing or result.unexpected_keys):
            raise ValueError(
                f"The head's tensors do not fit: missing {missing}, unexpected {result.unexpected_keys}. Build the "
                "task with the decoder that the head was trained with."
            )
        return result
