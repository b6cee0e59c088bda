"""The loss of set prediction: each object is matched to one query, and the other queries should find nothing."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou, generalized_box_iou_loss, sigmoid_focal_loss

from ..geometry.boxes import corners
from ..training.distributed import average_buffers

WEIGHTS = {"classification": 2.0, "l1": 5.0, "giou": 2.0}
"""DETR's weights (arXiv:2005.12872, appendix A.4), with 2 for the focal loss (arXiv:2010.04159, section 5)."""

_EPS = 1e-12  # of the generalised IoU: torchvision's 1e-7 is too large next to the area of a box of 4 px in 1000
_WORST = 1e6  # replaces a cost of NaN or infinity; the task then reports the loss with the image names


@torch.no_grad()
def match(
    logits: Tensor, boxes: Tensor, target: Mapping[str, Tensor], weights: Mapping[str, float] = WEIGHTS
) -> tuple[Tensor, Tensor]:
    """Match queries to the objects of an image: the pairs with the lowest total cost, each index at most once.

    The cost of a pair is the weighted sum of the change in the focal loss when the query gets the object's class, the
    L1 distance of the boxes, and the negative generalised IoU. With more objects than queries, the objects that cost
    most stay unmatched.

    Args:
        logits: Logits of each query and class ``(Q, C)``.
        boxes: Box of each query ``(Q, 4)``: centre x, centre y, width and height in [0, 1] of the image.
        target: ``boxes`` ``(N, 4)`` in the same form, and ``labels`` ``(N,)``.
        weights: Weights of classification, l1 and giou.

    Returns:
        Indices of queries and of objects, int64 ``(min(Q, N),)`` each.

    Source: DETR (arXiv:2005.12872, section 3.1 and appendix A.2), with the focal cost of Deformable DETR
    (arXiv:2010.04159, section 5).
    """
    chosen = logits[:, target["labels"]]
    cost = weights["classification"] * (
        _focal(chosen, torch.ones_like(chosen)) - _focal(chosen, torch.zeros_like(chosen))
    )
    cost = cost + weights["l1"] * torch.cdist(boxes, target["boxes"], p=1)
    cost = cost - weights["giou"] * generalized_box_iou(corners(boxes), corners(target["boxes"]))
    cost = torch.nan_to_num(cost, nan=_WORST, posinf=_WORST, neginf=_WORST)
    queries, objects = (torch.from_numpy(i).to(logits.device) for i in linear_sum_assignment(cost.cpu().numpy()))
    return queries, objects


class SetPredictionLoss(nn.Module):
    """Focal loss of every query's classes, L1 and generalised IoU losses of the matched queries' boxes.

    Each is summed and divided by the number of objects in the batch, which is averaged over all processes and at
    least 1. Every layer of the decoder is matched and counted separately.

    Args:
        weights: Weights of classification, l1 and giou, in the loss and in the costs of :func:`match`; missing ones
            default to :data:`WEIGHTS`.

    Raises:
        ValueError: A weight is unknown or not above 0.

    Source: DETR (arXiv:2005.12872, section 3.1 and appendix A.2), with the focal loss (arXiv:1708.02002, alpha 0.25 and
    gamma 2) of Deformable DETR (arXiv:2010.04159; fundamentalvision/Deformable-DETR @ 11169a6, with the same costs and
    losses up to the 1e-8 that it adds within logarithms).
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.weights = WEIGHTS | dict(weights or {})
        if set(self.weights) != set(WEIGHTS) or not all(0 < w < float("inf") for w in self.weights.values()):
            raise ValueError(
                f"The loss has the weights {dict(weights or {})}; expected numbers above 0 for some of "
                f"{', '.join(WEIGHTS)}."
            )

    def forward(self, logits: Tensor, boxes: Tensor, targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Weighted losses by name; the names of all layers but the last end in the layer's index, from 0.

        Args:
            logits: Logits of each layer, image, query and class ``(L, B, Q, C)``.
            boxes: ``(L, B, Q, 4)``: centre x, centre y, width and height in [0, 1] of the image.
            targets: For each image ``boxes`` ``(N, 4)`` in the same form, and ``labels`` ``(N,)``.
        """
        count = logits.new_tensor(sum(len(t["labels"]) for t in targets))
        average_buffers([count])
        losses: dict[str, Tensor] = {}
        for layer, (of_layer, found) in enumerate(zip(logits, boxes, strict=True)):
            suffix = "" if layer == len(logits) - 1 else f"_{layer}"
            terms = self._of_layer(of_layer, found, targets)
            losses |= {name + suffix: self.weights[name] * term / count.clamp(min=1) for name, term in terms.items()}
        return losses

    def _of_layer(self, logits: Tensor, boxes: Tensor, targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Sums over the images; without objects the box losses are 0, with a gradient of 0."""
        pairs = [match(*of_image, self.weights) for of_image in zip(logits, boxes, targets, strict=True)]
        image = torch.cat([torch.full_like(queries, i) for i, (queries, _) in enumerate(pairs)])
        query = torch.cat([queries for queries, _ in pairs])
        label = torch.cat([t["labels"][objects] for t, (_, objects) in zip(targets, pairs, strict=True)])
        true = torch.cat([t["boxes"][objects] for t, (_, objects) in zip(targets, pairs, strict=True)])
        classes = torch.zeros_like(logits)
        classes[image, query, label] = 1
        found = boxes[image, query]
        return {
            "classification": _focal(logits, classes).sum(),
            "l1": F.l1_loss(found, true, reduction="sum"),
            "giou": generalized_box_iou_loss(corners(found), corners(true), reduction="sum", eps=_EPS),
        }


def _focal(logits: Tensor, classes: Tensor) -> Tensor:
    loss: Tensor = sigmoid_focal_loss(logits, classes, alpha=0.25, gamma=2)
    return loss
