"""Order and augmentation as pure functions of (seed, epoch, index), so that a resumed run is the same run."""

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import Sampler

SampleKey = tuple[int, int]
"""Epoch and index of a sample: what a dataset is asked for."""


class EpochSampler(Sampler[SampleKey]):
    """Yields (epoch, index).

    The epoch is asked for when iteration starts. Lightning's ``set_epoch`` would come too late: when a run is resumed,
    its workers fetch the first batches before it is called, and would fetch those of epoch 0.

    Args:
        data: The dataset.
        seed: Seed of the run.
        epoch: Tells the present epoch.
        shuffle: Whether to shuffle, anew in each epoch.
    """

    def __init__(self, data: Sized, seed: int, epoch: Callable[[], int], *, shuffle: bool) -> None:
        self.length = len(data)
        self.seed = seed
        self.epoch = epoch
        self.shuffle = shuffle

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[SampleKey]:
        epoch = self.epoch()
        order = np.arange(self.length)
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
        return ((epoch, int(i)) for i in order)


@contextmanager
def sample_seed(seed: int, key: SampleKey) -> Iterator[None]:
    """Within it, torch's random numbers depend on (seed, epoch, index) alone; afterwards they go on as before."""
    state = np.random.SeedSequence([seed, *key]).generate_state(2, np.uint32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(state[0]) << 32 | int(state[1]))
        yield
