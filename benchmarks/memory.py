"""Peak resident set of a piece of work (Linux); the process should do nothing else before or after."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def peak_growth() -> Iterator[list[int]]:
    """A list that afterwards holds the peak growth of the resident set in bytes."""
    grown: list[int] = []
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, VmHWM
    before = _status("VmRSS")
    yield grown
    grown.append(_status("VmHWM") - before)


def _status(field: str) -> int:
    """A field of /proc/self/status in bytes: VmRSS is the current resident set, VmHWM its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(field)))
