"""Boxes and masks of a split in COCO's format: the ground truth for training and scoring."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

Entry = dict[str, Any]
"""An image, a category or an annotation, with the keys that COCO gives it."""


@dataclass(frozen=True)
class Annotations:
    """Images, categories and annotations of a split, already checked.

    Args:
        source: File or folder they were read from, for messages.
        images: ``id`` (int), ``file_name``, ``width``, ``height`` [px]; for LVIS also ``neg_category_ids`` and
            ``not_exhaustive_category_ids``.
        categories: ``id`` (int), ``name``; for LVIS also ``frequency`` (r, c or f). Sorted by id: the index of a
            category is its class label.
        annotations: ``id`` (int, never 0, which scoring takes for no match), ``image_id``, ``category_id``, ``bbox``
            (left, top, width, height) [px], at most 1 px beyond its image, ``area`` [px2], ``iscrowd`` (0 or 1), for
            objects with a mask ``segmentation`` (polygons or RLE), and for VOC's difficult objects ``difficult`` (1).
        skipped: One line for each invalid entry that was skipped.
    """

    source: str
    images: list[Entry]
    categories: list[Entry]
    annotations: list[Entry]
    skipped: list[str] = field(default_factory=list)

    @property
    def category_ids(self) -> list[int]:
        """Id of each class, in the order of the labels."""
        return [category["id"] for category in self.categories]

    @property
    def names(self) -> list[str]:
        """Name of each class, in the order of the labels."""
        return [category["name"] for category in self.categories]

    def coco(self) -> dict[str, list[Entry]]:
        """The split as the content of a COCO json."""
        return {"images": self.images, "categories": self.categories, "annotations": self.annotations}

    def by_image(self) -> dict[int, list[Entry]]:
        """Annotations of each image by its id; an image without any has an empty list."""
        found: dict[int, list[Entry]] = defaultdict(list)
        for annotation in self.annotations:
            found[annotation["image_id"]].append(annotation)
        return {image["id"]: found.get(image["id"], []) for image in self.images}
