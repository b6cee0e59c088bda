"""Semantic segmentation: cross-entropy, mIoU, label maps."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from .data.classes import IGNORE, ClassSpec, class_colours
from .decoders import build_decoder
from .extractor import Extractor
from .map_task import MapTask
from .metrics import SegmentationMetrics
from .predictions import write_labels, write_overlay
from .resample import labels_at, to_pixels


class SegmentationTask(MapTask):
    """Semantic segmentation.

    Args:
        backbone: A SigLIP 2 directory, file, model name or Hugging Face id, or any other timm name.
        classes: Number of classes, their names, or names with colours. From the command line the data module sets it.
        img_size: Height and width [px] that images are resized to. From the command line the data module sets it.
        decoder: The head.
        decoder_args: Further arguments of the head.
        shared: What all tasks share: how the backbone is read and how it is trained, see :class:`heads.base.DenseTask`.

    Raises:
        ValueError: An argument is out of range or names nothing known.

    Source: with its defaults DINOv3's linear segmentation probe (arXiv:2508.10104, and facebookresearch/dinov3 @
    6876159), without its head dropout, its photometric augmentation and its sliding window.
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
        decoder: Literal["linear"] = "linear",
        decoder_args: dict[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        self.colours = class_colours(classes)

        def head(extractor: Extractor) -> nn.Module:
            channels, reductions = extractor.channels, extractor.reductions
            return build_decoder(decoder, channels, reductions, len(self.colours), **(decoder_args or {}))

        own = {"classes": self.colours, "decoder": decoder, "decoder_args": decoder_args}
        super().__init__(backbone, head, own, img_size, **shared)

    def card(self) -> dict[str, Any]:
        """The base card with the classes, in the order of the label values."""
        return super().card() | {"classes": self.colours}

    def check_card(self, card: Any, source: str) -> None:
        """Also refuse a head with other classes."""
        super().check_card(card, source)
        if list(card["classes"]) != list(self.colours):
            raise ValueError(
                f"{source} has the classes {list(card['classes'])}; this task has {list(self.colours)}. Use the class "
                "list that the head was trained with."
            )

    def loss(self, output: Tensor, batch: dict[str, Any]) -> Tensor:
        """Cross-entropy of the logits upsampled to the pixels, averaged over the pixels that are not ignored."""
        mask = batch["mask"]
        logits = to_pixels(output, self.reduction, mask.shape[-2:])
        total = F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction="sum")
        loss: Tensor = total / (mask != IGNORE).sum().clamp(min=1)  # a crop may hold nothing but ignored pixels
        return loss

    def labels(self, logits: Tensor, batch: dict[str, Any]) -> list[Tensor]:
        """Label maps of a batch at the original sizes, int64 ``(H, W)`` each."""
        return [
            labels_at(logits[i : i + 1], self.reduction, geometry)[0] for i, geometry in enumerate(batch["geometry"])
        ]

    def new_metrics(self) -> SegmentationMetrics:
        """A confusion matrix over the split."""
        return SegmentationMetrics(len(self.colours))

    def update(self, metric: SegmentationMetrics, output: Tensor, batch: dict[str, Any]) -> None:
        """Count a test batch at the labels' own sizes."""
        for labels, mask in zip(self.labels(output, batch), batch["mask"], strict=True):
            metric.update(labels[None], mask[None])

    def scores(self, metric: SegmentationMetrics, stage: str) -> dict[str, Tensor]:
        """mIoU, mAcc and pixel accuracy of the split; those of each class go to ``tables``.

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
        self.tables = {"classes": {name: {"IoU": iou, "acc": acc} for name, iou, acc in rows}}
        return {name: scores[name].float() for name in ("mIoU", "mAcc", "pixel_acc")}

    def write(self, found: Tensor, photo: Path, folder: Path, opacity: float) -> None:
        """``labels/NAME.png``, a palette PNG of class indices, and ``overlays/NAME.jpg``."""
        palette = np.array(list(self.colours.values()), dtype=np.uint8)
        write_labels(found, palette, folder / "labels" / f"{photo.stem}.png")
        write_overlay(found, palette, photo, folder / "overlays" / f"{photo.stem}.jpg", opacity)
