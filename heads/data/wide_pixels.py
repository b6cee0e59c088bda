"""Conversion of photographs with more than 8 bits per channel to 8 bits, by the range that their values use.

Microscopes, thermal cameras and ``cv2.imwrite`` store 8, 10, 12 or 14 bits in 16-bit files, and the files do not record
this. The high byte alone would give a black image, or one with a few grey levels.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BITS = (8, 10, 12, 14)  # bit depths of sensors; larger values mean 16 bits
_FEWER = 64  # largest high byte of 14-bit values: 63, or 64 where Pillow rounds (PPM)
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_COLOURS = ("RGB", "RGBA", "RGBX")
_GREY_WITH_ALPHA = "LA;16B"  # of PNG; in four 8-bit channels the second is the low byte of the grey

Decode = Callable[[Path, Callable[[Image.Image], None]], Image.Image]
"""Opens a file, calls a function on the opened image, and decodes it."""


def to_8_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Values of at most 16 bits as 8 bits: the upper 8 of the 8, 10, 12, 14 or 16 bits that the largest one needs."""
    largest = int(values.max())
    bits = next((bits for bits in _BITS if largest < 1 << bits), 16)
    return (values.astype(np.uint16) >> (bits - 8)).astype(np.uint8)


def decode_photograph(path: Path, decode: Decode) -> Image.Image:
    """Decode an image; 16-bit colours become 8-bit by the range that they use, any other image is unchanged.

    Pillow reads only the high bytes of such colours. If all of them are small, the low bytes are read as well. 16-bit
    grey is returned as stored, for :func:`to_8_bits`.

    Args:
        path: The file.
        decode: Decodes it.
    """
    modes: list[str] = []

    def note(opened: Image.Image) -> None:
        modes[:] = _raw_modes(opened)

    image = decode(path, note)
    if not modes or max(band[1] for band in image.getextrema()[:3]) > _FEWER:  # type: ignore[index]  # one pair a band
        return image
    # one decoding for the high bytes, one for the low bytes of the same samples
    high, low = (np.asarray(decode(path, _as_mode(mode)))[..., :3].astype(np.uint16) for mode in modes)
    if modes[0] == _GREY_WITH_ALPHA:
        low = low[..., 1:2]
    joined = Image.fromarray(to_8_bits(high << 8 | low))
    joined.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return joined


def _raw_modes(opened: Image.Image) -> tuple[str, ...]:
    """Pillow's raw modes for the high and the low bytes of 16-bit colours; empty for any other image."""
    tiles = getattr(opened, "tile", ())
    if not tiles:
        return ()
    codec, _, _, args = tiles[0]
    mode = args if isinstance(args, str) else args[0] if isinstance(args, tuple) and args else None
    if codec == "ppm":  # the codec scales by the header's maximum; 65535 leaves values as they are
        return ("RGB;16B", "RGB;16L") if args == ("RGB", 65535) else ()
    if mode == _GREY_WITH_ALPHA:
        return _GREY_WITH_ALPHA, "RGBA"
    name, _, order = str(mode).partition(";16")
    return (
        (f"{name};16{order}", f"{name};16{_OTHER_ORDER[order]}") if name in _COLOURS and order in _OTHER_ORDER else ()
    )


def _as_mode(mode: str) -> Callable[[Image.Image], None]:
    """A function that makes Pillow decode a file by another raw mode."""

    def change(opened: Image.Image) -> None:
        tiles = []
        for tile in opened.tile:  # type: ignore[attr-defined]  # of ImageFile
            codec, extents, offset, args = tile
            if codec == "ppm":
                codec, args = "raw", (mode, 0, 1)
            else:
                args = mode if isinstance(args, str) else (mode, *args[1:])
            make = getattr(type(tile), "_make", tuple)  # Pillow 10 has plain tuples
            tiles.append(make((codec, extents, offset, args)))
        opened.tile = tiles  # type: ignore[attr-defined]

    return change
