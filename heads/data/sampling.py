"""Order and augmentation as pure functions of (seed, epoch, index), so that a resumed run is the same run."""

from collections.abc import Iterator, Sized
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import Sampler

SampleKey = tuple[int, int]
"""Epoch and index of a sample: what a dataset is asked for."""


class EpochSampler(Sampler[SampleKey]):
    """Yields (epoch, index); Lightning calls ``set_epoch`` before each epoch.

    Args:
        data: The dataset.
        seed: Seed of the run.
        shuffle: Whether to shuffle, anew in each epoch.
    """

    def __init__(self, data: Sized, seed: int, *, shuffle: bool) -> None:
        self.length = len(data)
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to sample."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[SampleKey]:
        order = np.arange(self.length)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return ((self.epoch, int(i)) for i in order)


@contextmanager
def sample_seed(seed: int, key: SampleKey) -> Iterator[None]:
    """Within it, torch's random numbers depend on (seed, epoch, index) alone; afterwards they go on as before."""
    state = np.random.SeedSequence([seed, *key]).generate_state(2, np.uint32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(state[0]) << 32 | int(state[1]))
        yield
