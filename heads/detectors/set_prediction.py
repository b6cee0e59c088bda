"""Set prediction: each query reads the patch tokens of a plain tower and finds one object or none."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.quasirandom import SobolEngine
from torchvision.ops import MLP, batched_nms, box_convert, clip_boxes_to_image

from ..geometry.boxes import corners
from ..losses.set_prediction import SetPredictionLoss
from .base import Detections, Detector, Limits, Size, Target
from .detr_decoder import Cells, DecoderLayer, sine

_PRIOR = 0.01  # initial probability of a class, as in the focal loss's paper (arXiv:1708.02002)
_CANDIDATES = 10  # candidates for NMS as a multiple of max_detections: 1000 in all, as in torchvision's FCOS
_ANCHOR = 0.25  # initial width and height of a query's box, as shares of the image


class SetPrediction(Detector):
    """A DETR on maps of one resolution: a probe of a frozen tower for detection, as a linear probe is for segmentation.

    The maps are concatenated and projected. Each query has a learned box that every decoder layer refines: the box's
    sine encoding is the query's position, and the offsets of the cells to its edges bias the attention. Everything is
    relative to the image's own size, and the cells of the padding are masked, so that an image has the same detections
    in any batch.

    Source: DETR (arXiv:2005.12872), with iterative refinement and the focal loss of Deformable DETR (arXiv:2010.04159),
    boxes as queries of DAB-DETR (arXiv:2201.12329), and the box-relative bias of Plain-DETR (arXiv:2308.01904), which
    is what DINOv3 puts on a frozen tower (arXiv:2508.10104). By default without their encoders; always without two
    stages and one-to-many matching.

    Args:
        channels: Channels of the maps.
        reductions: Pixels per cell of the maps, the same for all.
        num_classes: Number of classes.
        limits: Which detections are kept; by default every score, without non-maximum suppression.
        queries: Number of queries, the most objects found in an image; 300 is usual for COCO.
        dim: Channels of queries and cells.
        layers: Decoder layers.
        heads: Attention heads.
        mlp_dim: Hidden channels of a layer's MLP.
        dropout: Dropout in attention and MLPs.
        encoder_layers: Self-attention layers over the cells, before the decoder.
        losses: Weights of classification, l1 and giou, see :class:`heads.losses.set_prediction.SetPredictionLoss`.

    Raises:
        ValueError: The maps' reductions differ, or a number is out of range.
    """

    def __init__(
        self,
        channels: Sequence[int],
        reductions: Sequence[int],
        num_classes: int,
        limits: Limits | None = None,
        *,
        queries: int = 100,
        dim: int = 256,
        layers: int = 6,
        heads: int = 8,
        mlp_dim: int = 1024,
        dropout: float = 0.0,
        encoder_layers: int = 0,
        losses: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if len(set(reductions)) != 1:
            raise ValueError(
                f"set_prediction reads layers of one reduction, got {list(reductions)}; choose other layers, and no "
                "pyramid."
            )
        if min(num_classes, queries, layers, heads, mlp_dim) < 1 or encoder_layers < 0 or not 0 <= dropout < 1:
            raise ValueError(
                f"num_classes is {num_classes}, queries {queries}, layers {layers}, heads {heads}, mlp_dim {mlp_dim}, "
                f"encoder_layers {encoder_layers}, dropout {dropout}; expected at least 1, encoder_layers at least 0, "
                "and dropout 0 to below 1."
            )
        if dim < 1 or dim % heads or dim % 4:
            raise ValueError(f"dim is {dim}; expected a multiple of 4, and of the {heads} heads.")
        self.reduction = reductions[0]
        self.num_classes = num_classes
        self.limits = limits or Limits()
        self.criterion = SetPredictionLoss(losses)
        self.project = nn.Sequential(nn.Linear(sum(channels), dim), nn.LayerNorm(dim))
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, mlp_dim, dropout, batch_first=True, norm_first=True)
            for _ in range(encoder_layers)
        )
        self.encoder_norm = nn.LayerNorm(dim) if encoder_layers else nn.Identity()
        self.queries = nn.Parameter(torch.randn(queries, dim))
        self.anchors = nn.Parameter(_anchors(queries))
        self.position = MLP(2 * dim, [dim, dim])
        self.layers = nn.ModuleList(DecoderLayer(dim, heads, mlp_dim, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.outputs = nn.ModuleList(Output(dim, num_classes) for _ in range(layers))

    @property
    def raw_outputs(self) -> list[nn.Module]:
        """The layers that predict classes and boxes."""
        return list(self.outputs)

    def every_layer(self, maps: list[Tensor], sizes: list[Size]) -> tuple[Tensor, Tensor]:
        """The outputs of every decoder layer.

        Args:
            maps: Maps of the backbone ``(B, C, rows, columns)``.
            sizes: Height and width of each image [px].

        Returns:
            Logits ``(layers, B, queries, classes)``, and boxes ``(layers, B, queries, 4)``: centre x, centre y, width
            and height in [0, 1] of the image.
        """
        grid = torch.cat(maps, dim=1)
        cells = Cells.of(grid, sizes, self.reduction)
        values = self.project(grid.flatten(2).transpose(1, 2))
        encoding = cells.encoding(values.shape[-1])
        if len(self.encoder):
            values = values + encoding
            for layer in self.encoder:
                values = layer(values, src_key_padding_mask=cells.hidden)
            values = self.encoder_norm(values)
        return self._decode(values + encoding, values, cells)

    def _decode(self, keys: Tensor, values: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
        """Logits and boxes of every layer; each refines the previous layer's boxes, without a gradient into them."""
        queries, reference = (p.expand(len(keys), -1, -1) for p in (self.queries, self.anchors))
        logits, boxes = [], []
        for layer, output in zip(self.layers, self.outputs, strict=True):
            found = reference.sigmoid()
            position = self.position(sine(found, keys.shape[-1] // 2).flatten(2))
            queries = layer(queries, position, found, keys, values, cells)
            scores, moved = output(self.norm(queries))
            reference = reference + moved
            logits.append(scores)
            boxes.append(reference.sigmoid())
            reference = reference.detach()
        return torch.stack(logits), torch.stack(boxes)

    def losses(self, maps: list[Tensor], padded: Size, sizes: list[Size], targets: list[Target]) -> dict[str, Tensor]:
        """Weighted losses of every layer; the names of all layers but the last end in the layer's index.

        Raises:
            ValueError: A label is not a class index.
        """
        logits, boxes = self.every_layer(maps, sizes)
        relative = [self._relative(*of_image) for of_image in zip(targets, sizes, strict=True)]
        losses: dict[str, Tensor] = self.criterion(logits, boxes, relative)
        return losses

    def detect(self, maps: list[Tensor], padded: Size, sizes: list[Size]) -> list[Detections]:
        """The query-class pairs with the highest scores; a query can find several classes."""
        logits, boxes = self.every_layer(maps, sizes)
        return [self._kept(*of_image) for of_image in zip(logits[-1].sigmoid(), boxes[-1], sizes, strict=True)]

    def _relative(self, target: Target, size: Size) -> Target:
        """Boxes as centre and size in [0, 1] of the image."""
        labels = target["labels"]
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise ValueError(
                f"Labels run from {int(labels.min())} to {int(labels.max())}; expected 0 to {self.num_classes - 1}. "
                "Number the classes from 0, or set num_classes."
            )
        boxes = target["boxes"] / _edges(target["boxes"], size)
        return {"boxes": box_convert(boxes, "xyxy", "cxcywh"), "labels": labels}

    def _kept(self, scores: Tensor, boxes: Tensor, size: Size) -> Detections:
        """Apply the limits to an image's scores ``(queries, classes)`` and boxes, in descending order of score."""
        limits = self.limits
        candidates = limits.max_detections * (1 if limits.nms_threshold is None else _CANDIDATES)
        ranked, order = scores.flatten().topk(min(candidates, scores.numel()))
        count = int((ranked >= (limits.score_threshold or 0)).sum())
        ranked, order = ranked[:count], order[:count]
        # a flat index: its quotient by num_classes is the query, its remainder the class
        pixels = clip_boxes_to_image(corners(boxes) * _edges(boxes, size), size)[order // self.num_classes]
        labels = order % self.num_classes
        if limits.nms_threshold is not None:
            kept = batched_nms(pixels, ranked, labels, limits.nms_threshold)[: limits.max_detections]
            pixels, ranked, labels = pixels[kept], ranked[kept], labels[kept]
        return {"boxes": pixels, "scores": ranked, "labels": labels}


class Output(nn.Module):
    """Classes and box refinement of a layer's queries; initially scores are low and boxes do not move.

    Args:
        dim: Channels of the queries.
        num_classes: Number of classes.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(dim, num_classes)
        self.hidden = MLP(dim, [dim, dim])
        self.mover = nn.Linear(dim, 4)
        nn.init.constant_(self.classifier.bias, math.log(_PRIOR / (1 - _PRIOR)))
        nn.init.zeros_(self.mover.weight)
        nn.init.zeros_(self.mover.bias)

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(B, Q, classes)``, and the change of the boxes' logits ``(B, Q, 4)``."""
        return self.classifier(queries), self.mover(self.hidden(queries).relu())


def _edges(boxes: Tensor, size: Size) -> Tensor:
    """Width, height, width and height of an image [px], the scale of its boxes."""
    height, width = size
    return boxes.new_tensor([width, height, width, height])


def _anchors(count: int) -> Tensor:
    """Initial boxes ``(count, 4)``, spread evenly over the image: logits of centre and size."""
    with torch.device("cpu"):  # SobolEngine draws on the CPU only, also for a task built on the meta device
        engine = SobolEngine(2).fast_forward(1)  # type: ignore[no-untyped-call]  # skips the first point, a corner
        return torch.cat([engine.draw(count), torch.full((count, 2), _ANCHOR)], dim=1).logit()
