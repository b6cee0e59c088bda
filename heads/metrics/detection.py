"""Detections of a split, collected from all processes and scored once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torchmetrics import Metric

from ..data.detection.annotations import Annotations, Entry
from ..training.distributed import from_first, gather_objects
from .coco_scores import CocoScores, Kind, Scorer, coco_scores


@dataclass(frozen=True, eq=False)  # hashable, as torchmetrics hashes a metric's state
class _Image:
    """Detections of an image: entries of COCO's result format, empty if nothing was detected."""

    id: int
    entries: list[Entry]


class DetectionResults(Metric):
    """Detections by image. :func:`scores_of` scores them with the ground truth, which is not part of the state."""

    full_state_update = True
    images: list[_Image]

    def __init__(self) -> None:
        super().__init__(sync_on_compute=False)  # torchmetrics syncs only tensors; see gathered
        self.add_state("images", [], dist_reduce_fx=None)

    def update(self, image_id: int, entries: Sequence[Entry]) -> None:
        """Count an image as evaluated.

        Args:
            image_id: Id of the image.
            entries: Its detections in descending order of score; may be empty.

        Raises:
            ValueError: An entry belongs to another image.
        """
        for entry in entries:
            if entry.get("image_id") != image_id:
                raise ValueError(
                    f"A result of image {image_id} has image_id {entry.get('image_id')}; expected {image_id}."
                )
        self.images.append(_Image(image_id, list(entries)))

    def gathered(self) -> tuple[list[Entry], list[int]]:
        """Entries of all processes and the images that they evaluated, both by image id, each image once.

        For an image that was evaluated twice, the first entries of the lowest rank count. The order, which decides
        between equal scores, thus does not depend on how the images are distributed. All processes must call this.
        """
        images: dict[int, list[Entry]] = {}
        for seen in gather_objects([(image.id, image.entries) for image in self.images]):
            for image_id, entries in seen:
                images.setdefault(image_id, entries)
        return [entry for image_id in sorted(images) for entry in images[image_id]], sorted(images)

    def compute(self) -> tuple[list[Entry], list[int]]:
        """The same as :meth:`gathered`."""
        return self.gathered()

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = ()) -> nn.Module:
        """Skip the entries when the task moves to another device."""
        return super()._apply(fn, exclude_state=(*exclude_state, "images"))


def scores_of(
    gathered: tuple[list[Entry], list[int]],
    truth: Annotations,
    *,
    kinds: Sequence[Kind] = ("bbox",),
    scorer: Scorer = "pycocotools",
    lvis: bool = False,
) -> CocoScores:
    """The scores of all processes' results, computed by the first process for all. All processes must call this.

    Args:
        gathered: What :meth:`DetectionResults.gathered` returns.
        truth: The annotations, as in their file.
        kinds: As in :func:`coco_scores`.
        scorer: As in :func:`coco_scores`.
        lvis: As in :func:`coco_scores`.

    Raises:
        ValueError: As in :func:`coco_scores`; in every process.
    """
    return from_first(lambda: coco_scores(truth, *gathered, kinds=kinds, scorer=scorer, lvis=lvis))
