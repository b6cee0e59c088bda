"""Base of the public detection datasets, which are read in their published layout."""

from pathlib import Path
from typing import Any, ClassVar

from ..classes import ClassSpec
from ..layouts import base_folder, warn_of_count
from .annotations import Annotations
from .module import DetectionDataModule


class PublishedDetection(DetectionDataModule):
    """A public dataset; a subclass defines where its files are.

    An incomplete dataset is a warning, not an error, as in
    :class:`heads.data.segmentation.published.PublishedSegmentation`.

    Args:
        classes: As in :class:`DetectionDataModule`.
        root: Folder of the dataset, or a folder that holds its published folders.
        img_size: As in :class:`DetectionDataModule`.
        shared: As in :class:`DetectionDataModule`.

    Raises:
        ValueError: Files are missing or wrong.
    """

    own: ClassVar[bool] = False
    top: ClassVar[str]  # top-level folders of the published archive
    markers: ClassVar[tuple[str, ...]]  # folders below top; any of them identifies the dataset
    layout: ClassVar[str]  # expected files, for error messages
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
        """Published number of images of a split."""
        return self.counts[name]

    def base(self) -> Path:
        """The dataset's top folder.

        Raises:
            ValueError: ``root`` is not set, or does not hold the dataset.
        """
        return base_folder(self.root, self.top, self.markers)

    def published(self, name: str, base: Path) -> Annotations:
        """Read a split from the dataset's top folder.

        Raises:
            ValueError: Files are missing or wrong.
        """
        raise NotImplementedError
