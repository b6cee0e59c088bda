"""The number of CPU threads for a model."""

import os

import torch

_SMALL = 256  # channels; below it, the threads of a layer wait for each other longer than they compute


def choose_threads(width: int) -> None:
    """Use one thread for a small model, unless OMP_NUM_THREADS is set.

    A layer with few channels is computed before a second thread has started; on a busy machine both threads then spin
    while they wait for each other. Large models keep torch's choice.

    Args:
        width: Channels of the backbone's feature maps.
    """
    if width < _SMALL and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
