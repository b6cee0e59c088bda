"""Sampling order and augmentation as functions of (seed, epoch, index) alone, so that a resumed run is the same run."""

import operator
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, DistributedSampler, SequentialSampler

_BLOCK = 64  # batches of all processes that are sorted together: enough for like shapes, few enough to stay random

Sample = dict[str, Any]
SampleKey = tuple[int, int]
"""Epoch and index of a sample: the key of a dataset."""


class EpochDataset(Dataset[Sample]):
    """A dataset with the keys (epoch, index); a plain index means the current epoch.

    All other code uses plain indices: a DataLoader with torch's or Lightning's samplers, torch's Subset, a loop over
    the dataset, a notebook.

    Subclasses define ``__len__`` and ``sample``.

    Attributes:
        epoch: Returns the current epoch; 0 unless a data module sets it to that of its trainer.
        aspect_ratios: Height over width of each image, if training images keep their shape.
    """

    epoch: Callable[[], int] = staticmethod(lambda: 0)
    aspect_ratios: Sequence[float] | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    def sample(self, key: SampleKey) -> Sample:
        """The sample of this epoch and index, where 0 <= index < len(self)."""
        raise NotImplementedError

    def __getitem__(self, key: int | SampleKey) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (self.epoch(), operator.index(key))
        if not -len(self) <= index < len(self):
            raise IndexError(f"Sample {index} does not exist; there are {len(self)}.")
        return self.sample((epoch, index % len(self)))

    def __getstate__(self) -> dict[str, Any]:
        """The state for a worker process that is not forked: the epoch as a number, without the trainer."""
        return self.__dict__ | {"epoch": partial(int, self.epoch())}


class OrderedSampler(SequentialSampler):
    """Yields (epoch, index) in order; Lightning's ``overfit_batches`` does not replace it.

    Args:
        data: The dataset.
        epoch: Returns the current epoch.
    """

    def __init__(self, data: Sized, epoch: Callable[[], int]) -> None:
        super().__init__(data)
        self.epoch_now = epoch

    def __iter__(self) -> Iterator[SampleKey]:  # type: ignore[override]  # torch's sampler yields the index alone
        epoch, order = self.epoch_now(), super().__iter__()
        return ((epoch, index) for index in order)


class EpochSampler(DistributedSampler[SampleKey]):
    """Yields (epoch, index) for the share of one process.

    The epoch is read when iteration starts. Lightning's ``set_epoch`` would come too late: in a resumed run the workers
    fetch the first batches before it is called, and would fetch those of epoch 0.

    If the images do not divide by the processes, training leaves out the last ones of the epoch's order, so that all
    processes take the same number of steps; evaluation gives some processes one image more. Lightning's samplers would
    repeat images and count them twice. Lightning adds none to a DistributedSampler, which is why this is one.

    With ``aspect_ratios`` the images of a training batch have similar shapes, in all processes at once, which keeps the
    padding small: the epoch's order is cut into blocks of many batches, each block is sorted by aspect ratio and cut
    into batches, and all batches are shuffled. Every image still occurs once, and batches differ in each epoch.

    Args:
        data: The dataset.
        seed: Seed of the run.
        epoch: Returns the current epoch.
        training: Whether to shuffle in each epoch and give all processes the same number of images.
        rank: Rank of this process.
        world_size: Number of processes.
        aspect_ratios: Height over width of each image, for training batches of similar shapes.
        batch_size: Images per batch in one process; needed with ``aspect_ratios``.

    Raises:
        ValueError: A process would have no training image.
    """

    def __init__(
        self,
        data: Sized,
        seed: int,
        epoch: Callable[[], int],
        *,
        training: bool,
        rank: int = 0,
        world_size: int = 1,
        aspect_ratios: Sequence[float] | None = None,
        batch_size: int = 1,
    ) -> None:
        self.images = len(data)
        if training and self.images < world_size:
            raise ValueError(f"{self.images} images for {world_size} processes; expected one each. Use fewer devices.")
        self.seed = seed
        self.epoch_now = epoch
        self.training = training
        self.share = slice(rank, self.images // world_size * world_size if training else self.images, world_size)
        self.aspect_ratios = None if aspect_ratios is None else np.asarray(aspect_ratios)
        self.batch = batch_size * world_size  # of all processes

    def __len__(self) -> int:
        return len(range(self.images)[self.share])

    def __iter__(self) -> Iterator[SampleKey]:
        epoch = self.epoch_now()
        order = np.arange(self.images)
        if self.training:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(self.images)
            if self.aspect_ratios is not None:
                order = _by_shape(order, self.aspect_ratios, self.batch, rng)
        return ((epoch, int(i)) for i in order[self.share])


def _by_shape(
    order: NDArray[np.int64], aspect_ratios: NDArray[np.float64], batch: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The images, reordered so that each ``batch`` of them has similar shapes; an incomplete batch stays at the end."""
    full = len(order) // batch * batch
    blocks = [order[start:full][: _BLOCK * batch] for start in range(0, full, _BLOCK * batch)]
    ordered = [block[np.argsort(aspect_ratios[block], kind="stable")] for block in blocks]
    batches = np.concatenate([order[:0], *ordered]).reshape(-1, batch)
    return np.concatenate([rng.permutation(batches).ravel(), order[full:]])


def mixed_seed(*key: int) -> int:
    """One seed from several numbers; nearby keys give unrelated random numbers."""
    state = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return int(state[0]) << 32 | int(state[1])


@contextmanager
def sample_seed(seed: int, key: SampleKey) -> Iterator[None]:
    """Make torch's random numbers depend on (seed, epoch, index) alone; restore the generator's state at the end."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mixed_seed(seed, *key))
        yield
