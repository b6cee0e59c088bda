"""Photographs of more than 8 bits a channel as 8 bits, by the range that their values use.

Microscopes, thermal cameras and ``cv2.imwrite`` store 8, 10, 12 or 14 bits in files of 16, and nothing in the file says
so. By the high byte alone such a picture is black, or has a few grey levels.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BITS = (8, 10, 12, 14)  # what sensors have; values that need more have 16
_FEWER = 64  # high bytes up to it may belong to values of fewer bits, as Pillow rounds those of PPM
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_COLOURS = ("RGB", "RGBA", "RGBX")
_GREY_WITH_ALPHA = "LA;16B"  # of PNG; read as four channels of 8 bits, the second is the low byte of the grey

Decode = Callable[[Path, Callable[[Image.Image], None]], Image.Image]
"""Opens a file, has what it would decode changed, and decodes it."""


def to_8_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Values of at most 16 bits as 8: the upper 8 of the 8, 10, 12, 14 or 16 bits that the largest one needs."""
    largest = int(values.max())
    bits = next((bits for bits in _BITS if largest < 1 << bits), 16)
    return (values.astype(np.uint16) >> (bits - 8)).astype(np.uint8)


def decode_photograph(path: Path, decode: Decode) -> Image.Image:
    """An image whose colours of 16 bits are brought to 8 by the range that they use; any other as it is.

    Pillow reads such colours by their high byte. Where all of these are small, the low one is read as well. Grey of 16
    bits comes as it is stored, for :func:`to_8_bits`.

    Args:
        path: The file.
        decode: Reads it.
    """
    modes: list[str] = []

    def note(opened: Image.Image) -> None:
        modes[:] = _raw_modes(opened)

    image = decode(path, note)
    if not modes or max(band[1] for band in image.getextrema()[:3]) > _FEWER:  # type: ignore[index]  # one pair a band
        return image
    high, low = (np.asarray(decode(path, _as_mode(mode)))[..., :3].astype(np.uint16) for mode in modes)
    if modes[0] == _GREY_WITH_ALPHA:
        low = low[..., 1:2]
    joined = Image.fromarray(to_8_bits(high << 8 | low))
    joined.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return joined


def _raw_modes(opened: Image.Image) -> tuple[str, ...]:
    """How Pillow calls the high and the low bytes of colours of 16 bits; empty for any other image."""
    tiles = getattr(opened, "tile", ())
    if not tiles:
        return ()
    codec, _, _, args = tiles[0]
    mode = args if isinstance(args, str) else args[0] if isinstance(args, tuple) and args else None
    if codec == "ppm":  # it scales by the largest value of the header
        return ("RGB;16B", "RGB;16L") if args == ("RGB", 65535) else ()
    if mode == _GREY_WITH_ALPHA:
        return _GREY_WITH_ALPHA, "RGBA"
    name, _, order = str(mode).partition(";16")
    return (
        (f"{name};16{order}", f"{name};16{_OTHER_ORDER[order]}") if name in _COLOURS and order in _OTHER_ORDER else ()
    )


def _as_mode(mode: str) -> Callable[[Image.Image], None]:
    """Changes what is to be decoded of a file to other bytes of its samples."""

    def change(opened: Image.Image) -> None:
        tiles = []
        for tile in opened.tile:  # type: ignore[attr-defined]  # a file's
            codec, extents, offset, args = tile
            if codec == "ppm":
                codec, args = "raw", (mode, 0, 1)
            else:
                args = mode if isinstance(args, str) else (mode, *args[1:])
            make = getattr(type(tile), "_make", tuple)  # Pillow 10 has plain tuples
            tiles.append(make((codec, extents, offset, args)))
        opened.tile = tiles  # type: ignore[attr-defined]

    return change
