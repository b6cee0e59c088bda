"""What data sets have in common that are read in the layout they are published in."""

from pathlib import Path
from typing import Any, ClassVar

from ..classes import ClassSpec
from ..layouts import base_folder, warn_of_count
from .dataset import Split
from .module import SegmentationDataModule


class PublishedSegmentation(SegmentationDataModule):
    """A public data set; a subclass says where its files are.

    The published number of images is compared with what is there. A difference is a warning, not an error, because a
    part of a data set is good for trying things out; the result file names both numbers.

    Args:
        classes: As in :class:`SegmentationDataModule`.
        root: Folder of the data set, or one that holds its published folders.
        img_size: As in :class:`SegmentationDataModule`.
        shared: As in :class:`SegmentationDataModule`.

    Raises:
        ValueError: Files are missing.
    """

    top: ClassVar[str]  # the folders that the published archive begins with
    markers: ClassVar[tuple[str, ...]]  # folders below them; by one of these they are known
    layout: ClassVar[str]  # what is below them, for errors
    counts: ClassVar[dict[str, int]]  # images of each split

    def __init__(
        self, classes: ClassSpec, root: str | None = None, img_size: tuple[int, int] = (512, 512), **shared: Any
    ) -> None:
        super().__init__(classes, root, img_size, **shared)
        self.test_split = "val"  # the labels of test splits are not public
        self.protocol["images_published"] = self.counts["val"]
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
            self._count(self.count_of(name), split)
        return split

    def _count(self, name: str, split: Split) -> None:
        """Warn where a split is not as large as published."""
        what = f"{type(self).__name__} {name}"
        warn_of_count(what, len(split.pairs), str(split.pairs[0][0].parent), self.counts[name])

    def count_of(self, name: str) -> str:
        """Which of ``counts`` a split must have."""
        return name

    def published(self, name: str, base: Path) -> Split:
        """The pairs of train or val below the data set's own folder.

        Raises:
            ValueError: Files are missing.
        """
        raise NotImplementedError
