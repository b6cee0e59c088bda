"""Memory-mapped reading of numpy arrays; every error names the file and its content."""

import warnings
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_REMEDY = "Save the array itself with numpy.save."
_PICKLE = "numpy.save(name, tensor.numpy())"


def read_array(path: Path, content: str) -> NDArray[np.generic]:
    """The array of a ``.npy`` file, read-only and memory-mapped, so that only the values in use are loaded.

    Nothing is unpickled. A header that declares more data than the file holds is refused before memory is allocated.

    Args:
        path: The file.
        content: Expected content, for messages, as in ``an array of depths``.

    Raises:
        ValueError: The file is missing, truncated or damaged, holds no array of numbers, or the array is empty.
    """
    if not path.is_file():
        raise ValueError(f"No file {path}; expected {content}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns about headers of Python 2
            values: NDArray[np.generic] = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # on a damaged header numpy passes on any error of its parser
        raise ValueError(
            f"{path} is not a readable array: {_what_it_is(path) or error}; expected {content}. {_REMEDY}"
        ) from error
    if values.dtype.kind not in "fiu":
        raise ValueError(f"{path} has dtype {values.dtype} and shape {values.shape}; expected {content}, as numbers.")
    if not values.size:
        raise ValueError(f"{path} has shape {values.shape}, which holds no value; expected {content}.")
    return values


def _what_it_is(path: Path) -> str:
    """What a file without an array is, judged by its first bytes; empty if they do not tell."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        return str(error)
    if not start:
        return "it is empty"
    if start.startswith(b"PK"):
        return _archive(path)
    if start.startswith(b"\x80"):
        return "it is a pickle, which is not opened because it can run code"
    if not start.startswith(b"\x93NUMPY"):
        return f"it begins with {start!r}, not with the signature of a .npy file"
    return ""


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except Exception:  # zipfile raises a dozen types on a damaged directory
        return "it is a damaged zip archive"
    if any(name.endswith("data.pkl") for name in names):
        return f"it was written by torch.save; if you trust it, load it and call {_PICKLE}"
    arrays = [name.removesuffix(".npy") for name in names if name.endswith(".npy")]
    if not arrays:
        return "it is a zip archive without arrays"
    return f"it is a numpy.savez archive with {', '.join(arrays[:5])}{', ...' if len(arrays) > 5 else ''}"
