"""torchvision's detectors as heads: Faster R-CNN, Mask R-CNN, RetinaNet and FCOS."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.rpn import RPNHead

from .base import Detections, Detector, Limits, Size, Target
from .levels import LevelAnchors, LevelRoIAlign
from .neck import LevelNeck

Heads = Literal["default", "vitdet"]

_RATIOS = (0.5, 1.0, 2.0)
_OCTAVE = (4.0, 4 * 2 ** (1 / 3), 4 * 2 ** (2 / 3))  # arXiv:1708.02002, section 4
_BOX_CELLS, _MASK_CELLS = 7, 14  # rows and columns of a pooled region, for its box and for its mask
_MASK_WIDTH = 256  # input channels of torchvision's mask predictor


class FasterRCNNDetector(Detector):
    """Faster R-CNN on the maps of a backbone.

    This is torchvision's model without its transform: images are normalised and resized beforehand. Its weights have
    torchvision's names, under ``model``; the neck replaces the backbone.

    Source: arXiv:1506.01497 through torchvision. ``heads="vitdet"`` is detectron2 @ 0818132
    (``projects/ViTDet/configs/common/models/mask_rcnn_vitdet.py``): two convolutions in the RPN head, four and one
    linear layer in the box head, layer norms in the box and mask heads. It differs in torchvision's box loss (smooth
    L1, where detectron2's is L1) and region pooling (two samples per cell, no shift by half a cell).

    Args:
        channels: Channels of the maps.
        reductions: Pixels per cell of the maps, from fine to coarse.
        num_classes: Number of classes, without the background.
        limits: Which boxes are kept; score_threshold is 0.05 and nms_threshold 0.5 by default.
        features: Channels of the levels, see :class:`LevelNeck`.
        heads: torchvision's layers (default) or those of ViTDet.
        anchor_scales: Sides of the anchors in pixels per cell; for a single map use several, as in [2, 4, 8, 16].

    Raises:
        ValueError: The maps are not from fine to coarse, or an argument is out of range.
    """

    def __init__(
        self,
        channels: Sequence[int],
        reductions: Sequence[int],
        num_classes: int,
        limits: Limits | None = None,
        *,
        features: int = 256,
        heads: Heads = "default",
        anchor_scales: Sequence[float] = (8.0,),
    ) -> None:
        super().__init__()
        if heads not in get_args(Heads):
            raise ValueError(f"heads is {heads!r}; expected one of {', '.join(get_args(Heads))}.")
        neck = LevelNeck(channels, reductions, features=features, extra="pool")
        anchors = LevelAnchors(anchor_scales, _RATIOS, neck.reductions)
        pools = {"box_roi_pool": LevelRoIAlign(neck.names, reductions, _BOX_CELLS)}
        if self.has_masks:
            pools["mask_roi_pool"] = LevelRoIAlign(neck.names, reductions, _MASK_CELLS)
        layers = self._vitdet(features, len(_RATIOS) * len(anchor_scales)) if heads == "vitdet" else {}
        network = MaskRCNN if self.has_masks else FasterRCNN
        self.model = network(
            neck, num_classes + 1, rpn_anchor_generator=anchors, **pools, **layers, **_limits(limits, "box_")
        )
        del self.model.transform  # it would normalise a second time

    @property
    def raw_outputs(self) -> list[nn.Module]:
        """The layers that predict proposals, boxes and masks."""
        rois = self.model.roi_heads
        return [self.model.rpn.head, rois.box_predictor, *([rois.mask_predictor] if self.has_masks else [])]

    def _vitdet(self, features: int, anchors: int) -> dict[str, nn.Module]:
        region = (features, _BOX_CELLS, _BOX_CELLS)
        layers: dict[str, nn.Module] = {
            "rpn_head": RPNHead(features, anchors, conv_depth=2),
            "box_head": FastRCNNConvFCHead(region, [features] * 4, [1024], norm_layer=LayerNorm2d),
        }
        if self.has_masks:
            layers["mask_head"] = MaskRCNNHeads(features, [_MASK_WIDTH] * 4, 1, norm_layer=LayerNorm2d)
        return layers

    def losses(self, maps: list[Tensor], padded: Size, sizes: list[Size], targets: list[Target]) -> dict[str, Tensor]:
        """As :meth:`Detector.losses`: those of the proposals, the boxes and, if there are any, the masks.

        Raises:
            ValueError: A box has no width or height, or the detector is in evaluation mode and computes no losses.
        """
        self._check_mode(training=True)
        _check_boxes(targets)
        numbered = [t | {"labels": t["labels"] + 1} for t in targets]  # label 0 is torchvision's background
        levels = self.model.backbone(maps)
        proposals, of_proposals = self.model.rpn(_images(maps, padded, sizes), levels, numbered)
        _, of_boxes = self.model.roi_heads(levels, proposals, sizes, numbered)
        return {**of_boxes, **of_proposals}

    def detect(self, maps: list[Tensor], padded: Size, sizes: list[Size]) -> list[Detections]:
        """As :meth:`Detector.detect`.

        Raises:
            ValueError: The detector is in training mode and detects nothing.
        """
        self._check_mode(training=False)
        levels = self.model.backbone(maps)
        proposals, _ = self.model.rpn(_images(maps, padded, sizes), levels)
        found, _ = self.model.roi_heads(levels, proposals, sizes)
        return [f | {"labels": f["labels"] - 1} for f in found]

    def _check_mode(self, *, training: bool) -> None:
        if self.training != training:
            raise ValueError(
                f"The detector is in {'training' if self.training else 'evaluation'} mode. Call train() for losses, "
                "eval() to detect."
            )


class MaskRCNNDetector(FasterRCNNDetector):
    """Mask R-CNN: Faster R-CNN with a mask of 28 x 28 cells in each box (arXiv:1703.06870). Arguments as there.

    A cell's target is the mask at its own position, as in detectron2. torchvision would read it half a pixel to the
    lower right, see :func:`between_pixels`.
    """

    has_masks = True

    def losses(self, maps: list[Tensor], padded: Size, sizes: list[Size], targets: list[Target]) -> dict[str, Tensor]:
        """As :meth:`FasterRCNNDetector.losses`."""
        moved = [t | {key: between_pixels(t[key]) for key in ("masks",) if key in t} for t in targets]
        return super().losses(maps, padded, sizes, moved)


class DenseDetector(Detector):
    """Base of RetinaNet and FCOS, which predict boxes at every cell.

    Args:
        model: torchvision's model; its backbone is the neck.
    """

    def __init__(self, model: RetinaNet | FCOS) -> None:
        super().__init__()
        self.model = model
        self.unread = model.backbone.unread
        del self.model.transform  # it would normalise a second time

    @property
    def raw_outputs(self) -> list[nn.Module]:
        """The layers that predict classes and boxes."""
        return [self.model.head]

    def losses(self, maps: list[Tensor], padded: Size, sizes: list[Size], targets: list[Target]) -> dict[str, Tensor]:
        """As :meth:`Detector.losses`.

        Raises:
            ValueError: A box has no width or height.
        """
        _check_boxes(targets)
        outputs, anchors, counts = self._predict(maps, padded, sizes)
        return self._compute_loss(targets, outputs, anchors, counts)

    def detect(self, maps: list[Tensor], padded: Size, sizes: list[Size]) -> list[Detections]:
        """As :meth:`Detector.detect`."""
        outputs, anchors, counts = self._predict(maps, padded, sizes)
        by_level = {name: torch.split(output, counts, dim=1) for name, output in outputs.items()}
        split_anchors = [torch.split(of_image, counts) for of_image in anchors]
        found: list[Detections] = self.model.postprocess_detections(by_level, split_anchors, sizes)
        return found

    def _predict(
        self, maps: list[Tensor], padded: Size, sizes: list[Size]
    ) -> tuple[dict[str, Tensor], list[Tensor], list[int]]:
        """Outputs by name ``(B, N, ...)``, anchors ``(N, 4)`` for each image, and the number of anchors per level."""
        levels = list(self.model.backbone(maps).values())
        generator = self.model.anchor_generator
        cells = [level.shape[-2] * level.shape[-1] for level in levels]
        counts = [n * each for n, each in zip(cells, generator.num_anchors_per_location(), strict=True)]
        return self.model.head(levels), generator(_images(maps, padded, sizes), levels), counts

    def _compute_loss(
        self, targets: list[Target], outputs: dict[str, Tensor], anchors: list[Tensor], counts: list[int]
    ) -> dict[str, Tensor]:
        raise NotImplementedError


class RetinaNetDetector(DenseDetector):
    """RetinaNet on the maps of a backbone.

    Source: arXiv:1708.02002 through torchvision.

    Args:
        channels: Channels of the maps.
        reductions: Pixels per cell of the maps, from fine to coarse.
        num_classes: Number of classes.
        limits: Which boxes are kept; score_threshold is 0.05 and nms_threshold 0.5 by default.
        features: Channels of the levels, see :class:`LevelNeck`.
        min_reduction: Maps finer than this are left out; the original starts at 8 px.
        anchor_scales: Sides of the anchors in pixels per cell.

    Raises:
        ValueError: The maps are not from fine to coarse, or an argument is out of range.
    """

    def __init__(
        self,
        channels: Sequence[int],
        reductions: Sequence[int],
        num_classes: int,
        limits: Limits | None = None,
        *,
        features: int = 256,
        min_reduction: int = 8,
        anchor_scales: Sequence[float] = _OCTAVE,
    ) -> None:
        neck = LevelNeck(channels, reductions, features=features, extra="convs", min_reduction=min_reduction)
        anchors = LevelAnchors(anchor_scales, _RATIOS, neck.reductions)
        super().__init__(RetinaNet(neck, num_classes, anchor_generator=anchors, **_limits(limits)))

    def _compute_loss(
        self, targets: list[Target], outputs: dict[str, Tensor], anchors: list[Tensor], counts: list[int]
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.model.compute_loss(targets, outputs, anchors)
        return losses


class FCOSDetector(DenseDetector):
    """FCOS on the maps of a backbone: no anchors, and each level has the boxes of one octave.

    Source: arXiv:2006.09214 through torchvision, whose points are the cells' upper left corners.

    Args:
        channels: Channels of the maps.
        reductions: Pixels per cell of the maps, each twice the one before.
        num_classes: Number of classes.
        limits: Which boxes are kept; score_threshold is 0.2 and nms_threshold 0.6 by default.
        features: Channels of the levels, a multiple of 32; see :class:`LevelNeck`.
        min_reduction: Maps finer than this are left out; the original starts at 8 px.

    Raises:
        ValueError: The maps' reductions do not double, or an argument is out of range.
    """

    def __init__(
        self,
        channels: Sequence[int],
        reductions: Sequence[int],
        num_classes: int,
        limits: Limits | None = None,
        *,
        features: int = 256,
        min_reduction: int = 8,
    ) -> None:
        neck = LevelNeck(channels, reductions, features=features, extra="convs", min_reduction=min_reduction)
        if any(coarse != 2 * fine for fine, coarse in zip(neck.reductions, neck.reductions[1:], strict=False)):
            raise ValueError(
                f"FCOS reads maps each twice as coarse as the one before, got the reductions {list(reductions)}: boxes "
                "between two of its levels would match no level. Select every stage in layers."
            )
        if features % 32:
            raise ValueError(f"features is {features}; expected a multiple of 32, for FCOS's group norms.")
        anchors = LevelAnchors((1.0,), (1.0,), neck.reductions)
        super().__init__(FCOS(neck, num_classes, anchor_generator=anchors, **_limits(limits)))

    def _compute_loss(
        self, targets: list[Target], outputs: dict[str, Tensor], anchors: list[Tensor], counts: list[int]
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.model.compute_loss(targets, outputs, anchors, counts)
        return losses


def between_pixels(masks: Tensor) -> Tensor:
    """Shift masks by half a pixel, so that torchvision's mask loss samples them at the right position.

    Its ``project_masks_on_boxes`` places the centre of pixel i at i, not at i + 0.5. Index i must therefore hold the
    mean of pixels i - 1 and i, on both axes.

    Args:
        masks: bool ``(N, H, W)``.

    Returns:
        float16 ``(N, H, W)``, which is exact for the five possible values, in half of float32's memory.
    """
    moved = masks.half()
    for axis in (1, 2):
        first, others = moved.narrow(axis, 0, 1), moved.narrow(axis, 0, moved.shape[axis] - 1)
        moved = (moved + torch.cat([first, others], dim=axis)) / 2
    return moved


def _limits(limits: Limits | None, prefix: str = "") -> dict[str, Any]:
    """The limits as arguments of torchvision's detectors."""
    limits = limits or Limits()
    values = {
        "score_thresh": limits.score_threshold,
        "nms_thresh": limits.nms_threshold,
        "detections_per_img": limits.max_detections,
    }
    return {prefix + name: value for name, value in values.items() if value is not None}


def _images(maps: list[Tensor], padded: Size, sizes: list[Size]) -> ImageList:
    """The images' sizes as torchvision expects them; the batch is expanded from one element of memory."""
    return ImageList(maps[0].new_empty(1).expand(len(sizes), 1, *padded), sizes)


def _check_boxes(targets: list[Target]) -> None:
    """Reject boxes without width or height, as torchvision does in ``forward``, which is not called here."""
    for index, target in enumerate(targets):
        boxes = target["boxes"]
        flat = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1)
        if flat.any():
            number = int(torch.where(flat)[0][0])
            raise ValueError(
                f"Box {number} of image {index} in the batch is {boxes[number].tolist()}; expected left, top, right "
                "and bottom, with width and height above 0. Remove it from the annotations."
            )
