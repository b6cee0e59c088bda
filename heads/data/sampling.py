"""Order and augmentation as pure functions of (seed, epoch, index), so that a resumed run is the same run."""

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import DistributedSampler

SampleKey = tuple[int, int]
"""Epoch and index of a sample: what a dataset is asked for."""


class EpochSampler(DistributedSampler[SampleKey]):
    """Yields (epoch, index), each process its share.

    The epoch is asked for when iteration starts. Lightning's ``set_epoch`` would come too late: when a run is resumed,
    its workers fetch the first batches before it is called, and would fetch those of epoch 0.

    Where the images do not divide by the processes, training leaves out the last ones of the epoch's order, so that all
    processes take the same number of steps; measuring gives some processes one image more. Lightning's own samplers
    would repeat images and count them twice. That this is a DistributedSampler keeps Lightning from adding one.

    Args:
        data: The dataset.
        seed: Seed of the run.
        epoch: Tells the present epoch.
        training: Whether to shuffle, anew in each epoch, and to give all processes the same number.
        rank: Number of this process.
        world_size: How many processes there are.

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
    ) -> None:
        self.images = len(data)
        if training and self.images < world_size:
            raise ValueError(f"{self.images} images for {world_size} processes; expected one each. Use fewer devices.")
        self.seed = seed
        self.epoch_now = epoch
        self.training = training
        self.share = slice(rank, self.images // world_size * world_size if training else self.images, world_size)

    def __len__(self) -> int:
        return len(range(self.images)[self.share])

    def __iter__(self) -> Iterator[SampleKey]:
        epoch = self.epoch_now()
        order = np.arange(self.images)
        if self.training:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.images)
        return ((epoch, int(i)) for i in order[self.share])


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
