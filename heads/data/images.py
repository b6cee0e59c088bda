"""Reading of photographs and label PNGs of any mode; every error names the file."""

import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .image_listing import IMAGE_FORMATS
from .png_pixels import png_pixels
from .wide_pixels import decode_photograph, to_8_bits

_DAMAGED = (  # what Pillow's decoders raise on content that they cannot read
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, RuntimeError),
    *(struct.error, zlib.error),
)
_XMP = ("xmp", "XML:com.adobe.xmp")  # where Pillow stores it in Image.info


class CorruptImageError(ValueError):
    """An image file whose content cannot be decoded: damaged, truncated, or not an image."""


def read_image(path: str | Path) -> Tensor:
    """A photograph as RGB, uint8 ``(3, H, W)``, upright by its EXIF orientation; transparency is dropped.

    Unreadable metadata are ignored, because the pixels are good. Grey, palette, RGBA, CMYK and 16-bit images are
    converted, and the first of several frames is read. Values of more than 8 bits are scaled by the range that the
    file uses: 8, 10, 12, 14 or 16 bits.

    Raises:
        ValueError: The file is missing, damaged, or too large to decode.
    """
    return to_rgb(upright(decode_photograph(Path(path).expanduser(), decode)), str(path))


def to_rgb(image: Image.Image, name: str = "image") -> Tensor:
    """A PIL image of any mode as RGB, uint8 ``(3, H, W)``; see :func:`read_image`.

    Args:
        image: The image; its EXIF orientation is ignored.
        name: Its name in errors.

    Raises:
        ValueError: Its values are out of range, or its mode cannot be converted.
    """
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_grey_to_8_bits(np.asarray(image), name))
    try:
        if image.mode in ("P", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
        image = image.convert("RGB")
    except ValueError as error:  # LAB and the like
        raise ValueError(
            f"{name} has mode {image.mode}, which has no conversion to RGB. Save it as RGB first."
        ) from error
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def read_labels(path: str | Path) -> Tensor:
    """A label image as uint8 ``(H, W)``: grey values or palette indices, never colours.

    Raises:
        ValueError: The file is missing, damaged, in colour, or has values above 255.
    """
    path = Path(path)
    image = decode(path)
    if image.mode not in ("L", "P", "1", "I", "I;16", "I;16B", "I;16L"):
        raise ValueError(
            f"{path} has mode {image.mode}; expected one channel of class indices (a grey or palette PNG). Map its "
            "colours to indices first."
        )
    values = np.array(image).astype(np.int64)
    if values.min() < 0 or values.max() > 255:
        raise ValueError(
            f"{path} has label values from {values.min()} to {values.max()}; expected class indices from 0 to 255. Map "
            "its values to indices first, and save them with 8 bits."
        )
    return torch.from_numpy(values.astype(np.uint8))


def decode(path: Path, prepare: Callable[[Image.Image], None] | None = None) -> Image.Image:
    """Open and decode fully, so that a truncated file fails here.

    Only the formats of photographs are opened; the file's name does not matter.

    Args:
        path: The file.
        prepare: Called with the opened image before its pixels are decoded.

    Raises:
        CorruptImageError: The content is damaged.
        ValueError: The file is missing or too large.
    """
    if not path.is_file():
        raise ValueError(f"No file {path}; expected an image.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about metadata; damaged pixels raise
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _decode(path, prepare)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise ValueError(f"{path} has more than {limit} million pixels ({error}). Crop or shrink it first.") from error
    except UnidentifiedImageError as error:
        raise CorruptImageError(
            f"{path} is not an image that can be read ({error}). Save it again as PNG or JPEG."
        ) from error
    except _DAMAGED as error:
        raise CorruptImageError(f"{path} is damaged or truncated ({error}). Download or copy it again.") from error


def _decode(path: Path, prepare: Callable[[Image.Image], None] | None) -> Image.Image:
    """The decoded image; if that fails for a PNG, a second try leaves out its metadata."""
    try:
        return _pixels(path, prepare)
    except _DAMAGED:
        alone = png_pixels(path)
        if alone is None:
            raise
        with suppress(*_DAMAGED):  # the first error names the cause
            return _pixels(alone, prepare)
        raise


def _pixels(file: Path | BinaryIO, prepare: Callable[[Image.Image], None] | None) -> Image.Image:
    with Image.open(file, formats=IMAGE_FORMATS) as image:
        _drop_xmp(image)  # before decoding, which turns a TIFF by its orientation
        if prepare is not None:
            prepare(image)
        image.load()
        return image.copy()


def upright(image: Image.Image) -> Image.Image:
    """The image, turned upright by its EXIF orientation; damaged EXIF data, which raise a dozen types, are ignored.

    An orientation in XMP is ignored as well: browsers and annotation tools do not read it, and programs that turn the
    pixels often leave it unchanged.
    """
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        if any(name in image.info for name in _XMP):
            image = image.copy()
            _drop_xmp(image)
        return ImageOps.exif_transpose(image)
    return image


def orientation(path: Path) -> int:
    """The EXIF orientation of an image file, 1 to 8; 1 (as stored) if it is missing or unreadable."""
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            _drop_xmp(image)
            bare = Image.new("1", (1, 1))
            bare.info = image.info  # when it opens a JPEG, Pillow merges XMP into getexif()
            exif = image.getexif() if image.format == "TIFF" else bare.getexif()
            return int(exif.get(ExifTags.Base.Orientation, 1))
    return 1


def _drop_xmp(image: Image.Image) -> None:
    for name in _XMP:
        image.info.pop(name, None)


def _grey_to_8_bits(values: np.ndarray, name: str) -> np.ndarray:
    """Grey as 8 bits: integers scaled by the range that they use; floats must be in [0, 1]."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise ValueError(f"{name} has float values outside [0, 1]; expected a photograph. Scale it first.")
        return (values * 255).round().astype(np.uint8)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"{name} has values from {values.min()} to {values.max()}; expected 16 bits at most.")
    return to_8_bits(values)
