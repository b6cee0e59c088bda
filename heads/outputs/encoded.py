"""Pictures and arrays, encoded in memory before they are written."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from siglip2_backbone.files import whole_file


def write_picture(picture: Image.Image, path: Path, **options: Any) -> None:
    """Write a picture in the format of the name's suffix.

    It is encoded in memory first: Pillow's encoders do not notice when a full disk takes only a part of the bytes.

    Args:
        picture: The picture.
        path: The file.
        **options: Options of Pillow's encoder, such as ``quality``.

    Raises:
        ValueError: The file cannot be written.
    """
    with whole_file(path, durable=False) as partial:
        encoded = io.BytesIO()
        picture.save(encoded, Image.registered_extensions()[path.suffix.lower()], **options)
        partial.write_bytes(encoded.getbuffer())


def write_array(values: np.ndarray, path: Path) -> None:
    """Write a .npy file, encoded in memory first: numpy does not notice lost bytes either.

    Raises:
        ValueError: The file cannot be written.
    """
    with whole_file(path, durable=False) as partial:
        encoded = io.BytesIO()
        np.save(encoded, values, allow_pickle=False)
        partial.write_bytes(encoded.getbuffer())
