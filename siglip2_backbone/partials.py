"""Names for what is being written, and the removal of what killed processes have left half written."""

import hashlib
import os
import shutil
import socket
from functools import cache
from itertools import count
from pathlib import Path

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[
    :6
]  # a process id means something on its machine only
_PREFIX = f".part-{_HOST}-"
_LONGEST_SUFFIX = 16
_numbers = count()


def partial_beside(path: Path) -> Path:
    """A name in the folder of ``path`` to write under until the content is whole.

    It ends in the suffix of ``path``, by which some writers choose the format, and is short, so that every name that
    the file system takes can be written. What dead processes of this machine have left in the folder is removed first.

    Args:
        path: The final place. Its folder exists.

    Raises:
        OSError: The folder cannot be read, or the name is too long for it.
    """
    os.stat(path.parent)
    check_name(path)
    _remove_leftovers(path.parent.resolve(), os.getpid())
    suffix = path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""
    return path.with_name(f"{_PREFIX}{os.getpid()}-{next(_numbers)}{suffix}")


def check_name(path: Path) -> None:
    """Refuse a name that the file system would refuse once the work is done.

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


@cache  # once for a folder and process: a folder of predictions has thousands of files
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
    except (PermissionError, OverflowError):  # somebody else's, or no process id at all
        return True
    return True
