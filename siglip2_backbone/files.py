"""Atomic writes of files and directories, syncing to disk, and file hashes."""

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
    """The process's umask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


# errors of file systems that cannot sync a folder; any other error is a disk failure
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR}


def sync(path: Path) -> None:
    """Flush to disk: the bytes of a file, or the names in a folder.

    A full disk or an exceeded quota may raise only here, after every write has succeeded.

    Raises:
        OSError: The flush fails.
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
    """Refuse a path that is already in use.

    Raises:
        ValueError: It is a file, or a directory that is not empty.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} exists and is not an empty directory; nothing is overwritten. Pass another path.")


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A temporary directory beside ``path`` to write files to; it becomes ``path`` if nothing fails.

    Raises:
        ValueError: ``path`` is already in use, or the directory cannot be written.
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
        raise ValueError(f"{path} cannot be written ({error}). Pass another path, or free some space.") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it replaces ``path`` if nothing fails.

    Args:
        path: The file.
        durable: Wait until the file is on disk. Not needed for one of thousands of files, such as images.

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
        raise ValueError(f"{path} cannot be written ({error}). Pass another path, or free some space.") from error
    finally:
        if partial is not None:
            with suppress(OSError):
                partial.unlink()
