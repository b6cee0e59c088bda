"""What every detector is to a task: losses in training, boxes with scores otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

Size = tuple[int, int]
Target = dict[str, Tensor]
"""``boxes`` float32 ``(N, 4)`` xyxy [px] within the image, ``labels`` int64 ``(N,)`` from 0, and for a detector with
masks ``masks`` bool ``(N, H, W)`` at the image's size."""
Found = dict[str, Tensor]
"""``boxes`` float32 ``(K, 4)`` xyxy [px] within the image, ``scores`` ``(K,)`` from the highest down, ``labels`` int64
``(K,)`` from 0, and of a detector with masks ``masks`` ``(K, 1, M, M)``: probabilities on a grid over each box."""


@dataclass(frozen=True)
class Limits:
    """What of a detector's boxes is kept.

    Args:
        score_threshold: Lowest score of a box; the detector's own by default.
        nms_threshold: Highest IoU of two boxes of one class; the detector's own by default. 1 keeps all.
        max_detections: Boxes per image, those with the highest scores.

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
        has_masks: Whether it is trained on masks and finds them.
        unread: Places of the maps that it does not look at.
    """

    has_masks: bool = False
    unread: Sequence[int] = ()

    def forward(
        self, maps: list[Tensor], padded: Size, sizes: list[Size], targets: list[Target] | None = None
    ) -> dict[str, Tensor] | list[Found]:
        """:meth:`losses` where there are targets, :meth:`detect` where there are none."""
        if targets is None:
            return self.detect(maps, padded, sizes)
        return self.losses(maps, padded, sizes, targets)

    def losses(self, maps: list[Tensor], padded: Size, sizes: list[Size], targets: list[Target]) -> dict[str, Tensor]:
        """The losses of a batch, whose sum is trained on.

        Args:
            maps: ``(B, C, rows, columns)`` of the backbone.
            padded: Height and width of the batch [px].
            sizes: Height and width of each image, in its upper left corner [px].
            targets: What is in each image.
        """
        raise NotImplementedError

    def detect(self, maps: list[Tensor], padded: Size, sizes: list[Size]) -> list[Found]:
        """What is found in each image; the arguments are those of :meth:`losses`."""
        raise NotImplementedError
