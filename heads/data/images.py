"""Read photographs and label PNGs, whatever mode they were saved in; every error names the file."""

import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


class CorruptImageError(ValueError):
    """An image file whose content cannot be decoded: damaged, truncated, or no image."""


def list_images(folder: Path) -> list[Path]:
    """Images directly in a folder, sorted by name.

    Raises:
        ValueError: There is no such folder, it holds no image, or two images differ only in their suffix.
    """
    if not folder.is_dir():
        raise ValueError(f"No folder {folder}; expected one with images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    paths = sorted(
        p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
    )
    if not paths:
        raise ValueError(f"{folder} holds no image; expected files that end in {', '.join(sorted(IMAGE_SUFFIXES))}.")
    by_stem: dict[str, Path] = {}
    for path in paths:
        other = by_stem.setdefault(path.stem, path)
        if other is not path:
            raise ValueError(
                f"{other} and {path.name} differ only in their suffix; rename one, results go by the stem."
            )
    return paths


def read_image(path: str | Path) -> Tensor:
    """A photograph as RGB, uint8 ``(3, H, W)``, upright by its EXIF orientation; transparency is dropped.

    EXIF data that cannot be read are passed over, because the picture is good.
    Grey, palette, RGBA, CMYK and 16-bit images are converted; 16-bit values are scaled, not clipped.

    Raises:
        ValueError: The file is missing, damaged, or too large to decode.
    """
    return to_rgb(upright(decode(Path(path).expanduser())), str(path))


def to_rgb(image: Image.Image, name: str = "image") -> Tensor:
    """A PIL image of any mode as RGB, uint8 ``(3, H, W)``; see :func:`read_image`.

    Args:
        image: The image; its EXIF orientation is not looked at.
        name: What errors call it.

    Raises:
        ValueError: Its values are out of range, or the mode has no conversion.
    """
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_to_8_bit(np.asarray(image), name))
    try:
        if image.mode in ("P", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
        image = image.convert("RGB")
    except ValueError as error:  # LAB and the like
        raise ValueError(f"{name} has mode {image.mode}, which has no way to RGB. Save it as RGB first.") from error
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
            "what it holds to indices first, and save them with 8 bits."
        )
    return torch.from_numpy(values.astype(np.uint8))


def decode(path: Path) -> Image.Image:
    """Open and decode fully, so that a truncated file fails here.

    Raises:
        CorruptImageError: The content is damaged.
        ValueError: The file is missing or too large.
    """
    if not path.is_file():
        raise ValueError(f"No file {path}; expected an image.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata; damaged pixels raise
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                return image.copy()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise ValueError(f"{path} has more than {limit} million pixels ({error}). Cut or shrink it first.") from error
    except UnidentifiedImageError as error:
        raise CorruptImageError(
            f"{path} is not an image that can be read ({error}). Save it again as PNG or JPEG."
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise CorruptImageError(f"{path} is damaged or truncated ({error}). Download or copy it again.") from error


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; damaged EXIF data, which raise a dozen types, are passed over."""
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        return ImageOps.exif_transpose(image)
    return image


def _to_8_bit(values: np.ndarray, name: str) -> np.ndarray:
    """16-bit grey to 8 bits by its high byte, 32-bit grey that fits 8 bits as it is; float grey must be in [0, 1]."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise ValueError(f"{name} has float values outside [0, 1]; expected a photograph. Scale it first.")
        return (values * 255).round().astype(np.uint8)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"{name} has values from {values.min()} to {values.max()}; expected 16 bits at most.")
    fits = values.dtype.itemsize > 2 and values.max() <= 255
    return (values if fits else values.astype(np.uint16) >> 8).astype(np.uint8)
