"""What is wrong where a label has not the size of its image, and what to do about it."""

from pathlib import Path

from .images import orientation
from .sizes import Size

_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def other_size(label: str, found: Size, image: Path, size: Size) -> str:
    """The message for a label of another size than its image.

    A label that was drawn on the pixels as they are stored, before EXIF turns them, must be turned as well: resized, it
    would fit and be wrong everywhere.

    Args:
        label: What the message calls the label.
        found: Height and width of the label [px].
        image: The image's file.
        size: Height and width of the image, upright [px].
    """
    said = f"{label} is {tuple(found)} (height, width), its image {image.name} {tuple(size)}; expected the same size. "
    lies = found[0] * size[0] == found[1] * size[1] and size[0] != size[1]  # it has the shape of the turned image
    exif = orientation(image)
    if lies and exif in _QUARTER_TURNS:
        return said + (
            f"The image was turned upright, as its EXIF orientation {exif} says, and the label has the shape that it "
            "had before. Turn the label in the same way; or, if the stored pixels are upright, save the image without "
            "the EXIF tag."
        )
    if lies:
        return said + (
            "The label lies on its side, and no EXIF orientation turns the image (one in XMP is not followed). Turn "
            "the label or the image, so that both are upright."
        )
    turned = f", which was turned as its EXIF orientation {exif} says" if exif in _QUARTER_TURNS else ""
    return said + f"Look whether the two belong together{turned}; resize a label by nearest pixels."
