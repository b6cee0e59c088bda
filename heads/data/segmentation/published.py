"""The base of datasets that are read in their published layout."""

from pathlib import Path
from typing import Any, ClassVar

from ..classes import ClassSpec
from ..layouts import base_folder, warn_of_count
from .dataset import Split
from .module import SegmentationDataModule


class PublishedSegmentation(SegmentationDataModule):
    """A public dataset; a subclass defines where its files are.

    The number of images is compared with the published one. A difference gives a warning, not an error, because a part
    of a dataset is useful for trials; the result file records both numbers.

    Args:
        classes: As in :class:`SegmentationDataModule`.
        root: Folder of the dataset, or one that holds its published folders.
        img_size: As in :class:`SegmentationDataModule`.
        shared: As in :class:`SegmentationDataModule`.

    Raises:
        ValueError: Files are missing.
    """

    top: ClassVar[str]  # leading folders of the published archive
    markers: ClassVar[tuple[str, ...]]  # folders below them; one of these identifies the dataset
    layout: ClassVar[str]  # the files below them, for errors
    counts: ClassVar[dict[str, int]]  # published number of images of each list

    def __init__(
        self, classes: ClassSpec, root: str | None = None, img_size: tuple[int, int] = (512, 512), **shared: Any
    ) -> None:
        super().__init__(classes, root, img_size, **shared)
        self.test_split = "val"  # the labels of test splits are not public
        self.protocol["images_published"] = self.count_of("val")
        self._counted: set[str] = set()

    def split(self, name: str) -> Split:
        """The pairs of train or val; test is val.

        Raises:
            ValueError: ``root`` is not set, or files are missing.
        """
        name = "val" if name == "test" else name
        try:
            split = self.published(name, base_folder(self.root, self.top, self.markers))
        except ValueError as error:
            raise ValueError(f"{error}\nExpected below data.root:\n{self.layout}") from error
        if name not in self._counted:
            self._counted.add(name)
            what, where = f"{type(self).__name__} {self.list_of(name)}", str(split.pairs[0][0].parent)
            warn_of_count(what, len(split.pairs), where, self.count_of(name))
        return split

    def list_of(self, name: str) -> str:
        """Published name of the list of train or val."""
        return name

    def count_of(self, name: str) -> int:
        """Published number of images of train or val."""
        return self.counts[self.list_of(name)]

    def published(self, name: str, base: Path) -> Split:
        """The pairs of train or val below the dataset's folder.

        Raises:
            ValueError: Files are missing.
        """
        raise NotImplementedError
