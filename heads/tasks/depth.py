"""Depth from one image: SigLoss, the published metrics, maps in metres."""

import warnings
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ..backbones.extractor import Extractor
from ..data.depth_normals.interface import DepthNormalsData
from ..decoders import DepthHead, DepthOutput, build_decoder
from ..geometry.resample import to_pixels
from ..losses import DepthAlignment, GradientLoss, ScaleShiftInvariantLoss, SigLoss
from ..metrics import DepthMetrics
from ..metrics.depth import Alignment, Crop, check_depth_range
from ..outputs.depth_normals import write_depth
from ..outputs.options import Drawing
from .regression import RegressionTask


class DepthTask(RegressionTask):
    """Depth, in metres or relative.

    Args:
        backbone: A SigLIP 2 directory, file, model name or Hugging Face id, or any other timm name.
        img_size: Height and width [px] that images are resized to. From the command line the data module sets it.
        decoder: linear or dpt.
        decoder_args: Further arguments of the decoder.
        output: What the head outputs: the expectation over bins of depth (bins), a number within the range
            (regression), or inverse depth up to a scale and a shift (relative).
        depth_range: Nearest and farthest depth [m], of the bins and of the labels that count in a test; in training
            those farther away do not count.
        bins: Number of depth bins.
        sig_weight: Weight of SigLoss.
        gradient_weight: Weight of the multi-scale gradient loss.
        sig_warmup_steps: Training steps in which SigLoss uses only its mean term.
        relative_alignment: How relative depth is aligned in its loss: by least_squares or by the median.
        crop: Part of the label that counts in a test: none (all), nyu_eigen, kitti_eigen or kitti_garg.
        alignment: What is fitted to an image's labels before scoring: none, scale, or scale_and_shift. Relative
            depth is always fitted, by scale and shift of inverse depth.
        flip_test: In tests and predictions, average with the prediction for the mirror image.
        shared: What all tasks share: how the backbone is read and how the task is trained, see
            :class:`heads.tasks.head_task.HeadTask`.

    Raises:
        ValueError: An argument is out of range or an unknown name.

    Source: with its defaults DINOv3's linear NYU probe (facebookresearch/dinov3 @ 6876159, ``config-nyu.yaml``), except
    that labels beyond the range do not count. DINOv2's and TIPS's: decoder_args {batch_norm: false, upsample: 4} and
    gradient_weight 0.5; Probe3D's weights: sig_weight 10, gradient_weight 0.5.
    """

    task = "depth"
    label = "depth"
    monitor = ("RMSE", "min")
    units: ClassVar = {"RMSE": "m", "SqRel": "m"} | dict.fromkeys(("delta1", "delta2", "delta3"), "%")

    def __init__(
        self,
        backbone: str | Extractor,
        img_size: tuple[int, int] = (480, 640),
        *,
        decoder: Literal["linear", "dpt"] = "linear",
        decoder_args: dict[str, Any] | None = None,
        output: DepthOutput = "bins",
        depth_range: tuple[float, float] = (0.001, 10.0),
        bins: int = 256,
        sig_weight: float = 1.0,
        gradient_weight: float = 0.0,
        sig_warmup_steps: int = 100,
        relative_alignment: DepthAlignment = "least_squares",
        crop: Crop = "none",
        alignment: Alignment = "none",
        flip_test: bool = False,
        **shared: Any,
    ) -> None:
        own: dict[str, Any] = {
            "decoder": decoder,
            "decoder_args": decoder_args,
            "output": output,
            "depth_range": tuple(depth_range),
            "bins": bins,
            "sig_weight": sig_weight,
            "gradient_weight": gradient_weight,
            "sig_warmup_steps": sig_warmup_steps,
            "relative_alignment": relative_alignment,
            "crop": crop,
            "alignment": alignment,
        }
        _check(own)
        self.measured: dict[str, Any] = own | {
            "alignment": "inverse_scale_and_shift" if output == "relative" else alignment
        }

        def head(extractor: Extractor) -> nn.Module:
            channels, reductions, logits = extractor.channels, extractor.reductions, DepthHead.logits(output, bins)
            built = build_decoder(decoder, channels, reductions, logits, **(decoder_args or {}))
            return DepthHead(built, output, own["depth_range"], bins)

        super().__init__(backbone, head, own, img_size, flip_test, **shared)
        far = depth_range[1]
        self.sig, self.gradient = SigLoss(far, sig_warmup_steps), GradientLoss(far)
        self.relative = ScaleShiftInvariantLoss(relative_alignment, far)

    def setup(self, stage: str) -> None:
        """Also warn if the data's depth range exceeds the task's."""
        super().setup(stage)
        data: DepthNormalsData | None = self.trainer.datamodule  # type: ignore[attr-defined]
        theirs = None if data is None or stage == "predict" else data.depth_range
        ours = self.measured["depth_range"]
        if theirs is not None and theirs[1] > ours[1]:
            warnings.warn(
                f"data.depth_range is {list(theirs)}, model.depth_range {list(ours)}: depths above {ours[1]:g} m are "
                "neither learnt nor scored. Give the model the same range, if they are to count.",
                stacklevel=2,
            )

    def card(self) -> dict[str, Any]:
        """The base card with what the head's numbers mean."""
        return super().card() | {"depth": {key: self.measured[key] for key in ("output", "depth_range")}}

    def check_card(self, card: Any, source: str) -> None:
        """Also refuse a head whose numbers mean something else."""
        super().check_card(card, source)
        empty: dict[str, Any] = {"depth_range": []}
        theirs, ours = (
            dict(d, depth_range=list(d["depth_range"])) for d in (card.get("depth", empty), self.card()["depth"])
        )
        if theirs != ours:
            raise ValueError(f"{source} was trained for {theirs}; this task has {ours}. Pass those of the training.")

    def protocol(self) -> dict[str, Any]:
        """What counts in a test, and how the scores are averaged."""
        keys = ("output", "depth_range", "crop", "alignment")
        measured = {key: self.measured[key] for key in keys}
        return super().protocol() | measured | {"flip_test": self.flip_test, "averaged_over": "images"}

    def loss(self, output: Tensor, batch: dict[str, Any]) -> Tensor:
        """SigLoss and gradient loss of depth, or the loss of relative depth, on the valid pixels."""
        target = batch["depth"]
        depth = self.pixels(output, target.shape[-2:])
        if self.measured["output"] == "relative":
            loss: Tensor = self.relative(depth, target)
            return loss
        loss = self.measured["sig_weight"] * self.sig(depth, target)
        if self.measured["gradient_weight"]:
            loss = loss + self.measured["gradient_weight"] * self.gradient(depth, target)
        return loss

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss, counted as one step of SigLoss's warm-up."""
        loss = super().training_step(batch, batch_idx)
        self.sig.step()
        return loss

    def pixels(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """Depth at the pixels, bilinear between the cells."""
        return to_pixels(output, self.reduction, size)

    def finalize(self, pixels: Tensor) -> Tensor:
        """Depth ``(H, W)``."""
        return pixels[0]

    def new_metrics(self) -> DepthMetrics:
        """The published scores over the split."""
        measured = self.measured
        return DepthMetrics(measured["depth_range"], measured["crop"], measured["alignment"])

    def write(self, answer: Tensor, photo: Path, folder: Path, drawing: Drawing) -> None:
        """``depth/NAME.npy`` and ``.png`` in metres, and ``colours/NAME.png``, see ``heads.outputs.depth_normals``."""
        far = None if self.measured["output"] == "relative" else self.measured["depth_range"][1]
        write_depth(answer, far, folder, photo.stem)


def _check(options: dict[str, Any]) -> None:
    check_depth_range(options["depth_range"])
    DepthHead.logits(options["output"], options["bins"])
    weights = {key: options[key] for key in ("sig_weight", "gradient_weight", "sig_warmup_steps")}
    if min(weights.values()) < 0 or not options["sig_weight"]:
        raise ValueError(f"{weights}; expected sig_weight above 0 and the others at least 0.")
    relative = options["output"] == "relative"
    if (relative and options["alignment"] != "none") or options["alignment"] == "inverse_scale_and_shift":
        raise ValueError(
            f"alignment is {options['alignment']!r} for the output {options['output']!r}; relative depth is always "
            "fitted by scale and shift of its inverse, and other depth by none, scale or scale_and_shift."
        )
    DepthMetrics(options["depth_range"], options["crop"], options["alignment"])
    ScaleShiftInvariantLoss(options["relative_alignment"])
