"""Files that appear whole or not at all, and their identity."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError

from siglip2_backbone.files import sync, umask
from siglip2_backbone.partials import partial_beside


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


def write_picture(picture: Image.Image, path: Path, **options: Any) -> None:
    """Write a picture in the format of the name's suffix.

    It is encoded in memory: where a disk takes only a part of the bytes, Pillow's encoders go on as if it had all.

    Args:
        picture: The picture.
        path: The file.
        **options: Of Pillow's encoder, such as ``quality``.

    Raises:
        ValueError: The file cannot be written.
    """
    with whole_file(path, durable=False) as partial:
        encoded = io.BytesIO()
        picture.save(encoded, Image.registered_extensions()[path.suffix.lower()], **options)
        partial.write_bytes(encoded.getbuffer())


def write_array(values: np.ndarray, path: Path) -> None:
    """Write a .npy file; encoded in memory, because numpy does not notice either that the last bytes are lost.

    Raises:
        ValueError: The file cannot be written.
    """
    with whole_file(path, durable=False) as partial:
        encoded = io.BytesIO()
        np.save(encoded, values, allow_pickle=False)
        partial.write_bytes(encoded.getbuffer())
