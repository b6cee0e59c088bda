"""One training run at a time in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only

_NAME = ".lock"
_PATIENCE = 10  # seconds: the worker processes of a killed run hold its lock until they notice, after at most 5


def first_process() -> bool:
    """Whether this is the first of the processes that train together, also before the trainer is made."""
    return getattr(rank_zero_only, "rank", None) in (None, 0)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder for one training run; the system frees it when the process ends, however it ends.

    Args:
        folder: The folder of the run; it is made if it is missing.

    Raises:
        ValueError: Another run trains in this folder, or it is no folder.
        OSError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"Not a directory: {folder}. Pass another place by --trainer.default_root_dir DIR.") from error
    lock = FileLock(folder / _NAME)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout as error:
        raise ValueError(
            f"Another run trains in {folder}. Wait for its end, or start this one elsewhere by "
            "--trainer.default_root_dir DIR."
        ) from error
    except NotImplementedError:  # a network file system without locks
        yield
        return
    try:
        yield
    finally:
        lock.release()
