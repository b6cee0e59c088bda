"""Pairs of image and label map as samples, for any dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from ...geometry.record import Geometry
from ..classes import IGNORE
from ..image_folder import described, resized
from ..images import CorruptImageError, read_image, read_labels
from ..label_sizes import other_size
from ..sampling import EpochDataset, Sample, SampleKey, sample_seed
from ..sizes import Size

LABELS = (".png",)
"""Suffixes of label maps."""


@dataclass(frozen=True)
class LabelValues:
    """What the values of a label file mean.

    Args:
        classes: Label value of each class, in the order of the classes.
        ignored: Label values that are ignored; 255 is always among them.
    """

    classes: Sequence[int]
    ignored: Sequence[int] = ()

    @property
    def all_ignored(self) -> list[int]:
        """Label values that become 255, sorted."""
        return sorted({IGNORE, *self.ignored})

    def read(self, path: Path) -> Tensor:
        """Class indices of a label file, int64 ``(H, W)``; 255 where it is ignored.

        Raises:
            ValueError: The file cannot be read, or has a value that is neither a class nor ignored.
        """
        labels = read_labels(path)
        meaning = torch.full((IGNORE + 1,), -1, dtype=torch.int64)
        meaning[list(self.classes)] = torch.arange(len(self.classes))
        meaning[self.all_ignored] = IGNORE
        unknown = [value for value in values_in(labels) if meaning[value] < 0]
        if unknown:
            raise ValueError(
                f"{path} has label values {unknown[:10]}; expected classes {_ranges(self.classes)}, or "
                f"{self.all_ignored} to ignore. Check that it belongs to this dataset; with SegmentationFolder add "
                "them to data.ignore_values or to data.classes."
            )
        return meaning[labels.long()]


def values_in(labels: Tensor) -> list[int]:
    """The values from 0 to 255 that occur in a label map, sorted.

    Args:
        labels: uint8 or int64, of any shape.
    """
    counts = torch.bincount(labels.flatten(), minlength=IGNORE + 1)
    return counts.nonzero().flatten().tolist()


def _ranges(values: Sequence[int]) -> str:
    """As in ``1 to 150``, or ``7 to 8, 11 to 13``."""
    starts = [v for v in values if v - 1 not in values]
    ends = [v for v in values if v + 1 not in values]
    return ", ".join(f"{start} to {end}" for start, end in zip(starts, ends, strict=True))


@dataclass(frozen=True)
class Split:
    """Paths of images and labels, and what the labels mean."""

    pairs: list[tuple[Path, Path]]
    values: LabelValues


class SegmentationDataset(EpochDataset):
    """Pairs of image and label; see the seam's batch keys in the README.

    ``classes_in`` of a sample is the set of classes in its whole label, with 255 for ignored pixels; augmentation may
    have cut some of them out of ``mask``.

    With ``skip_corrupt`` a damaged file does not stop a run, and batches keep their size, so that several processes
    stay in step. In training the next readable pair replaces it, which depends on the files alone; at test time an
    empty image replaces it, whose pixels are all ignored. ``skipped`` of the sample gives the reasons, one line per
    pair.

    Args:
        split: Images, labels and what they mean.
        size: What test images are resized to: height and width; or the short side, with the aspect ratio kept [px].
        transform: Augmentation of image and label together; ``None`` at test time.
        seed: Seed of the augmentation.
        skip_corrupt: Skip damaged files.
    """

    def __init__(
        self,
        split: Split,
        size: Size | int,
        transform: v2.Transform | None = None,
        seed: int = 0,
        skip_corrupt: bool = False,
    ) -> None:
        self.pairs = split.pairs
        self.values = split.values
        self.size = size
        self.transform = transform
        self.seed = seed
        self.skip_corrupt = skip_corrupt

    def __len__(self) -> int:
        return len(self.pairs)

    def sample(self, key: SampleKey) -> Sample:
        """A pair, augmented in training."""
        if not self.skip_corrupt:
            return self._sample(key, key[1])
        skipped: list[str] = []
        for step in range(len(self) if self.transform else 1):
            try:
                return self._sample(key, (key[1] + step) % len(self)) | {"skipped": skipped}
            except CorruptImageError as error:
                skipped.append(str(error))
        if self.transform:
            raise ValueError(f"None of the {len(self)} pairs can be read, not even this one: {skipped[0]}")
        return self._empty(self.pairs[key[1]][0]) | {"skipped": skipped}

    def _sample(self, key: SampleKey, index: int) -> Sample:
        """The pair at ``index``, augmented with the seed of ``key``."""
        path, mask_path = self.pairs[index]
        image, mask = read_image(path), self.values.read(mask_path)
        if image.shape[1:] != mask.shape:
            size = (image.shape[1], image.shape[2])
            raise ValueError(other_size(str(mask_path), (mask.shape[0], mask.shape[1]), path, size))
        found = {"classes_in": frozenset(values_in(mask))}
        if self.transform is None:
            return resized(path, image, self.size) | {"mask": mask} | found
        geometry = Geometry.of((image.shape[1], image.shape[2]))
        with sample_seed(self.seed, key):
            image, mask, geometry = self.transform(tv_tensors.Image(image), tv_tensors.Mask(mask), geometry)
        image, mask = image.as_subclass(Tensor), mask.as_subclass(Tensor)
        return described(path, image, geometry) | {"mask": mask} | found

    def _empty(self, path: Path) -> Sample:
        """A black image with every pixel ignored."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        mask = torch.full((height, width), IGNORE)
        return described(path, image, Geometry.of((height, width))) | {"mask": mask, "classes_in": frozenset()}
