"""Segmentation as files: label maps, overlays and class probabilities."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from siglip2_backbone.files import whole_file

from ..data.images import read_image
from ..geometry.upsampling import Upsampling
from .encoded import write_picture


def write_labels(labels: Tensor, palette: np.ndarray, path: Path) -> None:
    """Write class indices ``(H, W)`` as a palette PNG."""
    image = Image.fromarray(labels.cpu().numpy().astype(np.uint8))
    image.putpalette(palette.flatten().tolist())
    write_picture(image, path)


def write_overlay(labels: Tensor, palette: np.ndarray, image_path: Path, path: Path, opacity: float) -> None:
    """Write the photograph blended with its class colours."""
    photograph = Image.fromarray(read_image(image_path).permute(1, 2, 0).numpy())
    colours = Image.fromarray(palette[labels.cpu().numpy()])
    write_picture(Image.blend(photograph, colours, opacity), path, quality=90)


def write_probabilities(cells: Tensor, upsampling: Upsampling, path: Path, *, logits: bool) -> None:
    """Write class probabilities at every pixel as a float16 array ``(C, H, W)``, a band of rows at a time.

    Args:
        cells: Logits or probabilities ``(C, rows, columns)``.
        upsampling: Upsampling from these cells to the pixels.
        path: The .npy file.
        logits: Whether the cells are logits; the softmax is then taken at the pixels, as in the loss.

    Raises:
        ValueError: The file cannot be written.
    """
    height, width = upsampling.size
    kind = {"descr": "<f2", "fortran_order": False, "shape": (len(cells), height, width)}
    with whole_file(path, durable=False) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, kind)
        start = file.tell()
        for band in upsampling.bands():
            values = upsampling.band(cells, band)
            values = (values.softmax(dim=1) if logits else values).transpose(0, 1)
            for index, rows in enumerate(values.cpu().numpy().astype("<f2")):
                # the file holds one class after the other, 2 bytes per value
                file.seek(start + 2 * width * (index * height + band.pixels.start))
                file.write(rows.tobytes())
