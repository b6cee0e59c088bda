"""A lock that allows one training run at a time in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only

_NAME = ".lock"
_PATIENCE = 10  # seconds; the worker processes of a killed run hold its lock until they notice, within 5 s


def first_process() -> bool:
    """Whether this is the first process of a distributed run; works before the trainer exists."""
    return getattr(rank_zero_only, "rank", None) in (None, 0)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a run folder for one training run; the system frees the lock when the process ends, even if it is killed.

    Args:
        folder: The folder of the run; created if missing.

    Raises:
        ValueError: Another run trains in this folder, or it is not a folder.
        OSError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"Not a directory: {folder}. Pass another one with --trainer.default_root_dir DIR.") from error
    lock = FileLock(folder / _NAME)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout as error:
        raise ValueError(
            f"Another run trains in {folder}. Wait until it ends, or start this one elsewhere with "
            "--trainer.default_root_dir DIR."
        ) from error
    except NotImplementedError:  # a network file system without locks
        yield
        return
    try:
        yield
    finally:
        lock.release()
