"""What a reader does with damaged files: it must read them as their library does, or raise a ValueError with the name.

Neither may take more than 10 s; ``processes`` bounds the memory.
"""

import contextlib
import random
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

SECONDS = 10


class Reader(Protocol):
    """A reader with its own small files. An optional ``library`` reads the same with the format's own library."""

    name: str  # what every error must contain: the name of the file or folder

    def damage(self, rng: random.Random) -> None:
        """Write damaged files in place of the last ones."""

    def read(self) -> Any:
        """Read them."""


@dataclass
class Outcomes:
    """Counts of all inputs, and a line for each failure."""

    accepted: int = 0
    refused: int = 0
    foreign: int = 0  # exceptions other than ValueError
    slowest: float = 0.0  # [s]
    wrong: list[str] = field(default_factory=list)


def fuzz(reader: Reader, label: str, count: int, seed: int) -> Iterator[Outcomes]:
    """Damage and read ``count`` times; yields the outcomes so far before each input, and at the end."""
    found = Outcomes()
    for number in range(count):
        yield found
        reader.damage(random.Random(f"{label} {seed} {number}"))
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrong = list(_read(reader, found))
            seconds = time.perf_counter() - begin
            found.slowest = max(found.slowest, seconds)
            wrong += [f"{seconds:.1f} s"] * (seconds > SECONDS)
        found.wrong += [f"{label} {number}: {what}" for what in wrong]
    yield found


def _read(reader: Reader, found: Outcomes) -> Iterator[str]:
    """Read once; yields what is wrong."""
    try:
        with open("/dev/null", "w") as nowhere, contextlib.redirect_stdout(nowhere):
            content = reader.read()
    except KeyboardInterrupt:
        raise
    except ValueError as error:
        found.refused += 1
        if reader.name not in str(error):
            yield f"an error without {reader.name}: {str(error)[:200]}"
    except BaseException as error:
        found.foreign += 1
        yield f"{type(error).__name__}: {str(error)[:200]}"
    else:
        found.accepted += 1
        yield from _contradictions(reader, content)


def _contradictions(reader: Any, found: Any) -> Iterator[str]:
    """Disagreements with the format's own library."""
    if not hasattr(reader, "library"):
        return
    try:
        theirs = reader.library()
    except Exception as error:
        yield f"read, but refused by its library ({type(error).__name__}: {str(error)[:200]})"
        return
    if theirs is not None and not _same(theirs, found):
        yield "read differently by its library"


def _same(theirs: Any, ours: Any) -> bool:
    return repr(theirs) == repr(ours) or sorted(map(repr, theirs.items())) == sorted(map(repr, ours.items()))
