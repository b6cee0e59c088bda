"""Fuzz one reader in its own process, with bounded memory, and name the input that ends or hangs it."""

import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .outcomes import SECONDS, Outcomes, Reader, fuzz

_BYTES = 10**9
_PATIENCE = 6 * SECONDS  # for one input, or for the start: imports and the first files


@dataclass
class Measured:
    """Outcomes, and the growth of peak memory [bytes] over all inputs after the first."""

    outcomes: Outcomes = field(default_factory=Outcomes)
    grown: int = 0


def measure(reader: Callable[[Path], Reader], label: str, count: int, seed: int) -> Measured:
    """Fuzz a reader in a new process."""
    context = multiprocessing.get_context("spawn")
    results, number = context.Queue(), context.Value("i", -1)
    process = context.Process(target=_in_a_process, args=(reader, label, count, seed, results, number))
    process.start()
    last, since = -1, time.monotonic()
    while process.is_alive() and results.empty() and time.monotonic() - since < _PATIENCE:
        process.join(0.2)
        if number.value != last:
            last, since = number.value, time.monotonic()
    if results.empty():
        process.kill()
        process.join()
        return Measured(Outcomes(foreign=1, wrong=[f"{label} {last}: no answer, exit status {process.exitcode}"]))
    found: Measured = results.get()
    process.join(SECONDS)
    process.kill()
    return found


def _in_a_process(
    reader: Callable[[Path], Reader], label: str, count: int, seed: int, results: Any, number: Any
) -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 4 * _BYTES, resource.RLIM_INFINITY))
    folder = Path(tempfile.mkdtemp())
    try:
        made = reader(folder)
        for _ in fuzz(made, label, 1, seed):  # warm-up: imports and setup do not count
            pass
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for outcomes in fuzz(made, label, count, seed):
            number.value = outcomes.accepted + outcomes.refused + outcomes.foreign
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        if grown > _BYTES:
            outcomes.wrong.append(f"{label}: {grown / 1e6:.0f} MB")
        results.put(Measured(outcomes, grown))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
