"""Pictures and arrays, encoded in memory before they are written."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from siglip2_backbone.files import whole_file


def write_picture(picture: Image.Image, path: Path, **options: Any) -> None:
    """Write a picture in the format of the name's suffix.

    It is encoded in memory: where a disk takes only a part of the bytes, Pillow's encoders go on as if it had all.

    Args:
        picture: The picture.
        path: The file.
        **options: Of Pillow's encoder, such as ``quality``.

    Raises:
        ValueError: The file cannot be written.
    """
    with whole_file(path, durable=False) as partial:
        encoded = io.BytesIO()
        picture.save(encoded, Image.registered_extensions()[path.suffix.lower()], **options)
        partial.write_bytes(encoded.getbuffer())


def write_array(values: np.ndarray, path: Path) -> None:
    """Write a .npy file; encoded in memory, because numpy does not notice either that the last bytes are lost.

    Raises:
        ValueError: The file cannot be written.
    """
    with whole_file(path, durable=False) as partial:
        encoded = io.BytesIO()
        np.save(encoded, values, allow_pickle=False)
        partial.write_bytes(encoded.getbuffer())
