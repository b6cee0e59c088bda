"""A head on a backbone: one pass of the backbone, every head on it, scores, predictions and checkpoints."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from ..backbones.extractor import Extractor
from ..data.interface import check_data
from ..data.sizes import Fit, Size
from ..outputs.options import Drawing
from ..training.checks import check_training, explained_batch_norm
from ..training.distributed import shard
from ..training.optim import Groups, Schedule, backbone_groups, head_groups
from ..training.sweep import clip_each, label, same_draws, settings
from .checkpointing import HeadCheckpoint
from .finite import finite_maps, finite_output, naming_images
from .measuring import Measuring
from .one_image import Picture, predicted
from .results import Prediction, Scored
from .training_task import TrainingTask
from .views import WHOLE, View


class HeadTask(TrainingTask):
    """A head on a backbone, or a sweep of heads on a frozen one, that answers for each image at its original size.

    A checkpoint holds what was trained (the head; of a backbone that is tuned, its weights or adapters as well), the
    task's arguments, and a card with the backbone's name and fingerprint.

    Subclasses define ``task``, ``monitor``, ``loss`` or ``head_loss``, ``new_metrics``, ``update``, ``scores``,
    ``postprocess`` and ``write``. They pass their own arguments on as ``own``, and all others by keyword.

    Args:
        backbone: A SigLIP 2 directory, file, model name or Hugging Face id, or any other timm name; or an Extractor.
        build_head: Makes the head for an extractor.
        own: The subclass's arguments, as plain data, without ``img_size``.
        img_size: Height and width [px] that images are resized to.
        lr: Peak learning rate of AdamW.
        weight_decay: Decay of matrices and kernels; biases, norms and positions do not decay.
        layer_decay: Factor on the learning rate from each of the backbone's layers to the one below it.
        schedule: How the rate falls after the warm-up: cosine, poly (a straight line), steps (two drops to a
            tenth, ViTDet's) or onecycle.
        warmup_steps: Optimiser steps of warm-up.
        ema_decay: Keep an exponential moving average with this decay, and validate and store that.
        sweep: Lists under lr and weight_decay: one head for each pair, trained on the same forward pass.
        reading: How the head reads its backbone: the options of :class:`heads.Extractor`.

    Raises:
        ValueError: A number is out of range, or options contradict each other.
    """

    task: ClassVar[str]
    reads: ClassVar[type | None] = None  # Protocol of what the task reads of a data module besides its batches
    monitor: ClassVar[tuple[str, str]]  # the score that tells the best head and epoch, and "max" or "min"
    units: ClassVar[dict[str, str]] = {}  # of scores, for what is printed; "%" prints a share as per cent
    head: ClassVar[str] = "decoder"  # the argument that names the head; its own arguments are that and _args
    colours: Mapping[str, list[int]] = MappingProxyType({})  # classes, where there are any, in the order of the labels

    def __init__(
        self,
        backbone: str | Extractor,
        build_head: Callable[[Extractor], nn.Module],
        own: Mapping[str, Any],
        img_size: tuple[int, int],
        *,
        lr: float = 1e-3,
        weight_decay: float = 1e-3,
        layer_decay: float = 1.0,
        schedule: Schedule = "cosine",
        warmup_steps: int = 100,
        ema_decay: float | None = None,
        sweep: dict[str, list[float]] | None = None,
        **reading: Any,
    ) -> None:
        training: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "layer_decay": layer_decay}
        training |= {"schedule": schedule, "warmup_steps": warmup_steps, "ema_decay": ema_decay, "sweep": sweep}
        tune = backbone.tune if isinstance(backbone, Extractor) else reading.get("tune", "frozen")
        check_training(training, tune)  # before the weights are read
        extractor = backbone if isinstance(backbone, Extractor) else Extractor(backbone, **reading)
        size = (img_size[0], img_size[1])
        super().__init__({**own, "img_size": size} | extractor.arguments | training)
        self.img_size = size
        self.extractor = extractor
        self.settings = settings(lr, weight_decay, sweep)
        head = build_head(extractor)
        self.decoder = nn.ModuleList(deepcopy(head) for _ in self.settings) if sweep else head
        self.metrics = nn.ModuleList()  # one for each head, made when they are first needed
        self.best_head = 0
        self.sweep_scores: list[float | None] = [None] * len(self.settings)
        self.checkpointing = HeadCheckpoint(self)
        self.measuring = Measuring(self)
        self.tested: Scored | None = None  # the last test, for whoever writes its results

    # What a task is.

    def loss(self, output: Any, batch: dict[str, Any]) -> Tensor:
        """The training loss of a head's output."""
        raise NotImplementedError

    def head_loss(self, maps: list[Tensor], batch: dict[str, Any], head: int) -> Tensor:
        """The training loss of one head on the backbone's maps."""
        return self.loss(self.decode(maps, head), batch)

    def new_metrics(self) -> Metric:
        """A metric over a split, for each head one."""
        raise NotImplementedError

    def update(self, metric: Any, output: Any, batch: dict[str, Any]) -> None:
        """Count a head's output on a test batch, at the labels' own sizes."""
        raise NotImplementedError

    def scores(self, metric: Any, stage: str) -> Scored:
        """The scores of a split, ``monitor`` among them."""
        raise NotImplementedError

    def postprocess(self, output: Any, batch: dict[str, Any]) -> list[Any]:
        """A head's output on a batch as the task's answers, at the original sizes."""
        raise NotImplementedError

    def write(self, answer: Any, photo: Path, folder: Path, drawing: Drawing) -> None:
        """Write the answer for a photograph below a folder."""
        raise NotImplementedError

    def write_together(self, folder: Path) -> None:
        """Write, in every process, what belongs to all photographs together, after the last one; by default nothing."""

    def write_test(self, scored: Scored, folder: Path) -> None:
        """Write, beside the result file, what the scores of a test were counted from; by default nothing."""

    # One forward pass of the backbone, and every head on it.

    def maps(self, batch: Mapping[str, Any], view: View = WHOLE) -> list[Tensor]:
        """Feature maps of a view of a batch, ``(N, channels[i], rows, columns)`` float32.

        Every task asks for maps here and nowhere else. A batch's padding is 0 to the backbone, its mean.
        """
        padding = view.padding(batch)
        maps: list[Tensor] = self.extractor(view.pixels(batch), *(() if padding is None else (padding,)))
        return maps

    @property
    def decoders(self) -> list[nn.Module]:
        """The heads: one, or those of the sweep."""
        return list(self.decoder) if isinstance(self.decoder, nn.ModuleList) else [self.decoder]

    @property
    def reduction(self) -> float:
        """Pixels per cell of a head's output, where it is a map."""
        return self.decoders[0].reduction  # type: ignore[return-value]

    def decode(self, maps: list[Tensor], head: int | None = None, *more: Any) -> Any:
        """A head's output on the backbone's maps, in float32 under any precision.

        Args:
            maps: Of the extractor.
            head: Number of the head; by default the best.
            *more: Further inputs of the head.
        """
        with torch.autocast(maps[0].device.type, enabled=False):
            return self.decoders[self.best_head if head is None else head](maps, *more)

    def forward(self, image: Tensor) -> Any:
        """The best head's output on images ``(B, 3, H, W)`` in [0, 1]."""
        return self.decode(self.maps({"image": image}))

    def outputs(self, batch: dict[str, Any], heads: Sequence[int], stage: str) -> list[Any]:
        """The output of each head on a batch, as ``update`` takes it; the stage is val, test or predict.

        A value that is not finite is a NotFiniteError; :func:`naming_images` around the call names the images.
        """
        maps = finite_maps(self, batch)
        return [finite_output(self, maps, head) for head in heads]

    # Training.

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss; of a sweep the sum over its heads, which share no parameter.

        Raises:
            ValueError: A loss is infinite or not a number.
        """
        maps = self.maps(batch)
        losses = torch.stack([self._loss_alone(maps, batch, head) for head in range(len(self.settings))])
        names = [label(s) for s in self.settings] if len(self.settings) > 1 else [""]
        self.check_finite(losses, names, batch, batch_idx)
        self.log("train/loss", losses.detach().mean(), prog_bar=True, batch_size=len(batch["image"]))
        return losses.sum()

    def _loss_alone(self, maps: list[Tensor], batch: dict[str, Any], head: int) -> Tensor:
        with explained_batch_norm(), same_draws(maps[0].device, last=head == len(self.settings) - 1):
            return self.head_loss(maps, batch, head)

    def parameter_groups(self) -> Groups:
        """The heads, each with its own rate, and what is tuned of the backbone."""
        groups = [g for head, s in zip(self.decoders, self.settings, strict=True) for g in head_groups(head, **s)]
        if self.extractor.tune == "frozen":
            return groups
        tuned = (self.hparams[name] for name in ("lr", "weight_decay", "layer_decay"))
        return groups + backbone_groups(self.extractor.layered, *tuned)

    def spread(self, mesh: Any) -> None:
        """Distribute backbone and heads over the processes."""
        shard(self.extractor, self.decoders, mesh)

    def trained_buffers(self) -> list[Tensor]:
        """Those of the heads, and of a backbone that is tuned."""
        return list(self.checkpointing.kept(dict(self.named_buffers())).values())

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """As the trainer says; the heads of a sweep each by their own norm, as if they were alone."""
        if len(self.settings) == 1 or gradient_clip_algorithm == "value" or not gradient_clip_val:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            clip_each(self.decoders, self.settings, gradient_clip_val)

    # Measuring, see :class:`heads.tasks.measuring.Measuring`.

    def on_validation_epoch_start(self) -> None:
        """Start from zero."""
        self.measuring.start()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count for each head."""
        self.measuring.validate(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the split's scores, the best head's under their plain names."""
        self.measuring.end_validation()

    def on_test_epoch_start(self) -> None:
        """Start from zero."""
        self.measuring.start()

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count for the best head."""
        self.measuring.test(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log the split's scores, and keep them with their tables for the result file."""
        self.measuring.end_test()

    # Predicting.

    def answer(self, batch: dict[str, Any]) -> list[Any]:
        """The best head's answers for a batch, at the original sizes."""
        return [prediction.answer for prediction in self.predictions(batch)]

    def predictions(self, batch: dict[str, Any]) -> list[Prediction]:
        """:meth:`answer`, and for who writes them, what the answers were read from."""
        (output,) = self.outputs(batch, [self.best_head], "predict")
        return [Prediction(answer) for answer in self.postprocess(output, batch)]

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[Prediction]:
        """:meth:`predictions`, for the trainer; values that are not finite are a ValueError."""
        with naming_images(batch, "predict", batch_idx):
            return self.predictions(batch)

    def test_size(self) -> Size | int | Fit:
        """The size that ``predict`` resizes an image to, see :func:`heads.data.image_folder.resized`."""
        return self.img_size

    def predict(self, image: Picture, size: tuple[int, int] | int | Fit | None = None) -> Any:
        """The answer for one image, at its own size.

        Args:
            image: A path, a PIL image, an array ``(H, W, 3)`` uint8, or a tensor ``(3, H, W)`` uint8.
            size: What it is resized to: height and width, or the short side, its shape kept [px]. By default img_size,
                and with sliding windows the short side of img_size.

        Returns:
            On the CPU: classes int64 ``(H, W)``, depth float32 ``(H, W)`` [m], normals float32 ``(3, H, W)``, or of
            detection a dict, see :meth:`heads.DetectionTask.predict`.

        Raises:
            ValueError: The image cannot be read or is none of these, or a value of the backbone or of the head is
                infinite or not a number.
        """
        return predicted(self, image, self.test_size() if size is None else size)

    # Checkpoints, see :class:`heads.tasks.checkpointing.HeadCheckpoint`.

    def setup(self, stage: str) -> None:
        """Also check the data module, if there is one, and take the backbone's fingerprint before it is trained."""
        super().setup(stage)
        data: object = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.reads is not None and data is not None and stage != "predict":
            check_data(data, self.reads, self.task)
        self.card()

    def card(self) -> dict[str, Any]:
        """What a head needs to be used again: its task, its backbone, and its classes where there are classes."""
        return self.checkpointing.card() | ({"classes": self.colours} if self.colours else {})

    def check_card(self, card: Mapping[str, Any], source: str) -> None:
        """Refuse the card of another task or backbone, or of other classes, by a ValueError."""
        self.checkpointing.check_card(card, source)

    def protocol(self) -> dict[str, Any]:
        """How this task measures, apart from the data: what two numbers must agree in to be compared."""
        own = {"img_size": list(self.img_size), self.head: self.hparams[self.head]}
        return self.checkpointing.reading_in_run() | own

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what was not trained; add the card."""
        self.checkpointing.save(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the card before any weight is loaded, see :meth:`HeadCheckpoint.load`."""
        self.checkpointing.load(checkpoint)

    def kept_state(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint keeps: the heads, and what was trained of the backbone."""
        return self.checkpointing.kept(self.state_dict())

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load what a checkpoint keeps, see :meth:`HeadCheckpoint.load_state`."""
        return self.checkpointing.load_state(super().load_state_dict, state_dict, strict, assign)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Lightning's own, but ``compile`` of the training is followed only on request: no file starts a compiler."""
        return super().load_from_checkpoint(checkpoint_path, *args, **{"compile": False} | kwargs)
