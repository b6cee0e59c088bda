"""Order and augmentation as pure functions of (seed, epoch, index), so that a resumed run is the same run."""

import operator
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, DistributedSampler, SequentialSampler

_BLOCK = 64  # batches of all processes that are sorted together: few shapes are split, and order stays random

Sample = dict[str, Any]
SampleKey = tuple[int, int]
"""Epoch and index of a sample: what a dataset is asked for."""


class EpochDataset(Dataset[Sample]):
    """A data set of samples by (epoch, index); a plain index means that one of the present epoch.

    A plain index is what everybody else asks for: a DataLoader with torch's or Lightning's own samplers, torch's
    Subset, a loop over the data set, a notebook.

    Subclasses define ``__len__`` and ``sample``.

    Attributes:
        epoch: Tells the present epoch; 0 unless a data module sets it to that of its trainer.
    """

    epoch: Callable[[], int] = staticmethod(lambda: 0)

    def __len__(self) -> int:
        raise NotImplementedError

    def sample(self, key: SampleKey) -> Sample:
        """The sample of this epoch and index, where 0 <= index < len(self)."""
        raise NotImplementedError

    def __getitem__(self, key: int | SampleKey) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (self.epoch(), operator.index(key))
        if not -len(self) <= index < len(self):
            raise IndexError(f"Sample {index} is asked for; there are {len(self)}.")
        return self.sample((epoch, index % len(self)))

    def __getstate__(self) -> dict[str, Any]:
        """For a worker process that is not forked: the epoch by its number, without the trainer that tells it."""
        return self.__dict__ | {"epoch": partial(int, self.epoch())}


class OrderedSampler(SequentialSampler):
    """Yields (epoch, index) in order: what Lightning's ``overfit_batches`` leaves as it is.

    Args:
        data: The data set.
        epoch: Tells the present epoch.
    """

    def __init__(self, data: Sized, epoch: Callable[[], int]) -> None:
        super().__init__(data)
        self.epoch_now = epoch

    def __iter__(self) -> Iterator[SampleKey]:  # type: ignore[override]  # torch's yields the index alone
        epoch, order = self.epoch_now(), super().__iter__()
        return ((epoch, index) for index in order)


class EpochSampler(DistributedSampler[SampleKey]):
    """Yields (epoch, index), each process its share.

    The epoch is asked for when iteration starts. Lightning's ``set_epoch`` would come too late: when a run is resumed,
    its workers fetch the first batches before it is called, and would fetch those of epoch 0.

    Where the images do not divide by the processes, training leaves out the last ones of the epoch's order, so that all
    processes take the same number of steps; measuring gives some processes one image more. Lightning's own samplers
    would repeat images and count them twice. That this is a DistributedSampler keeps Lightning from adding one.

    With ``aspect_ratios`` the images of a training batch are of like shape, in all processes at once, so that little of
    a batch is padding: the epoch's order is cut into blocks of many batches, each block is sorted by shape and cut into
    batches, and all batches are shuffled. Every image still comes once, and which ones meet differs in each epoch.

    Args:
        data: The dataset.
        seed: Seed of the run.
        epoch: Tells the present epoch.
        training: Whether to shuffle, anew in each epoch, and to give all processes the same number.
        rank: Number of this process.
        world_size: How many processes there are.
        aspect_ratios: Height over width of each image, to make training batches of like shape.
        batch_size: Images of a batch in one process; needed with ``aspect_ratios``.

    Raises:
        ValueError: A process would have nothing to train on.
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
    """The same images such that each ``batch`` of them is of like shape; what fills no batch stays at the end."""
    full = len(order) // batch * batch
    blocks = [order[start:full][: _BLOCK * batch] for start in range(0, full, _BLOCK * batch)]
    ordered = [block[np.argsort(aspect_ratios[block], kind="stable")] for block in blocks]
    batches = np.concatenate([order[:0], *ordered]).reshape(-1, batch)
    return np.concatenate([rng.permutation(batches).ravel(), order[full:]])


def mixed_seed(*key: int) -> int:
    """One seed from several numbers, such that nearby keys give unrelated random numbers."""
    state = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return int(state[0]) << 32 | int(state[1])


@contextmanager
def sample_seed(seed: int, key: SampleKey) -> Iterator[None]:
    """Within it, torch's random numbers depend on (seed, epoch, index) alone; afterwards they go on as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mixed_seed(seed, *key))
        yield
