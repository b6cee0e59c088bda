"""Semantic segmentation: the loss, mIoU, label maps."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch.nn.functional as F
from lightning.pytorch import Callback
from torch import Tensor, nn

from ..backbones.extractor import Extractor
from ..data.classes import ClassSpec, class_colours
from ..data.sizes import Size
from ..decoders import build_decoder
from ..geometry.record import Geometry
from ..geometry.resample import labels_at, to_pixels
from ..geometry.upsampling import Upsampling
from ..losses import build_loss
from ..metrics import SegmentationMetrics
from ..outputs.options import Drawing
from ..outputs.segmentation import write_labels, write_overlay, write_probabilities
from .classes_seen import ClassesSeen
from .finite import finite_maps, finite_output
from .head_task import HeadTask
from .results import Prediction, Scored
from .test_time import Inference, TestTimeAugmentation
from .views import View


class CellScores(NamedTuple):
    """A head's scores of one image.

    Attributes:
        cells: Logits ``(C, rows, columns)`` of its cells, or averaged probabilities of its pixels.
        reduction: Pixels per cell.
        averaged: Whether they are probabilities.
    """

    cells: Tensor
    reduction: float
    averaged: bool = False


class SegmentationTask(HeadTask):
    """Semantic segmentation.

    Args:
        backbone: A SigLIP 2 directory, file, model name or Hugging Face id, or any other timm name.
        classes: Number of classes, their names, or names with colours. From the command line the data module sets it.
        img_size: Height and width [px] that images are resized to. From the command line the data module sets it.
        decoder: The head.
        decoder_args: Further arguments of the head.
        losses: Weights of cross_entropy, dice and focal in the loss; cross_entropy alone by default.
        loss_args: Further arguments of the loss: label_smoothing, class_weights, focal_gamma.
        inference: Predict a test image whole, or in sliding windows whose class probabilities are averaged.
        window: Height and width of the windows [px]; img_size by default.
        stride: Distance of windows [px]; two thirds of the window by default, as 341 of 512.
        flip_test: In tests and predictions, average with the mirrored image.
        scales: In tests and predictions, average over these sizes of the image, as factors.
        window_batch: Windows per forward pass; it changes no result.
        shared: What all tasks share: how the backbone is read and how the task is trained, see
            :class:`heads.tasks.head_task.HeadTask`.

    Raises:
        ValueError: An argument is out of range or an unknown name.

    Source: with its defaults DINOv3's linear segmentation probe (arXiv:2508.10104, and facebookresearch/dinov3 @
    6876159), without its head dropout, its photometric augmentation and its sliding window; each is an option.
    """

    task = "segmentation"
    monitor = ("mIoU", "max")
    units: ClassVar = dict.fromkeys(("mIoU", "mAcc", "pixel_acc", "IoU", "acc"), "%")

    def __init__(
        self,
        backbone: str | Extractor,
        classes: ClassSpec,
        img_size: tuple[int, int] = (512, 512),
        *,
        decoder: Literal["linear", "dpt", "upernet", "segformer", "fpn"] = "linear",
        decoder_args: dict[str, Any] | None = None,
        losses: dict[str, float] | None = None,
        loss_args: dict[str, Any] | None = None,
        inference: Inference = "whole",
        window: tuple[int, int] | None = None,
        stride: tuple[int, int] | None = None,
        flip_test: bool = False,
        scales: list[float] | None = None,
        window_batch: int = 8,
        **shared: Any,
    ) -> None:
        test: dict[str, Any] = {"inference": inference, "window": window, "stride": stride}
        test |= {"flip_test": flip_test, "scales": scales, "window_batch": window_batch}
        self.test_time = _test_time(img_size, **test)
        self.colours = class_colours(classes)

        def head(extractor: Extractor) -> nn.Module:
            channels, reductions = extractor.channels, extractor.reductions
            return build_decoder(decoder, channels, reductions, len(self.colours), **(decoder_args or {}))

        own: dict[str, Any] = {"classes": self.colours, "decoder": decoder, "decoder_args": decoder_args}
        own |= {"losses": losses, "loss_args": loss_args} | test
        super().__init__(backbone, head, own, img_size, **shared)
        self.criterion = build_loss(len(self.colours), losses, **(loss_args or {}))

    def protocol(self) -> dict[str, Any]:
        """The base protocol with the views of a test image."""
        return super().protocol() | self.test_time.described()

    def test_size(self) -> Size | int:
        """The size of the images, or where windows slide over an image its short side."""
        return self.img_size if self.test_time.mode == "whole" else min(self.img_size)

    def loss(self, output: Tensor, batch: dict[str, Any]) -> Tensor:
        """The loss of the logits upsampled to the pixels, over the pixels that are not ignored."""
        loss: Tensor = self.criterion(output, batch["mask"], self.reduction)
        return loss

    def outputs(self, batch: dict[str, Any], heads: Sequence[int], stage: str) -> list[list[CellScores]]:
        """Each head's scores of each image; validation has one view, without mirror images and other scales."""
        how = replace(self.test_time, flip=False, scales=(1.0,)) if stage == "val" else self.test_time
        if all(how.single(size) for size in batch["size"]):
            return [[CellScores(o, self.reduction) for o in output] for output in super().outputs(batch, heads, stage)]

        def probabilities(view: View) -> list[Tensor]:
            maps, size = finite_maps(self, batch, view), view.size(batch)
            logits = (finite_output(self, maps, head, image=view.image) for head in heads)
            return [to_pixels(one, self.reduction, size).softmax(dim=1) for one in logits]

        whole = batch["image"].shape[-2:]
        found: list[list[CellScores]] = [[] for _ in heads]
        for image, (height, width) in enumerate(batch["size"]):
            averaged = how.average(image, (height, width), probabilities)
            for scores, one in zip(found, averaged, strict=True):
                # back to the batch's own size, so that every image of it is read in the same way
                padded = F.pad(one, (0, whole[1] - width, 0, whole[0] - height))
                scores.append(CellScores(padded, 1, averaged=True))
        return found

    def predictions(self, batch: dict[str, Any]) -> list[Prediction]:
        """Label maps of a batch, with the scores that they were read from."""
        (output,) = self.outputs(batch, [self.best_head], "predict")
        return [Prediction(*pair) for pair in zip(self.postprocess(output, batch), output, strict=True)]

    def postprocess(self, output: list[CellScores], batch: dict[str, Any]) -> list[Tensor]:
        """Label maps of a batch at the original sizes, int64 ``(H, W)`` each."""
        return [
            labels_at(scores.cells[None], scores.reduction, geometry)[0]
            for scores, geometry in zip(output, batch["geometry"], strict=True)
        ]

    def configure_callbacks(self) -> list[Callback]:
        """Those of every task, and the warning of classes that no label has."""
        return [*super().configure_callbacks(), ClassesSeen(list(self.colours))]

    def new_metrics(self) -> SegmentationMetrics:
        """A confusion matrix over the split."""
        return SegmentationMetrics(len(self.colours))

    def update(self, metric: SegmentationMetrics, output: list[CellScores], batch: dict[str, Any]) -> None:
        """Count a test batch at the labels' own sizes."""
        for scores, geometry, mask in zip(output, batch["geometry"], batch["mask"], strict=True):
            metric.update_logits(scores.cells, scores.reduction, geometry, mask)

    def scores(self, metric: SegmentationMetrics, stage: str) -> Scored:
        """mIoU, mAcc and pixel accuracy of the split, and a table of the classes.

        Raises:
            ValueError: There is nothing to score.
        """
        scores = metric.scores()
        if scores["mIoU"].isnan() and not self.trainer.sanity_checking:
            raise ValueError(
                f"Every label of the {stage} split is ignored, so there is nothing to score. Check data.ignore_values, "
                "and that no class is stored as 255, which always means ignore."
            )
        rows = zip(self.colours, scores["IoU"].tolist(), scores["acc"].tolist(), strict=True)
        classes = {name: {"IoU": iou, "acc": acc} for name, iou, acc in rows}
        return Scored({name: scores[name].float() for name in ("mIoU", "mAcc", "pixel_acc")}, {"classes": classes})

    def write(self, answer: Tensor, photo: Path, folder: Path, drawing: Drawing) -> None:
        """``labels/NAME.png``, a palette PNG of class indices, and ``overlays/NAME.jpg``."""
        palette = np.array(list(self.colours.values()), dtype=np.uint8)
        write_labels(answer, palette, folder / "labels" / f"{photo.stem}.png")
        write_overlay(answer, palette, photo, folder / "overlays" / f"{photo.stem}.jpg", drawing.opacity)

    def write_class_probabilities(self, prediction: Prediction, geometry: Geometry, photo: Path, folder: Path) -> None:
        """``scores/NAME.npy``, the class probabilities that a label map was read from."""
        scores: CellScores = prediction.source
        upsampling = Upsampling.to_original(scores.cells, scores.reduction, geometry)
        path = folder / "scores" / f"{photo.stem}.npy"
        write_probabilities(scores.cells, upsampling, path, logits=not scores.averaged)


def _test_time(
    img_size: tuple[int, int],
    inference: Inference,
    window: tuple[int, int] | None,
    stride: tuple[int, int] | None,
    flip_test: bool,
    scales: list[float] | None,
    window_batch: int,
) -> TestTimeAugmentation:
    """What the options come to.

    Raises:
        ValueError: One is out of range, or windows are described but not asked for.
    """
    if inference == "whole" and (window or stride):
        raise ValueError(f"window is {window} and stride {stride}, but inference is 'whole'. Set inference to slide.")
    height, width = window or img_size
    rows, columns = stride or (max(1, 2 * height // 3), max(1, 2 * width // 3))
    looks = (1.0,) if scales is None else tuple(scales)
    return TestTimeAugmentation(inference, (height, width), (rows, columns), flip_test, looks, window_batch)
