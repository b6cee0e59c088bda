"""Files and directories that appear whole or not at all, bytes that are on the disk, and the identity of a file."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from .partials import partial_beside


def umask() -> int:
    """The process's mask of permissions; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


# how file systems say that they cannot do this for a folder; anything else is a failure of the disk
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR}


def sync(path: Path) -> None:
    """Have the disk keep what was written: the bytes of a file, or the names in a folder.

    A full disk, or a quota on a server, may show itself only here, after every write has succeeded.

    Raises:
        OSError: The disk does not take it.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if not path.is_dir() or error.errno not in _NO_FOLDER_SYNC:
            raise


def refuse_occupied(path: Path) -> None:
    """Refuse a place where something is already.

    Raises:
        ValueError: It is a file, or a directory that is not empty.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} exists and is not an empty directory; nothing is overwritten. Pass another place.")


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A temporary directory beside ``path`` to write files to; it becomes ``path`` if nothing fails.

    Raises:
        ValueError: Something is there already, or the directory cannot be written.
    """
    path = path.resolve()
    refuse_occupied(path)
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_beside(path)
        partial.mkdir()
        yield partial
        for file in partial.iterdir():
            file.chmod(0o666 & ~umask())  # safetensors writes files that only their owner can read
            sync(file)
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be written ({error}). Pass another place, or make room there.") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """Identity of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it takes the place of ``path`` if nothing fails.

    Args:
        path: The file.
        durable: Wait until it is on the disk. One file of thousands, such as a picture, need not be waited for.

    Raises:
        ValueError: The file cannot be written.
    """
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_beside(path)
        yield partial
        partial.chmod(0o666 & ~umask())  # safetensors writes files that only their owner can read
        if durable:
            sync(partial)
        partial.replace(path)
        if durable:
            sync(path.parent)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be written ({error}). Pass another place, or make room there.") from error
    finally:
        if partial is not None:
            with suppress(OSError):
                partial.unlink()
