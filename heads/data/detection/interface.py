"""What detection reads of a data module besides its batches."""

from typing import Protocol

from .annotations import Annotations


class DetectionData(Protocol):
    """A data module for detection.

    Attributes:
        lvis: Whether each image is annotated for some classes only, as in LVIS.
        masks: Whether the batches have ``instance_masks``.
    """

    lvis: bool
    masks: bool

    def truth(self, split: str) -> Annotations:
        """The ground truth of val or test, whose image ids are those of the batches."""
