"""Interleaved timing: every contestant once per round, so that a slow phase of the machine affects all of them."""

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch


def interleaved(
    contestants: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds of each contestant in each of ``rounds`` rounds, after ``warmup`` rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for i in range(warmup + rounds):
        for name in _rotated(list(contestants), i):
            contestant = contestants[name]
            _synchronize()
            start = time.perf_counter()
            contestant()
            _synchronize()
            if i >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(slower: list[float], faster: list[float]) -> float:
    """Median over the rounds of the ratio within a round: a slowdown of a whole round cancels out."""
    return median(a / b for a, b in zip(slower, faster, strict=True))


def _rotated(names: list[str], i: int) -> list[str]:
    """Rotate the order in each round: the predecessor affects caches and clock speeds."""
    return names[i % len(names) :] + names[: i % len(names)]


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device_name(device: str) -> str:
    """Name of the device, for a report."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"
