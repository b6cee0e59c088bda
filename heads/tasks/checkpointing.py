"""What a head's checkpoint holds beside Lightning's own: the tensors that were trained, and a card."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from siglip2_backbone.finite import refuse_not_finite

from ..data.interface import ReportedData
from .stored_card import check_stored

if TYPE_CHECKING:
    from .head_task import HeadTask

_BACKBONE = "extractor."  # prefix of the tensors that a checkpoint leaves out, unless they are trained
# how a head sees its backbone
READING = ("layers", "norm", "pooled", "pyramid", "precision", "tune", "lora", "tower_args")
NOT_FINITE = "Pass an earlier checkpoint, or train again with a lower lr."  # remedy for such weights
CARD = "siglip2_head"  # key of a checkpoint under which a task describes itself


class HeadCheckpoint:
    """Writes and reads what a checkpoint of a task holds, and refuses one that belongs to another task or backbone.

    Args:
        task: The task, which has an extractor and heads.

    Attributes:
        trained_with: Arguments of the run that a loaded checkpoint comes from.
    """

    def __init__(self, task: "HeadTask") -> None:
        self.task = task
        self.trained_with: dict[str, Any] | None = None
        self._fingerprint: str | None = None
        self._validated: tuple[int, dict[str, float]] | None = None  # the step, and the scores at it

    # The card.

    def card(self) -> dict[str, Any]:
        """What a head needs to be used again, as plain data: its task, and its backbone by name and fingerprint."""
        task, extractor = self.task, self.task.extractor
        if self._fingerprint is None:  # of the weights that are frozen, or that training starts from
            self._fingerprint = extractor.fingerprint()
        backbone = {"name": extractor.name, "source": extractor.source, "fingerprint": self._fingerprint}
        card = {"task": task.task, "backbone": backbone, "reading": self.reading()}
        if len(task.settings) > 1:
            heads = [{**s, task.monitor[0]: v} for s, v in zip(task.settings, task.sweep_scores, strict=True)]
            card["sweep"] = {"best": task.best_head, "heads": heads}
        return card

    def reading(self) -> dict[str, Any]:
        """How the head reads its backbone."""
        return {key: self.task.extractor.arguments[key] for key in READING}

    def reading_in_run(self) -> dict[str, Any]:
        """How the head reads its backbone in this run: the trainer's autocast reaches a backbone that is tuned."""
        reading, task = self.reading(), self.task
        given = "32-true" if task._trainer is None else task.trainer.precision
        if given != "32-true" and reading["precision"] == "float32" and reading["tune"] != "frozen":
            reading["precision"] = given
        return reading

    def check_card(self, card: Mapping[str, Any], source: str) -> None:
        """Refuse a head of another task or backbone.

        Raises:
            ValueError: The card is not this task's, or names a backbone with other weights.
        """
        task, own, extractor = self.task, self.card(), self.task.extractor
        if card.get("task") != own["task"]:
            raise ValueError(f"{source} holds a head for {card.get('task')!r}; this task is {own['task']!r}.")
        read, reading = card["reading"], own["reading"]
        if other := [key for key in reading if read.get(key) != reading[key]]:
            described = ", ".join(f"{key} = {read.get(key)!r}, here {reading[key]!r}" for key in other)
            raise ValueError(f"{source} was trained with {described}. Pass what it was trained with.")
        theirs, ours = card["backbone"], own["backbone"]
        same = "name" if extractor.tune == "full" else "fingerprint"  # its weights are all in the checkpoint
        if theirs[same] != ours[same]:
            raise ValueError(
                f"{source} was trained on {theirs['name']} from {theirs['source']} (fingerprint "
                f"{theirs['fingerprint'][:12]}); this backbone is {ours['name']} from {ours['source']} (fingerprint "
                f"{ours['fingerprint'][:12]}). Pass the weights that the head was trained with."
            )
        self._fingerprint = theirs["fingerprint"]
        classes, listed = list(task.colours), list(card.get("classes", ()))
        if classes and listed != classes:
            raise ValueError(
                f"{source} has the classes {listed}; this task has {classes}. Use the class list that the head was "
                "trained with."
            )

    # Writing.

    def validated(self, scores: Mapping[str, float]) -> None:
        """Remember the scores of the weights as they are now."""
        self._validated = self.task.trainer.global_step, {f"val/{name}": value for name, value in scores.items()}

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what was not trained; add the card, and the scores of these weights if they were validated."""
        checkpoint["state_dict"] = self.kept(checkpoint["state_dict"])
        checkpoint[CARD] = self.task.card() | self._validation()

    def _validation(self) -> dict[str, Any]:
        """Scores on the validation split and their protocol; no scores if training has gone on since."""
        task, trainer = self.task, self.task.trainer
        step, scores = self._validated or (None, {})
        if step != trainer.global_step:
            return {"metrics": {}, "protocol": task.protocol()}
        data = trainer.datamodule  # type: ignore[attr-defined]
        protocol = task.protocol() | (data.describe("val") if isinstance(data, ReportedData) else {})
        limit = trainer.limit_val_batches  # 1.0 is all batches, 1 is one
        if not (isinstance(limit, float) and limit == 1.0):
            protocol["limit_val_batches"] = limit
        return {"metrics": scores, "protocol": protocol}

    def kept(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of these tensors, those of the heads and of what was trained of the backbone."""
        trained = {_BACKBONE + name for name in self.task.extractor.trained}
        return {name: tensor for name, tensor in state.items() if not name.startswith(_BACKBONE) or name in trained}

    # Reading.

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Check the card and the arguments before any weight is loaded.

        Raises:
            ValueError: The checkpoint has no card, is damaged, or belongs to another task, backbone or run.
        """
        task = self.task
        if CARD not in checkpoint:
            raise ValueError("The checkpoint was not written by this library: it has no card. Pass one that was.")
        card = checkpoint[CARD]
        try:
            # a sharded checkpoint holds its tensors in files of their own
            check_stored(card, checkpoint.get("hyper_parameters"), checkpoint.get("state_dict", {}))
        except ValueError as error:
            raise ValueError(f"The checkpoint is damaged ({error}). Pass one that `siglip2 fit` wrote.") from error
        task.check_card(card, "The checkpoint")
        self.trained_with = dict(checkpoint["hyper_parameters"])
        theirs, ours = self.trained_with.get("sweep"), task.hparams["sweep"]
        if theirs != ours:
            raise ValueError(
                f"The checkpoint was trained with sweep = {theirs}, here {ours}. Pass that of the training."
            )
        if task._trainer is not None and task.trainer.training:
            self._check_same_run(self.trained_with)
        if "sweep" in card:
            task.best_head = card["sweep"]["best"]
            task.sweep_scores = [head.get(task.monitor[0]) for head in card["sweep"]["heads"]]
        self._check_same_head(self.trained_with)

    def _check_same_head(self, before: Mapping[str, Any]) -> None:
        """Refuse another kind of head, before its tensors are looked at."""
        head, more = self.task.head, f"{self.task.head}_args"
        theirs, ours = ({head: h.get(head), more: h.get(more) or {}} for h in (before, self.task.hparams))
        if theirs != ours:
            raise ValueError(f"The checkpoint was trained with {theirs}; this task has {ours}. Pass those of training.")

    def _check_same_run(self, before: Mapping[str, Any]) -> None:
        """Refuse to resume a run with other arguments."""
        now = self.task.hparams
        other = [key for key, value in before.items() if key != "backbone" and now.get(key) != value]
        if other:
            described = ", ".join(f"{key} = {before[key]!r}, now {now.get(key)!r}" for key in other)
            raise ValueError(
                f"The run to resume had {described}. Resume it with the same arguments, or start a new run."
            )

    def load_state(
        self, load: Callable[..., Any], state: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load tensors; those of a backbone that was not trained may be absent.

        Args:
            load: torch's ``load_state_dict`` of the task.
            state: The tensors.
            strict: Refuse tensors that are missing or surplus.
            assign: As in torch.

        Returns:
            The result of ``load``.

        Raises:
            ValueError: Tensors are missing, surplus, of another shape or not finite.
        """
        refuse_not_finite(state, "The head's tensors", NOT_FINITE)
        try:
            result = load(state, strict=False, assign=assign)
        except RuntimeError as error:  # how torch refuses a shape
            raise ValueError(f"The head's tensors do not fit: {error}") from error
        missing = sorted(self.task.kept_state().keys() & set(result.missing_keys))
        if strict and (missing or result.unexpected_keys):
            raise ValueError(
                f"The head's tensors do not fit: missing {missing}, unexpected {result.unexpected_keys}. Build the "
                "task with the decoder that the head was trained with."
            )
        return result
