"""The interface of all detectors: losses in training, boxes with scores otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

Size = tuple[int, int]
Target = dict[str, Tensor]
"""``boxes`` float32 ``(N, 4)`` xyxy [px] within the image, ``labels`` int64 ``(N,)`` from 0, and for a detector with
masks ``masks`` bool ``(N, H, W)`` at the image's size."""
Detections = dict[str, Tensor]
"""``boxes`` float32 ``(K, 4)`` xyxy [px] within the image, ``scores`` ``(K,)`` in descending order, ``labels`` int64
``(K,)`` from 0, and for a detector with masks ``masks`` ``(K, 1, M, M)``: probabilities on a grid over each box."""


@dataclass(frozen=True)
class Limits:
    """Which of a detector's boxes are kept.

    Args:
        score_threshold: Lowest score of a box; by default the detector's.
        nms_threshold: Highest IoU of two boxes of one class; by default the detector's. 1 keeps all.
        max_detections: Maximum number of boxes per image; those with the highest scores are kept.

    Raises:
        ValueError: A number is out of range.
    """

    score_threshold: float | None = None
    nms_threshold: float | None = None
    max_detections: int = 100

    def __post_init__(self) -> None:
        score, nms, count = self.score_threshold, self.nms_threshold, self.max_detections
        if (score is not None and not 0 <= score < 1) or (nms is not None and not 0 < nms <= 1) or count < 1:
            raise ValueError(
                f"score_threshold is {score}, nms_threshold {nms}, max_detections {count}; expected at least 0 and "
                "below 1, above 0 and at most 1, and at least 1."
            )


class Detector(nn.Module):
    """A head that finds objects on the maps of a backbone.

    Attributes:
        has_masks: Whether it is trained on masks and predicts them.
        unread: Indices of the maps that it does not read.
    """

    has_masks: bool = False
    unread: Sequence[int] = ()

    @property
    def raw_outputs(self) -> list[nn.Module]:
        """The modules whose outputs must be finite: those that predict scores and boxes, before any are dropped."""
        return [self]

    def forward(
        self, maps: list[Tensor], padded: Size, sizes: list[Size], targets: list[Target] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """:meth:`losses` with targets, :meth:`detect` without."""
        if targets is None:
            return self.detect(maps, padded, sizes)
        return self.losses(maps, padded, sizes, targets)

    def losses(self, maps: list[Tensor], padded: Size, sizes: list[Size], targets: list[Target]) -> dict[str, Tensor]:
        """The losses of a batch; training minimises their sum.

        Args:
            maps: Maps of the backbone ``(B, C, rows, columns)``.
            padded: Height and width of the batch [px].
            sizes: Height and width of each image, which lies in the upper left corner [px].
            targets: Objects of each image.
        """
        raise NotImplementedError

    def detect(self, maps: list[Tensor], padded: Size, sizes: list[Size]) -> list[Detections]:
        """The detections in each image; arguments as in :meth:`losses`."""
        raise NotImplementedError
