"""Scores of semantic segmentation, from one confusion matrix over the split."""

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from ..data.classes import IGNORE
from ..geometry.record import Geometry
from ..geometry.resample import labels_at


class SegmentationMetrics(MulticlassConfusionMatrix):
    """Confusion matrix (rows: ground truth, columns: prediction) and the scores derived from it.

    Ignored pixels are left out. ``mIoU`` averages TP / (TP + FP + FN) over the classes that occur in the ground truth
    or the prediction, as mmsegmentation does (nanmean); ``mAcc`` averages TP / (TP + FN) over the classes that occur in
    the ground truth. torchmetrics' segmentation.MeanIoU averages over images and gives a different number.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        # labels are checked where they are read, see SegmentationDataset
        super().__init__(num_classes=num_classes, ignore_index=IGNORE, validate_args=False)

    def update_logits(self, logits: Tensor, reduction: float, geometry: Geometry, mask: Tensor) -> None:
        """Count an image from the logits of its cells, with the labels of :func:`heads.geometry.resample.labels_at`.

        Args:
            logits: ``(C, rows, columns)``.
            reduction: Pixels per cell.
            geometry: What was done to the image.
            mask: Label map of the original image, ``(H, W)``, 255 = ignore.

        Raises:
            ValueError: The label map and the original image differ in size.
        """
        if tuple(mask.shape) != geometry.original_size:
            raise ValueError(
                f"The label is {tuple(mask.shape)} (height, width), its original image {geometry.original_size}; "
                "expected equal sizes. Labels are not resized."
            )
        self.update(labels_at(logits[None], reduction, geometry), mask[None])

    def scores(self) -> dict[str, Tensor]:
        """``mIoU``, ``mAcc`` and ``pixel_acc`` in [0, 1], and ``IoU`` and ``acc`` per class (NaN where undefined)."""
        matrix = self.compute().double().reshape(self.num_classes, self.num_classes)  # squeezed for one class
        hits, truth, predicted = matrix.diagonal(), matrix.sum(dim=1), matrix.sum(dim=0)
        iou, acc = hits / (truth + predicted - hits), hits / truth
        return {
            "mIoU": torch.nanmean(iou),
            "mAcc": torch.nanmean(acc),
            "pixel_acc": hits.sum() / truth.sum(),
            "IoU": iou,
            "acc": acc,
        }
