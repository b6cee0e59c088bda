"""Depth and normals as files: arrays for programs, coloured pictures for people."""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .encoded import write_array, write_picture

_MILLIMETRES, _KITTI = 1000, 256  # steps per metre: NYU's and KITTI's
_LARGEST = 2**16 - 1
_NEAR_IS_LOW, _NEAR_IS_HIGH = "magma_r", "magma"  # near is bright, for depth and for inverse depth
_BAR = 24  # height of the scale bar [px]


def write_depth(depth: Tensor, far: float | None, folder: Path, name: str) -> None:
    """Write ``depth/NAME.npy``, ``depth/NAME.png`` and ``colours/NAME.png`` below a folder.

    The depth PNG has 16 bits: metres times a scale of 1000 (as in NYU), or of 256 (as in KITTI) if ``far`` times 1000
    exceeds 16 bits; the text chunk ``depth_scale`` holds the scale. Relative depth has no depth PNG.

    Args:
        depth: Depth [m], or relative inverse depth, ``(H, W)``.
        far: Largest possible depth [m]; ``None`` for relative depth.
        folder: Folder to write below.
        name: Name of the files, without suffix.

    Raises:
        ValueError: A file cannot be written.
    """
    values = depth.cpu().float().numpy()
    write_array(values, folder / "depth" / f"{name}.npy")
    if far is not None:
        scale = _MILLIMETRES if far * _MILLIMETRES <= _LARGEST else _KITTI
        chunks = PngInfo()
        chunks.add_text("depth_scale", str(scale))
        steps = np.clip(np.rint(values * scale), 0, _LARGEST).astype(np.uint16)
        write_picture(Image.fromarray(steps), folder / "depth" / f"{name}.png", pnginfo=chunks)
    write_picture(depth_picture(values, "m" if far is not None else ""), folder / "colours" / f"{name}.png")


def write_normals(normals: Tensor, folder: Path, name: str) -> None:
    """Write ``normals/NAME.npy`` and ``colours/NAME.png`` below a folder.

    Args:
        normals: Unit normals ``(3, H, W)``.
        folder: Folder to write below.
        name: Name of the files, without suffix.

    Raises:
        ValueError: A file cannot be written.
    """
    values = normals.cpu().float().numpy()
    write_array(values, folder / "normals" / f"{name}.npy")
    write_picture(normals_picture(values), folder / "colours" / f"{name}.png")


def depth_picture(depth: np.ndarray, unit: str) -> Image.Image:
    """Colour depth ``(H, W)`` from its smallest to its largest value, with a scale bar below.

    An empty unit means inverse depth; near is bright in both.
    """
    palette = _NEAR_IS_LOW if unit else _NEAR_IS_HIGH
    low, high = float(depth.min()), float(depth.max())
    colours = _coloured((depth - low) / (high - low or 1), palette)  # or 1: a constant map has no range
    font = ImageFont.load_default(_BAR - 10)
    texts = [f"{value:.3g} {unit}".strip() for value in (low, high)]
    measure = ImageDraw.Draw(Image.new("L", (1, 1))).textlength
    left, right = (round(measure(text, font=font)) + 8 for text in texts)
    width = max(depth.shape[1], left + right + 2 * _BAR)
    picture = Image.new("RGB", (width, depth.shape[0] + _BAR), "white")
    picture.paste(Image.fromarray(colours))
    top = depth.shape[0]
    bar = _coloured(np.tile(np.linspace(0, 1, width - left - right), (_BAR - 8, 1)), palette)
    picture.paste(Image.fromarray(bar), (left, top + 4))
    pen = ImageDraw.Draw(picture)
    for x, text in ((4, texts[0]), (width - right + 4, texts[1])):
        pen.text((x, top + 4), text, fill="black", font=font)
    return picture


def normals_picture(normals: np.ndarray) -> Image.Image:
    """Normals ``(3, H, W)`` as red (to the right), green (up) and blue (towards the camera), each from -1 to 1."""
    # y points down and z away from the camera in the normals, up and towards it in the colours
    towards = normals * np.array([1, -1, -1], dtype=normals.dtype)[:, None, None]
    return Image.fromarray(np.rint((towards.transpose(1, 2, 0) + 1) * 127.5).clip(0, 255).astype(np.uint8))


def _coloured(share: np.ndarray, palette: str) -> np.ndarray:
    """Map values in [0, 1] to uint8 RGB."""
    colours: np.ndarray = matplotlib.colormaps[palette](share, bytes=True)
    return np.ascontiguousarray(colours[..., :3])
