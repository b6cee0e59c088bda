"""Read numeric arrays from MATLAB 5 files.

scipy's reader of this format is compiled code, and a damaged file can crash the process in it, without an exception
that names the file. The datasets here need only plain arrays, which Python and numpy read safely.

Source: MathWorks, MAT-File Format, "MAT-File Level 5 File Format".
"""

import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_HEADER = 128
# numpy types of the stored values by data type, and of the array by array class, as numbered in the specification
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_INT8, _INT32, _UINT32, _UTF8 = 1, 5, 6, 16  # types of names, shapes and flags
_COMPLEX = 0x0800
_UP_TO_NAME = 4096  # [bytes] enough for flags, shape and name of an array
_LARGEST = 1 << 28  # [bytes] limit for one array; the largest one read here has 7 MB


def read_matlab_5(path: Path, keys: Collection[str]) -> dict[str, NDArray[np.generic]]:
    """Read arrays from a MATLAB 5 file, with their type and shape.

    Args:
        path: The file.
        keys: Names of the arrays.

    Raises:
        ValueError: The file is missing, damaged or of another format, or lacks an array of real numbers.
    """
    if not path.is_file():
        raise ValueError(f"No file {path}; expected a MATLAB file with {', '.join(keys)}.")
    found: dict[str, NDArray[np.generic]] = {}
    try:
        with path.open("rb") as file:
            order = _byte_order(file.read(_HEADER))
            for kind, content in _elements(file, order, path.stat().st_size):
                name, values = _matrix(kind, content, order, keys)
                if values is not None:
                    found[name] = values
    except (ValueError, struct.error, zlib.error, OSError) as error:
        raise ValueError(f"{path} cannot be read as a MATLAB 5 file ({error}). Download it again.") from error
    missing = [key for key in keys if key not in found]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}; expected {', '.join(keys)}.")
    return found


def _byte_order(header: bytes) -> str:
    order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
    if order is None or 0 in header[:4]:  # a zero among the first four bytes marks the older version 4
        raise ValueError("it has no header of MATLAB 5")
    if struct.unpack(f"{order}H", header[124:126])[0] != 0x0100:
        raise ValueError("it has another version; MATLAB 7.3 writes HDF5")
    return order


def _elements(file: BinaryIO, order: str, size: int) -> Iterator[tuple[int, bytes]]:
    """Type and content of each element of the file."""
    place = _HEADER
    while place + 8 <= size:
        file.seek(place)
        kind, length = struct.unpack(f"{order}II", file.read(8))
        place += 8 + length
        if place > size or length > _LARGEST:
            raise ValueError(f"an element of {length} bytes is cut off or damaged")
        yield kind, file.read(length)


def _matrix(kind: int, content: bytes, order: str, keys: Collection[str]) -> tuple[str, NDArray[np.generic] | None]:
    """Name and values of an element; ``None`` as values if the name is not among the keys."""
    if kind == _COMPRESSED:
        # decompress only as far as the name, to skip large arrays that are not needed
        inner = zlib.decompressobj().decompress(content, _UP_TO_NAME)
        name = _parts(inner[8:], order)[2]
        if name not in keys:
            return name, None
        kind, content = _unpacked(content, order)
    if kind != _MATRIX:
        return "", None
    flags, shape, name, start = _parts(content, order)
    if name not in keys:
        return name, None
    if flags & 0xFF not in _CLASSES or flags & _COMPLEX:
        raise ValueError(f"{name} is not an array of real numbers")
    return name, _values(content, start, order, shape).astype(_CLASSES[flags & 0xFF])


def _unpacked(content: bytes, order: str) -> tuple[int, bytes]:
    """Type and content of a compressed element."""
    unpacking = zlib.decompressobj()
    inner = unpacking.decompress(content, _LARGEST)
    if not unpacking.eof:
        raise ValueError("a compressed element is cut off or too large")
    kind, length = struct.unpack_from(f"{order}II", inner)
    return kind, inner[8 : 8 + length]


def _parts(content: bytes, order: str) -> tuple[int, tuple[int, ...], str, int]:
    """Flags, shape and name of a matrix, and where its values begin."""
    flags_kind, flags, place = _element(content, 0, order)
    shape_kind, shape, place = _element(content, place, order)
    name_kind, name, place = _element(content, place, order)
    if flags_kind != _UINT32 or shape_kind not in (_INT32, _UINT32) or name_kind not in (_INT8, _UTF8):
        raise ValueError(f"an array has flags, shape and name of types {flags_kind}, {shape_kind}, {name_kind}")
    # unsigned, although the format has signed sides: numpy's reshape would infer a side of -1
    sides = struct.unpack(f"{order}{len(shape) // 4}I", shape[: len(shape) // 4 * 4])
    return struct.unpack_from(f"{order}I", flags)[0], sides, name.decode("utf-8", "replace"), place


def _values(content: bytes, start: int, order: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    kind, stored, _ = _element(content, start, order)
    if kind not in _STORED:
        raise ValueError(f"an array has values of type {kind}; expected a numeric type")
    values = np.frombuffer(stored, np.dtype(order + _STORED[kind]))
    return values.reshape(shape, order="F")  # MATLAB stores columns first; a wrong shape raises ValueError


def _element(content: bytes, place: int, order: str) -> tuple[int, bytes, int]:
    """Type and content of a nested element, and where the next one begins."""
    kind, length = struct.unpack_from(f"{order}II", content, place)
    if kind >> 16:  # small element: length and type share 4 bytes, and the content has 4
        length, kind, start, after = kind >> 16, kind & 0xFFFF, place + 4, place + 8
    else:
        start, after = place + 8, place + 8 + -(-length // 8) * 8  # padded to 8 bytes
    if start + length > min(len(content), after):
        raise ValueError(f"an element of {length} bytes is cut off")
    return kind, content[start : start + length], after
