"""Semantic segmentation: cross-entropy, mIoU, label maps."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from siglip2_backbone.preprocess import squash

from .base import DenseTask
from .data.classes import IGNORE, ClassSpec, class_colours
from .data.images import read_image, to_rgb, upright
from .decoders import build_decoder
from .extractor import Extractor, Precision
from .metrics import SegmentationMetrics
from .resample import labels_at, to_pixels


class SegmentationTask(DenseTask):
    """Semantic segmentation on a frozen backbone.

    Args:
        backbone: A SigLIP 2 directory, file, model name or Hugging Face id, or any other timm name.
        classes: Number of classes, their names, or names with colours. From the command line the data module sets it.
        img_size: Height and width [px] that images are resized to. From the command line the data module sets it.
        decoder: The head.
        decoder_args: Further arguments of the head.
        layers: Blocks of the backbone that the head reads; negative ones count from the end.
        norm: Apply the backbone's final norm to them.
        pooled: Concatenate the pooled (MAP) output to every cell.
        pretrained: Load the backbone's published weights; ``False`` gives random ones.
        precision: Type that the backbone computes in; the head is float32 always.
        lr: Peak learning rate of AdamW.
        weight_decay: Decay of the head's kernels.
        warmup_steps: Optimiser steps of linear warm-up before the cosine.

    Raises:
        ValueError: An argument is out of range or names nothing known.

    Source: DINOv3's linear segmentation probe (arXiv:2508.10104, and facebookresearch/dinov3 @ 6876159), without its
    head dropout, its photometric augmentation and its sliding window.
    """

    task = "segmentation"

    def __init__(
        self,
        backbone: str | Extractor,
        classes: ClassSpec,
        img_size: tuple[int, int] = (512, 512),
        *,
        decoder: Literal["linear"] = "linear",
        decoder_args: dict[str, Any] | None = None,
        layers: list[int] | None = None,
        norm: bool = True,
        pooled: bool = False,
        pretrained: bool = True,
        precision: Precision = "float32",
        lr: float = 1e-3,
        weight_decay: float = 1e-3,
        warmup_steps: int = 100,
    ) -> None:
        colours = class_colours(classes)
        if not isinstance(backbone, Extractor):
            backbone = Extractor(
                backbone,
                layers=(-1,) if layers is None else layers,
                norm=norm,
                pooled=pooled,
                pretrained=pretrained,
                precision=precision,
            )
        head = build_decoder(decoder, backbone.channels, backbone.reductions, len(colours), **(decoder_args or {}))
        super().__init__(backbone, head, lr=lr, weight_decay=weight_decay, warmup_steps=warmup_steps)
        self.save_hyperparameters(ignore=["backbone"])
        self.hparams.update(backbone.arguments, classes=colours, img_size=tuple(img_size))
        self.img_size = (img_size[0], img_size[1])
        self.colours = colours
        self.metrics = SegmentationMetrics(len(colours))

    @property
    def reduction(self) -> int:
        """Pixels per cell of the logits."""
        return int(self.decoder.reduction)  # type: ignore[arg-type]

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

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Cross-entropy of the logits upsampled to the pixels, averaged over the pixels that are not ignored."""
        mask = batch["mask"]
        logits = to_pixels(self(batch["image"]), self.reduction, mask.shape[-2:])
        total = F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction="sum")
        loss: Tensor = total / (mask != IGNORE).sum().clamp(min=1)  # a crop may hold nothing but ignored pixels
        self.log("train/loss", loss, prog_bar=True, batch_size=len(mask))
        return loss

    def labels(self, batch: dict[str, Any], sizes: list[tuple[int, int]]) -> list[Tensor]:
        """Label maps of a batch, image i at ``sizes[i]`` (height, width) [px], int64."""
        logits = self(batch["image"])
        return [
            labels_at(logits[i : i + 1], self.reduction, tuple(batch["size"][i]), size)[0]
            for i, size in enumerate(sizes)
        ]

    def _update(self, batch: dict[str, Any]) -> None:
        """Count a test batch at the labels' own sizes."""
        masks = batch["mask"]
        for labels, mask in zip(self.labels(batch, [tuple(m.shape) for m in masks]), masks, strict=True):
            self.metrics.update(labels[None], mask[None])

    def _log_scores(self, stage: str) -> None:
        scores = self.metrics.scores()
        self.metrics.reset()
        if scores["mIoU"].isnan() and not self.trainer.sanity_checking:
            raise ValueError(
                f"Every label of the {stage} split is ignored, so there is nothing to score. Check data.ignore_values, "
                "and that no class is stored as 255, which always means ignore."
            )
        self.log_dict({f"{stage}/{k}": scores[k].float() for k in ("mIoU", "mAcc", "pixel_acc")}, prog_bar=True)
        self.per_class = {
            name: {"IoU": iou, "acc": acc}
            for name, iou, acc in zip(self.colours, scores["IoU"].tolist(), scores["acc"].tolist(), strict=True)
        }

    def on_validation_epoch_start(self) -> None:
        """Forget what a sanity check or a broken-off epoch has counted."""
        self.metrics.reset()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count."""
        self._update(batch)

    def on_validation_epoch_end(self) -> None:
        """Log mIoU, mAcc and pixel accuracy of the split."""
        self._log_scores("val")

    def on_test_epoch_start(self) -> None:
        """Start from zero."""
        self.metrics.reset()

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count."""
        self._update(batch)

    def on_test_epoch_end(self) -> None:
        """Log mIoU, mAcc and pixel accuracy of the split."""
        self._log_scores("test")

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[Tensor]:
        """Label maps at the original sizes, int64 ``(H, W)`` each."""
        return self.labels(batch, [tuple(size) for size in batch["original_size"]])

    @torch.no_grad()
    def predict(self, image: str | Path | Image.Image | np.ndarray | Tensor) -> Tensor:
        """Label map of one image at its own size.

        Args:
            image: A path, a PIL image, an array ``(H, W, 3)`` uint8, or a tensor ``(3, H, W)`` uint8.

        Returns:
            Class indices ``(H, W)``, int64, on the CPU.

        Raises:
            ValueError: The image cannot be read or is none of these.
        """
        pixels = _rgb(image)
        batch = {"image": squash(pixels, self.img_size)[None].float().to(self.device) / 255, "size": [self.img_size]}
        training = self.training
        self.eval()
        labels = self.labels(batch, [(pixels.shape[1], pixels.shape[2])])[0].cpu()
        self.train(training)
        return labels


def _rgb(image: str | Path | Image.Image | np.ndarray | Tensor) -> Tensor:
    """Any picture as uint8 ``(3, H, W)``."""
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return to_rgb(upright(image))
    if isinstance(image, np.ndarray):
        image = (
            torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, 0) if image.ndim == 3 else torch.from_numpy(image)
        )
    if not isinstance(image, Tensor):
        raise ValueError(f"image is a {type(image).__name__}; expected a path, a PIL image, an array or a tensor.")
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(
            f"image is {image.dtype} of shape {tuple(image.shape)}; expected uint8 RGB: a tensor (3, H, W), an array "
            "(H, W, 3), a PIL image or a path."
        )
    return image
