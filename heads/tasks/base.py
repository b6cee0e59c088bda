"""What every dense task shares: a backbone, heads, and how they are trained. No task knowledge."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torchmetrics import Metric

from siglip2_backbone.pyramid import PyramidKind

from ..backbones.extractor import Extractor, Precision, Tune
from ..data.sampling import mixed_seed
from ..training.averaging import MovingAverage
from ..training.checks import check_trainer, check_training, explained_batch_norm
from ..training.distributed import average_buffers, gather, shard
from ..training.optim import Schedule, WarmupSchedule, backbone_groups, head_groups
from ..training.sweep import label, settings
from .checkpointing import StoredTask


class DenseTask(StoredTask):
    """A head on a backbone, or a sweep of heads on a frozen one.

    A checkpoint holds what was trained (the head; of a backbone that is tuned, its weights or adapters as well), the
    task's arguments, and a card with the backbone's name and fingerprint.

    Subclasses define ``task``, ``monitor``, ``loss``, ``new_metrics``, ``update`` and ``scores``, and what predicting
    needs. They pass their own arguments on as ``own``, and all others of this class by keyword.

    Args:
        backbone: A SigLIP 2 directory, file, model name or Hugging Face id, or any other timm name.
        build_head: Makes the head for an extractor.
        own: The subclass's arguments, as plain data.
        layers: Blocks of the backbone that the head reads, the last one by default; negative ones count from the end.
        norm: Apply the backbone's final norm to them.
        pooled: Concatenate the pooled (MAP) output to every cell.
        pyramid: Read a pyramid of the backbone, "resample" or "sfp", see :class:`Extractor`.
        pretrained: Load the backbone's published weights; ``False`` gives random ones.
        precision: Type that the backbone computes in; the head is float32 always.
        tune: What training changes of the backbone: nothing (frozen), every weight (full), or adapters (lora).
        lora: rank, alpha, dropout and targets of the adapters.
        grad_checkpointing: Recompute the backbone's blocks in the backward pass, to save memory.
        compile: Compile the backbone with torch.compile.
        tower_args: Further arguments of a SigLIP 2 tower: window_size, global_blocks, drop_path_rate, pos_interp.
        lr: Peak learning rate of AdamW.
        weight_decay: Decay of matrices and kernels; biases, norms and positions do not decay.
        layer_decay: Factor on the learning rate from each of the backbone's layers to the one below it.
        schedule: How the rate falls after the warm-up: cosine, poly (a straight line), steps (two drops to a
            tenth, ViTDet's) or onecycle.
        warmup_steps: Optimiser steps of warm-up.
        ema_decay: Keep an exponential moving average with this decay, and validate and store that.
        sweep: Lists under lr and weight_decay: one head for each pair, trained on the same forward pass.

    Raises:
        ValueError: A number is out of range, or options contradict each other.
    """

    units: ClassVar[dict[str, str]] = {}  # of scores, for what is printed; "%" prints a share as per cent

    def __init__(
        self,
        backbone: str | Extractor,
        build_head: Callable[[Extractor], nn.Module],
        own: Mapping[str, Any],
        *,
        layers: list[int] | None = None,
        norm: bool = True,
        pooled: bool = False,
        pyramid: PyramidKind | None = None,
        pretrained: bool = True,
        precision: Precision = "float32",
        tune: Tune = "frozen",
        lora: dict[str, Any] | None = None,
        grad_checkpointing: bool = False,
        compile: bool = False,
        tower_args: dict[str, Any] | None = None,
        lr: float = 1e-3,
        weight_decay: float = 1e-3,
        layer_decay: float = 1.0,
        schedule: Schedule = "cosine",
        warmup_steps: int = 100,
        ema_decay: float | None = None,
        sweep: dict[str, list[float]] | None = None,
    ) -> None:
        super().__init__()
        training = {
            "lr": lr,
            "weight_decay": weight_decay,
            "layer_decay": layer_decay,
            "schedule": schedule,
            "warmup_steps": warmup_steps,
            "ema_decay": ema_decay,
            "sweep": sweep,
        }
        check_training(training, backbone.tune if isinstance(backbone, Extractor) else tune)
        if not isinstance(backbone, Extractor):
            backbone = Extractor(
                backbone,
                layers=layers,
                norm=norm,
                pooled=pooled,
                pyramid=pyramid,
                pretrained=pretrained,
                precision=precision,
                tune=tune,
                lora=lora,
                grad_checkpointing=grad_checkpointing,
                compile=compile,
                tower_args=tower_args,
            )
        self.extractor = backbone
        self.settings = settings(lr, weight_decay, sweep)
        head = build_head(backbone)
        self.decoder = nn.ModuleList(deepcopy(head) for _ in self.settings) if sweep else head
        self.metrics = nn.ModuleList()  # one for each head, made when they are first needed
        self.best_head = 0
        self.sweep_scores = [None] * len(self.settings)
        self.save_hyperparameters(dict(own) | backbone.arguments | training)
        self.tables: dict[str, dict[str, dict[str, float]]] = {}  # of the last scores: table, row, column

    # What a task is.

    def new_metrics(self) -> Metric:
        """A metric over a split, for each head one."""
        raise NotImplementedError

    def loss(self, output: Any, batch: dict[str, Any]) -> Tensor:
        """The training loss of a head's output."""
        raise NotImplementedError

    def head_loss(self, maps: list[Tensor], batch: dict[str, Any], head: int) -> Tensor:
        """The training loss of one head on the backbone's maps."""
        return self.loss(self.decode(maps, head), batch)

    def update(self, metric: Any, output: Any, batch: dict[str, Any]) -> None:
        """Count a head's output on a test batch, at the labels' own sizes."""
        raise NotImplementedError

    def scores(self, metric: Any, stage: str) -> dict[str, Tensor]:
        """What a split has come to: one number each, ``monitor`` among them."""
        raise NotImplementedError

    def write_scored(self, folder: Path) -> None:
        """Write, beside the result file, what the scores of a test were counted from; by default nothing."""

    # One forward pass of the backbone, and every head on it.

    @property
    def decoders(self) -> list[nn.Module]:
        """The heads: one, or those of the sweep."""
        return list(self.decoder) if isinstance(self.decoder, nn.ModuleList) else [self.decoder]

    def decode(self, maps: list[Tensor], head: int | None = None, *more: Any) -> Any:
        """A head's output on the backbone's maps, in float32 under any precision.

        Args:
            maps: Of the extractor.
            head: Number of the head; by default the best.
            *more: What else the head takes.
        """
        with torch.autocast(maps[0].device.type, enabled=False):
            return self.decoders[self.best_head if head is None else head](maps, *more)

    def forward(self, image: Tensor) -> Any:
        """The best head's output on images ``(B, 3, H, W)`` in [0, 1]."""
        return self.decode(self.extractor(image))

    def outputs(self, batch: dict[str, Any], heads: Sequence[int], stage: str) -> list[Any]:
        """What heads say of a batch, as ``update`` takes it; the stage is val, test or predict."""
        maps = self.extractor(batch["image"])
        return [self.decode(maps, head) for head in heads]

    def on_train_start(self) -> None:
        """Train with the learning rate that a finder has set, if one ran.

        Lightning's finder sets the rate of every group of the optimiser, which the schedule would undo.
        """
        found, own = self.hparams["lr"], self.settings[0]["lr"]
        if self.hparams["sweep"] is None and found != own:
            self.settings = settings(found, self.hparams["weight_decay"], None)
            self.lr_schedulers().rescale(found / own)  # type: ignore[union-attr]  # there is one

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Draw what dropout needs from the seed, the epoch and the batch alone: a resumed run draws the same."""
        torch.manual_seed(mixed_seed(self._seed, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss; of a sweep the sum over its heads, which share no parameter.

        Raises:
            ValueError: A loss is infinite or not a number.
        """
        maps = self.extractor(batch["image"])
        with explained_batch_norm():
            losses = torch.stack([self._drawn_alone(maps, batch, head) for head in range(len(self.settings))])
        self._check_finite(losses, batch, batch_idx)
        self.log("train/loss", losses.detach().mean(), prog_bar=True, batch_size=len(batch["image"]))
        return losses.sum()

    def _drawn_alone(self, maps: list[Tensor], batch: dict[str, Any], head: int) -> Tensor:
        """The loss of one head; each sees the random numbers (dropout) that it would see alone."""
        if head == len(self.settings) - 1:
            return self.head_loss(maps, batch, head)
        device = maps[0].device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            return self.head_loss(maps, batch, head)

    def _check_finite(self, losses: Tensor, batch: dict[str, Any], batch_idx: int) -> None:
        finite = torch.isfinite(losses.detach())
        if finite.all():
            return
        which = [label(s) for s, good in zip(self.settings, finite.tolist(), strict=True) if not good]
        heads = f" of the head {', '.join(which)}" if len(self.settings) > 1 else ""
        raise ValueError(
            f"The loss{heads} is {losses[~finite][0].item()} in epoch {self.current_epoch}, batch {batch_idx}: "
            f"{', '.join(str(path) for path in batch['path'])}. Look at these images and labels, or lower lr; "
            "the last checkpoint is as it was."
        )

    def on_after_backward(self) -> None:
        """Keep BatchNorm's statistics equal in all processes."""
        average_buffers(self._kept(dict(self.named_buffers())).values())

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """As the trainer says; the heads of a sweep each by their own norm, as if they were alone."""
        if len(self.settings) == 1 or gradient_clip_algorithm == "value" or not gradient_clip_val:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        for head, setting in zip(self.decoders, self.settings, strict=True):
            in_order = [p for group in head_groups(head, **setting) for p in group["params"]]  # of the optimiser
            nn.utils.clip_grad_norm_(in_order, gradient_clip_val)

    # Measuring: all heads in validation, the best one in a test.

    def on_validation_epoch_start(self) -> None:
        """Start from zero, whatever a sanity check or a broken-off epoch has counted."""
        self._reset_metrics()
        gather(self, whole=True)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count for each head."""
        outputs = self.outputs(batch, range(len(self.metrics)), "val")
        for metric, output in zip(self.metrics, outputs, strict=True):
            self.update(metric, output, batch)

    def on_validation_epoch_end(self) -> None:
        """Log the split's scores, the best head's under their plain names."""
        gather(self, whole=False)
        found = [self.scores(metric, "val") for metric in self.metrics]
        name, mode = self.monitor
        values = [float(scores[name]) for scores in found]
        if len(found) > 1 and not self.trainer.sanity_checking:
            self.best_head = values.index(max(values) if mode == "max" else min(values))
            self.sweep_scores = list(values)
            each = {f"val/{name}/{label(s)}": v for s, v in zip(self.settings, values, strict=True)}
            self.log_dict(each, sync_dist=True, reduce_fx="max")
        if not self.trainer.sanity_checking:
            best = found[self.best_head]
            self._validated = self.trainer.global_step, {f"val/{k}": float(v) for k, v in best.items()}
        self._log_scores("val", found[self.best_head])

    def on_test_epoch_start(self) -> None:
        """Start from zero."""
        self._reset_metrics()
        gather(self, whole=True)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count for the best head."""
        (output,) = self.outputs(batch, [self.best_head], "test")
        self.update(self.metrics[self.best_head], output, batch)

    def on_test_epoch_end(self) -> None:
        """Log the split's scores."""
        self._log_scores("test", self.scores(self.metrics[self.best_head], "test"))

    def _reset_metrics(self) -> None:
        if not self.metrics:
            self.metrics.extend(self.new_metrics().to(self.device) for _ in self.settings)
        for metric in self.metrics:
            metric.reset()  # type: ignore[operator]

    def _log_scores(self, stage: str, scores: dict[str, Tensor]) -> None:
        for name, value in scores.items():
            # the same in every process; "max" keeps them to the last bit where a mean might round
            shown = name == self.monitor[0]
            self.log(f"{stage}/{name}", value, prog_bar=shown, sync_dist=True, reduce_fx="max")

    # How it is trained.

    def setup(self, stage: str) -> None:
        """Refuse a trainer that does not train; know the backbone before it is trained."""
        check_trainer(self.trainer, sweep=self.hparams["sweep"] is not None)
        self._seed = torch.initial_seed()  # before a finder of Lightning tries its first batch
        # torch's DistributedDataParallel would broadcast these in every forward pass, also where a process has fewer
        # validation batches than another one and would wait for ever
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]
        self.card()

    def configure_model(self) -> None:
        """Spread backbone and heads over the processes where the strategy asks for it.

        Raises:
            ValueError: A moving average is asked for as well.
        """
        if self._device_mesh is not None:
            if self.hparams["ema_decay"] is not None:
                raise ValueError("ema_decay does not work with sharded weights. Leave it out, or use strategy ddp.")
            shard(self.extractor, self.decoders, self._device_mesh)

    def configure_callbacks(self) -> list[Callback]:
        """The moving average, if there is one."""
        decay = self.hparams["ema_decay"]
        return [] if decay is None else [MovingAverage(decay)]

    def configure_optimizers(self) -> Any:
        """AdamW, its rate scheduled by the optimiser step."""
        options = self.hparams
        groups = [g for head, s in zip(self.decoders, self.settings, strict=True) for g in head_groups(head, **s)]
        if self.extractor.tune != "frozen":
            model = self.extractor.layered
            groups += backbone_groups(model, options["lr"], options["weight_decay"], options["layer_decay"])
        optimizer = torch.optim.AdamW(groups, lr=options["lr"])
        schedule = WarmupSchedule(
            optimizer, options["schedule"], options["warmup_steps"], lambda: self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
