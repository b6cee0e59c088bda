"""Arrays of numpy from files, memory-mapped; every error names the file and says what it is."""

import warnings
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_REMEDY = "Save the array itself with numpy.save."
_PICKLE = "numpy.save(name, tensor.numpy())"


def read_array(path: Path, content: str) -> NDArray[np.generic]:
    """The array of a ``.npy`` file, read-only and mapped into memory, so that only what is used of it is read.

    Nothing is unpickled, and a header that promises more than the file has is refused before memory is taken for it.

    Args:
        path: The file.
        content: What it is expected to hold, for messages, as in ``an array of depths``.

    Raises:
        ValueError: The file is missing, no array of numbers, cut off or damaged, or the array is empty.
    """
    if not path.is_file():
        raise ValueError(f"No file {path}; expected {content}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers of Python 2
            values: NDArray[np.generic] = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # of a damaged header numpy raises what its parser trips over
        raise ValueError(
            f"{path} is no array that can be read: {_what_it_is(path) or error}; expected {content}. {_REMEDY}"
        ) from error
    if values.dtype.kind not in "fiu":
        raise ValueError(f"{path} is {values.dtype} of shape {values.shape}; expected {content}, as numbers.")
    if not values.size:
        raise ValueError(f"{path} has shape {values.shape}, without a single value; expected {content}.")
    return values


def _what_it_is(path: Path) -> str:
    """What a file without an array is, by its first bytes; empty where they do not say."""
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
        return f"it begins with {start!r}, not as an array of numpy does"
    return ""


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except Exception:  # of a damaged directory zipfile raises a dozen types
        return "it is a damaged zip archive"
    if any(name.endswith("data.pkl") for name in names):
        return f"it is a file of torch.save; where you trust it, load it and write {_PICKLE}"
    arrays = [name.removesuffix(".npy") for name in names if name.endswith(".npy")]
    if not arrays:
        return "it is a zip archive without arrays"
    return f"it is an archive of numpy.savez with {', '.join(arrays[:5])}{', ...' if len(arrays) > 5 else ''}"
