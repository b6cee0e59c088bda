"""Read arrays of npz files one by one and slice by slice: the headers, then only the wanted members.

An npz file is a zip archive of npy files, stored or deflated. numpy loads a whole member at once, and a scan-layout
member holds one tensor of every block; here each slice goes to its block while the member is still being read. Arrays
of objects are pickles, which are never loaded.
"""

import math
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from .tensor_files import DTYPES

# numpy has no bfloat16 and writes it as two untyped bytes
_DTYPES = {"<f8": "F64", "<f4": "F32", "<f2": "F16", "|V2": "BF16"}
_MOST_PACKED = 100  # unpacked bytes per byte of the file; weights shrink by a few per cent, a zip bomb a thousandfold


@dataclass(frozen=True)
class StoredArray:
    """Location of an array.

    Args:
        path: The npz file.
        member: Name of the npy file in it.
        dtype: Stored dtype in safetensors' spelling, or in numpy's if it is not in ``DTYPES``.
        shape: Stored shape.
        column_major: Whether the first index varies fastest.
    """

    path: Path
    member: str
    dtype: str
    shape: tuple[int, ...]
    column_major: bool = False


def read_npz_header(path: Path) -> dict[str, StoredArray]:
    """All arrays of an npz file, by name, without reading their values.

    Raises:
        ValueError: The file is truncated, is not an npz file, has two arrays of one name, unpacks to far more than its
            own size, or holds an array of objects.
    """
    with _refused_if_broken(path), zipfile.ZipFile(path) as archive:
        _check_members(path, archive)
        arrays = [_entry(path, archive, info) for info in archive.infolist() if info.filename.endswith(".npy")]
    for array in arrays:
        if array.dtype == "|O":
            raise ValueError(
                f"{path}: array {_name(array)} holds Python objects, which are stored as a pickle, and a pickle can "
                "run code when it is loaded. Pass a file of plain arrays."
            )
    return {_name(array): array for array in arrays}


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":  # zipfile would look for an archive anywhere in the file; numpy does not
            raise ValueError("it does not start like an archive")
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    if len(set(names)) != len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise ValueError(f"it has two members {twice}, and readers disagree on which one counts")
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):  # opening it compares both copies of the name, one may be damaged
            archive.open(info).close()
    unpacked, size = sum(info.file_size for info in archive.infolist()), path.stat().st_size
    if unpacked > _MOST_PACKED * size:
        raise ValueError(f"its {size} bytes would unpack to {unpacked}, too many for weights")


def _name(array: StoredArray) -> str:
    return array.member.removesuffix(".npy")


@contextmanager
def _refused_if_broken(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # zipfile, four decompressors and numpy's header parser raise a dozen types
        raise ValueError(
            f"{path} is not a complete npz file ({error}). Download or copy it again, or pass a complete file."
        ) from error


def _entry(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> StoredArray:
    with archive.open(info) as file:
        shape, column_major, dtype = _npy_header(file)
        if any(side < 0 for side in shape):
            raise ValueError(f"array {info.filename} has the shape {shape}")
        expected = file.tell() + math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and info.file_size != expected:
        raise ValueError(f"array {info.filename} has {info.file_size} bytes, its header describes {expected}")
    kind = "|O" if dtype.hasobject else dtype.str
    return StoredArray(path, info.filename, _DTYPES.get(kind, kind), shape, column_major)


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"an array has version {version} of the npy format; expected 1.0, 2.0 or 3.0")
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def read_slices(stored: StoredArray, stacked: bool) -> Iterator[Tensor]:
    """Read an array with a dtype in ``DTYPES`` as one tensor, or as one tensor for each index of its first axis.

    Args:
        stored: The array.
        stacked: Whether to slice along the first axis.

    Raises:
        ValueError: The file is damaged.
    """
    # only one slice at a time is in memory, except for column-major arrays
    sliced = stacked and not stored.column_major
    shape = stored.shape[1:] if sliced else stored.shape
    with _refused_if_broken(stored.path), zipfile.ZipFile(stored.path) as archive, archive.open(stored.member) as file:
        _npy_header(file)
        for _ in range(stored.shape[0] if sliced else 1):
            value = _read(file, shape, DTYPES[stored.dtype], stored.column_major)
            yield from value if stacked and not sliced else [value]
        file.read()  # zipfile compares the checksum at the end of the member


def _read(file: IO[bytes], shape: tuple[int, ...], dtype: torch.dtype, column_major: bool) -> Tensor:
    data = bytearray(file.read(math.prod(shape) * dtype.itemsize))
    flat = torch.frombuffer(data, dtype=dtype)
    if not column_major:
        return flat.view(shape)
    return flat.view(shape[::-1]).permute(*reversed(range(len(shape))))
