"""Detections of a split, collected in every process and scored once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torchmetrics import Metric

from ..data.detection.annotations import Annotations, Entry
from ..training.distributed import from_first, gather_objects
from .coco_scores import Kind, Scorer, Scores, coco_scores


@dataclass(frozen=True, eq=False)  # torchmetrics hashes what a metric holds
class _Image:
    """What was found in an image: entries of COCO's result format, none if it was looked at in vain."""

    id: int
    entries: list[Entry]


class DetectionResults(Metric):
    """What was found in which image. :func:`scores_of` scores it: that needs the truth, which no process moves here."""

    full_state_update = True
    images: list[_Image]

    def __init__(self) -> None:
        super().__init__(sync_on_compute=False)  # tensors would be needed; see gathered
        self.add_state("images", [], dist_reduce_fx=None)

    def update(self, image_id: int, entries: Sequence[Entry]) -> None:
        """Count an image as looked at.

        Args:
            image_id: Its id.
            entries: What was found in it, from the highest score down; may be empty.

        Raises:
            ValueError: An entry is of another image.
        """
        for entry in entries:
            if entry.get("image_id") != image_id:
                raise ValueError(
                    f"A result of image {image_id} has image_id {entry.get('image_id')}; expected its own."
                )
        self.images.append(_Image(image_id, list(entries)))

    def gathered(self) -> tuple[list[Entry], list[int]]:
        """Entries of all processes, and the images that they have looked at: both by image id, each image once.

        Of an image that was seen twice the lowest process's first entries count. So the order, which decides between
        equal scores, is the same however the images are spread. All processes must call this.
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
        """Moving the task to a device moves no entries."""
        return super()._apply(fn, exclude_state=(*exclude_state, "images"))


def scores_of(
    gathered: tuple[list[Entry], list[int]],
    truth: Annotations,
    *,
    kinds: Sequence[Kind] = ("bbox",),
    scorer: Scorer = "pycocotools",
    lvis: bool = False,
) -> Scores:
    """The scores of all processes' results; the first one computes them for all. All processes must call this.

    Args:
        gathered: What :meth:`DetectionResults.gathered` returns.
        truth: The annotations as their file has them.
        kinds: As in :func:`coco_scores`.
        scorer: As in :func:`coco_scores`.
        lvis: As in :func:`coco_scores`.

    Raises:
        ValueError: As in :func:`coco_scores`; in every process.
    """
    return from_first(lambda: coco_scores(truth, *gathered, kinds=kinds, scorer=scorer, lvis=lvis))
