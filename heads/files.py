"""Files that appear whole or not at all, and their identity."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from siglip2_backbone.files import umask
from siglip2_backbone.partials import partial_beside


def file_sha256(path: Path) -> str:
    """Identity of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it takes the place of ``path`` if nothing fails.

    Raises:
        ValueError: The file cannot be written.
    """
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_beside(path)
        yield partial
        partial.chmod(0o666 & ~umask())  # safetensors writes files that only their owner can read
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be written ({error}). Pass another place, or make room there.") from error
    finally:
        if partial is not None:
            with suppress(OSError):
                partial.unlink()
