"""Semantic segmentation: cross-entropy, mIoU, label maps."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from .base import DenseTask
from .data.classes import IGNORE, ClassSpec, class_colours
from .data.image_folder import resized
from .data.images import read_image, to_rgb, upright
from .data.module import collate
from .decoders import build_decoder
from .extractor import Extractor
from .metrics import SegmentationMetrics
from .resample import labels_at, to_pixels


class SegmentationTask(DenseTask):
    """Semantic segmentation.

    Args:
        backbone: A SigLIP 2 directory, file, model name or Hugging Face id, or any other timm name.
        classes: Number of classes, their names, or names with colours. From the command line the data module sets it.
        img_size: Height and width [px] that images are resized to. From the command line the data module sets it.
        decoder: The head.
        decoder_args: Further arguments of the head.
        shared: What all tasks share: how the backbone is read and how it is trained, see :class:`DenseTask`.

    Raises:
        ValueError: An argument is out of range or names nothing known.

    Source: with its defaults DINOv3's linear segmentation probe (arXiv:2508.10104, and facebookresearch/dinov3 @
    6876159), without its head dropout, its photometric augmentation and its sliding window.
    """

    task = "segmentation"
    monitor = ("mIoU", "max")

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
        self.img_size = (img_size[0], img_size[1])

        def head(extractor: Extractor) -> nn.Module:
            channels, reductions = extractor.channels, extractor.reductions
            return build_decoder(decoder, channels, reductions, len(self.colours), **(decoder_args or {}))

        own = {
            "classes": self.colours,
            "img_size": self.img_size,
            "decoder": decoder,
            "decoder_args": decoder_args,
        }
        super().__init__(backbone, head, own, **shared)

    @property
    def reduction(self) -> int:
        """Pixels per cell of the logits."""
        return int(self.decoders[0].reduction)  # type: ignore[arg-type]

    def card(self) -> dict[str, Any]:
        """The base card with the classes, in the order of the label values."""
        return super().card() | {"classes": self.colours}

    def protocol(self) -> dict[str, Any]:
        """The base protocol with the size of the images and the decoder."""
        return super().protocol() | {"img_size": list(self.img_size), "decoder": self.hparams["decoder"]}

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
        """mIoU, mAcc and pixel accuracy of the split; those of each class go to ``per_class``.

        Raises:
            ValueError: There is nothing to score.
        """
        scores = metric.scores()
        if scores["mIoU"].isnan() and not self.trainer.sanity_checking:
            raise ValueError(
                f"Every label of the {stage} split is ignored, so there is nothing to score. Check data.ignore_values, "
                "and that no class is stored as 255, which always means ignore."
            )
        self.per_class = {
            name: {"IoU": iou, "acc": acc}
            for name, iou, acc in zip(self.colours, scores["IoU"].tolist(), scores["acc"].tolist(), strict=True)
        }
        return {name: scores[name].float() for name in ("mIoU", "mAcc", "pixel_acc")}

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[Tensor]:
        """Label maps at the original sizes, int64 ``(H, W)`` each."""
        return self.labels(self(batch["image"]), batch)

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
        batch = collate([resized(Path("image"), _rgb(image), self.img_size)])
        training = self.training
        self.eval()
        labels = self.labels(self(batch["image"].to(self.device)), batch)[0].cpu()
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
