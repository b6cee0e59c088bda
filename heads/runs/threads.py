"""How many threads a model is worth."""

import os

import torch

_SMALL = 256  # channels; below it the threads of a layer wait for each other longer than they compute


def choose_threads(width: int) -> None:
    """Compute a small model in one thread, unless OMP_NUM_THREADS says otherwise.

    The work of a layer with few channels is done before a second thread has started; on a busy machine both threads
    then spin while they wait for each other. Large models keep torch's choice.

    Args:
        width: Channels of the backbone's maps.
    """
    if width < _SMALL and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
