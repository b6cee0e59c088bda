"""The loss of semantic segmentation: cross-entropy, Dice and focal loss, weighted."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..data.classes import IGNORE
from ..geometry.resample import to_pixels
from .upsampled_cross_entropy import upsampled_cross_entropy

TERMS = ("cross_entropy", "dice", "focal")


class SegmentationLoss(nn.Module):
    """Weighted sum of losses on the logits upsampled to pixels; ignored pixels count in none of them.

    Cross-entropy never holds the upsampled logits; Dice and focal loss do, which takes several times the memory.

    Args:
        num_classes: Number of classes.
        terms: Weight of each term; by default cross_entropy alone.
        label_smoothing: Label smoothing of the cross-entropy, as in ``F.cross_entropy``.
        class_weights: Weight of each class in the cross-entropy, as in ``F.cross_entropy``.
        focal_gamma: Exponent of the focal loss.

    Raises:
        ValueError: A term is unknown, a number is out of range, or an option belongs to a term that is left out.

    Source: Dice and focal loss are those of segmentation_models_pytorch: Dice over the batch, averaged over all
    classes, with 0 for absent ones; focal loss (arXiv:1708.02002) of each class against the rest, averaged over classes
    and pixels, without alpha.
    """

    def __init__(
        self,
        num_classes: int,
        terms: Mapping[str, float] | None = None,
        *,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        focal_gamma: float = 2.0,
    ) -> None:
        super().__init__()
        self.terms = {"cross_entropy": 1.0} if terms is None else dict(terms)
        if not self.terms or any(name not in TERMS for name in self.terms):
            raise ValueError(f"The loss has the terms {list(self.terms)}; expected some of {', '.join(TERMS)}.")
        if not all(0 < weight < float("inf") for weight in self.terms.values()):
            raise ValueError(f"The terms of the loss have the weights {self.terms}; expected numbers above 0.")
        if not 0 <= label_smoothing <= 1 or not 0 <= focal_gamma < float("inf"):
            raise ValueError(
                f"label_smoothing is {label_smoothing} and focal_gamma {focal_gamma}; expected 0 to 1, and at least 0."
            )
        if class_weights is not None and (len(class_weights) != num_classes or min(class_weights) < 0):
            raise ValueError(
                f"class_weights are {list(class_weights)}; expected {num_classes} numbers, none of them negative."
            )
        idle = {"focal_gamma": focal_gamma != 2 and "focal" not in self.terms}
        if "cross_entropy" not in self.terms:
            idle |= {"label_smoothing": label_smoothing > 0, "class_weights": class_weights is not None}
        if any(idle.values()):
            raise ValueError(
                f"{', '.join(name for name, is_set in idle.items() if is_set)} has no effect: the loss has the terms "
                f"{list(self.terms)}. Leave it out, or add its term: focal_gamma belongs to focal, the others to "
                "cross_entropy."
            )
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights
        # a plain dict, not a ModuleDict: these losses have no parameters
        self.full_size: dict[str, nn.Module] = _full_size(self.terms, focal_gamma)

    def forward(self, logits: Tensor, mask: Tensor, reduction: float) -> Tensor:
        """The loss; 0 where every pixel is ignored.

        Args:
            logits: Logits of the cells ``(B, C, rows, columns)``.
            mask: Label map ``(B, H, W)``, int64; 255 is ignored.
            reduction: Pixels per cell.

        Raises:
            ValueError: A label is not a class index.
        """
        loss = logits.sum() * 0  # has a gradient even where every pixel is ignored
        if "cross_entropy" in self.terms:
            weights = None if self.class_weights is None else logits.new_tensor(self.class_weights)
            loss = self.terms["cross_entropy"] * upsampled_cross_entropy(
                logits, mask, reduction, class_weights=weights, label_smoothing=self.label_smoothing
            )
        if self.full_size and (mask != IGNORE).any():  # a mean over no pixel is NaN
            pixels = to_pixels(logits, reduction, (mask.shape[1], mask.shape[2]))
            for name, term in self.full_size.items():
                loss = loss + self.terms[name] * term(pixels, mask)
        return loss


def build_loss(num_classes: int, terms: Mapping[str, float] | None, **args: Any) -> SegmentationLoss:
    """Build the loss from plain data.

    Raises:
        ValueError: An argument is unknown or out of range.
    """
    try:
        return SegmentationLoss(num_classes, terms, **args)
    except TypeError as error:
        raise ValueError(f"loss_args {args} do not fit the loss: {error}.") from error


def _full_size(terms: Mapping[str, float], focal_gamma: float) -> dict[str, nn.Module]:
    """The terms that need the upsampled logits."""
    if not {"dice", "focal"} & terms.keys():
        return {}
    from segmentation_models_pytorch import losses  # slow to import, and needed for these terms only

    options: dict[str, Any] = {"mode": losses.MULTICLASS_MODE, "ignore_index": IGNORE}
    made = {"dice": losses.DiceLoss(**options), "focal": losses.FocalLoss(gamma=focal_gamma, **options)}
    return {name: loss for name, loss in made.items() if name in terms}
