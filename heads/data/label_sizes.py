"""The error message for a label whose size differs from that of its image."""

from pathlib import Path

from .images import orientation
from .sizes import Size

_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def other_size(label: str, found: Size, image: Path, size: Size) -> str:
    """The error message for a label whose size differs from that of its image.

    A label that was drawn on the stored pixels, before EXIF turns them, must be turned as well: if it were resized, it
    would fit but be wrong everywhere.

    Args:
        label: Name of the label in the message.
        found: Height and width of the label [px].
        image: File of the image.
        size: Height and width of the image, upright [px].
    """
    said = f"{label} is {tuple(found)} (height, width), its image {image.name} {tuple(size)}; expected the same size. "
    lies = found[0] * size[0] == found[1] * size[1] and size[0] != size[1]  # aspect ratio of the image on its side
    exif = orientation(image)
    if lies and exif in _QUARTER_TURNS:
        return said + (
            f"The image was turned upright by its EXIF orientation {exif}, but the label has the shape of the stored "
            "pixels. Turn the label in the same way; or, if the stored pixels are upright, save the image without the "
            "EXIF tag."
        )
    if lies:
        return said + (
            "The label is on its side, and no EXIF orientation turns the image (XMP is ignored). Turn the label or the "
            "image, so that both are upright."
        )
    turned = f" (turned upright by its EXIF orientation {exif})" if exif in _QUARTER_TURNS else ""
    return said + f"Check that the label belongs to the image{turned}; resize labels with nearest-neighbour sampling."
