"""Temporary names for files being written, and removal of the partial files of killed processes."""

import hashlib
import os
import shutil
import socket
from functools import cache
from itertools import count
from pathlib import Path

# a process id is valid on its own machine only
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
_PREFIX = f".part-{_HOST}-"
_LONGEST_SUFFIX = 16
_numbers = count()


def partial_beside(path: Path) -> Path:
    """A temporary name in the folder of ``path``, to write to until the content is complete.

    It keeps the suffix of ``path``, by which some writers choose the format, and it is short, so that it fits wherever
    ``path`` fits. Partial files of dead processes of this machine are removed from the folder first.

    Args:
        path: The final path. Its folder must exist.

    Raises:
        OSError: The folder cannot be read, or the name is too long for it.
    """
    os.stat(path.parent)
    check_name(path)
    _remove_leftovers(path.parent.resolve(), os.getpid())
    suffix = path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""
    return path.with_name(f"{_PREFIX}{os.getpid()}-{next(_numbers)}{suffix}")


def check_name(path: Path) -> None:
    """Refuse a name that is too long for the file system, before the work is done.

    Args:
        path: The file. Its folder may be missing.

    Raises:
        ValueError: The name is too long.
    """
    folder = next((folder for folder in path.absolute().parents if folder.is_dir()), Path("/"))
    longest = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    for name in (path.name, *(part.name for part in path.absolute().parents)):
        if len(os.fsencode(name)) > longest:
            raise ValueError(
                f"The name {name[:40]}... has {len(os.fsencode(name))} bytes; expected at most {longest}. Choose a "
                "shorter one."
            )


@cache  # once per folder and process: a folder of predictions has thousands of files
def _remove_leftovers(folder: Path, process: int) -> None:
    for path in folder.glob(f"{_PREFIX}*"):
        owner = path.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and int(owner) != process and not _alive(int(owner)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's process, or not a process id
        return True
    return True
