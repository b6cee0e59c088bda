"""Read tensors of safetensors files directly into place: the header, then only the wanted byte ranges.

Format: https://github.com/huggingface/safetensors (README, section Format). The library returns tensors that stay
mapped to the file or are copied; reading into existing tensors keeps peak memory at the size of the tower. The library
decides which files are valid: a header that it refuses (ranges that overlap or leave bytes out) is refused here too.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..json_files import parse_json

# readable dtypes, in safetensors' spelling
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_MAX_HEADER = 100_000_000  # bytes, the limit of the safetensors library


@dataclass(frozen=True)
class StoredTensor:
    """Location of a tensor.

    Args:
        path: The safetensors file.
        dtype: Stored dtype, in safetensors' spelling.
        shape: Stored shape.
        start: First byte in the file.
        stop: First byte after it.
    """

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(path: Path) -> dict[str, StoredTensor]:
    """All tensors of a safetensors file, by name, without reading their values.

    Raises:
        ValueError: The file is truncated or is not a safetensors file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        if first.startswith(b"GGUF"):
            raise ValueError(_not_safetensors(path, "a GGUF file, whose weights are quantised"))
        length = int.from_bytes(first, "little")
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise ValueError(_not_safetensors(path, f"a header of {length} bytes in a file of {size} bytes"))
        try:
            header = parse_json(file.read(length).decode("utf-8"), unique=True)
            header.pop("__metadata__", None)
            tensors = {name: _entry(path, 8 + length, **fields) for name, fields in header.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(_not_safetensors(path, f"an unreadable header ({error})")) from error
    expected = max((t.stop for t in tensors.values()), default=8 + length)
    if size < expected:
        raise ValueError(
            f"{path} is truncated: {size} bytes, its header describes {expected}. Download or copy it again."
        )
    try:
        with safe_open(path, framework="numpy"):  # checks the header without reading a tensor
            pass
    except (SafetensorError, OSError) as error:
        raise ValueError(_not_safetensors(path, f"content that the safetensors library refuses ({error})")) from error
    return tensors


def _not_safetensors(path: Path, found: str) -> str:
    return f"{path} is not a complete safetensors file: found {found}. Pass a complete .safetensors file."


def _entry(path: Path, base: int, dtype: str, shape: list[int], data_offsets: list[int]) -> StoredTensor:
    start, stop = data_offsets
    if not all(type(number) is int for number in (*shape, start, stop)):
        raise ValueError(f"shape {shape} and byte range {data_offsets}, which are not all whole numbers")
    if not 0 <= start <= stop:
        raise ValueError(f"byte range {start} to {stop}")
    if dtype in DTYPES and math.prod(shape) * DTYPES[dtype].itemsize != stop - start:
        raise ValueError(f"{dtype} of shape {shape} does not fill {stop - start} bytes")
    return StoredTensor(path, dtype, tuple(shape), base + start, base + stop)


def read_rows(stored: StoredTensor, out: Tensor, rows: tuple[int, int]) -> None:
    """Read rows of a tensor into the memory of ``out``.

    Args:
        stored: The tensor in the file, with a dtype in ``DTYPES``.
        out: Contiguous CPU tensor of any floating point type, with the number of elements in these rows.
        rows: First row and the row after the last one.

    Raises:
        ValueError: The file has become shorter since its header was read.
    """
    dtype = DTYPES[stored.dtype]
    row_bytes = (stored.stop - stored.start) // stored.shape[0]
    start, stop = stored.start + rows[0] * row_bytes, stored.start + rows[1] * row_bytes
    target = out if out.dtype == dtype else torch.empty(out.numel(), dtype=dtype, device="cpu")
    with stored.path.open("rb", buffering=0) as file:
        file.seek(start)
        _fill(file, target.view(-1).view(torch.uint8).numpy().data, stop - start, stored.path)
    if target is not out:
        out.view(-1).copy_(target)


def _fill(file: BinaryIO, buffer: memoryview, expected: int, path: Path) -> None:
    """Read until the buffer is full; one ``readinto`` call stops at 2 GiB."""
    if len(buffer) != expected:
        raise AssertionError(f"{len(buffer)} bytes of memory for {expected} bytes of {path}")
    done = 0
    while done < expected:
        count = file.readinto(buffer[done:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"{path} ended after {done} of {expected} bytes of a tensor. Download or copy it again.")
        done += count
