"""What public data sets of detection have in common that are read in the layout they are published in."""

from pathlib import Path
from typing import Any, ClassVar

from ..classes import ClassSpec
from ..layouts import base_folder, warn_of_count
from .annotations import Annotations
from .module import DetectionDataModule


class PublishedDetection(DetectionDataModule):
    """A public data set; a subclass says where its files are.

    A part of a data set is a warning, not an error, as with
    :class:`heads.data.segmentation.published.PublishedSegmentation`.

    Args:
        classes: As in :class:`DetectionDataModule`.
        root: Folder of the data set, or one that holds its published folders.
        img_size: As in :class:`DetectionDataModule`.
        shared: As in :class:`DetectionDataModule`.

    Raises:
        ValueError: Files are missing or wrong.
    """

    own: ClassVar[bool] = False
    top: ClassVar[str]  # the folders that the published archive begins with
    markers: ClassVar[tuple[str, ...]]  # folders below them; by one of these they are known
    layout: ClassVar[str]  # what is below them, for errors
    counts: ClassVar[dict[str, int]]  # images of each split

    def __init__(
        self, classes: ClassSpec | None, root: str | None = None, img_size: tuple[int, int] = (512, 512), **shared: Any
    ) -> None:
        super().__init__(classes, root, img_size, **shared)
        self._counted: set[str] = set()

    def annotations(self, name: str) -> Annotations:
        """The images and objects of a split.

        Raises:
            ValueError: ``root`` is not set, or files are missing or wrong.
        """
        try:
            found = self.published(name, self.base())
        except ValueError as error:
            raise ValueError(f"{error}\nExpected below data.root:\n{self.layout}") from error
        if name not in self._counted:
            self._counted.add(name)
            warn_of_count(f"{type(self).__name__} {name}", len(found.images), found.source, self.count_of(name))
        return found

    def describe(self, split: str) -> dict[str, Any]:
        """The base description with the published number of images."""
        return super().describe(split) | {"images_published": self.count_of(self.splits[split])}

    def count_of(self, name: str) -> int:
        """How many images a split must have."""
        return self.counts[name]

    def base(self) -> Path:
        """The data set's own folder.

        Raises:
            ValueError: ``root`` is not set, or is not it.
        """
        return base_folder(self.root, self.top, self.markers)

    def published(self, name: str, base: Path) -> Annotations:
        """A split below the data set's own folder.

        Raises:
            ValueError: Files are missing or wrong.
        """
        raise NotImplementedError
