"""Image sizes, and crops to a size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torchvision.transforms import v2

Size = tuple[int, int]

GREY = 0.5
"""What an image is padded with in [0, 1]: SigLIP 2's mean, and within 0.4 standard deviations of ImageNet's.

The data do not know the backbone. Where a batch's ``size`` tells padding from image, the backbone sees its own mean
instead, see :class:`heads.Extractor`.
"""

_LONGEST = 4  # largest long side over short side, if images keep their shape: mmsegmentation's (2048, 512)


@dataclass(frozen=True)
class Fit:
    """The largest height and width at which a whole image fits into a size; its aspect ratio is kept.

    Args:
        size: Height and width [px].
        turns: Swap height and width of the size if that puts its long side along that of the image.
    """

    size: Size
    turns: bool = False

    def of(self, image: Sequence[int], factor: float = 1.0) -> Size:
        """Height and width for an image of this height and width [px], times ``factor``.

        At least 2 px, which antialiased resizing needs.
        """
        height, width = self.size
        if self.turns and (height < width) != (image[0] < image[1]):
            height, width = width, height
        factor *= min(height / image[0], width / image[1])
        return max(2, round(image[0] * factor)), max(2, round(image[1] * factor))

    def __str__(self) -> str:
        short, long = sorted(self.size)
        return (
            f"short side {short}, long side at most {long}"
            if self.turns
            else f"fits into {self.size[0]} x {self.size[1]}"
        )


def short_side_size(size: Size, short_side: int) -> Size:
    """Height and width [px] at which an image of ``size`` keeps its aspect ratio and has this short side.

    The long side is at most four times ``short_side``; a longer image gets a smaller short side. mmsegmentation does
    the same for 512 px; DINOv3 has no limit.
    """
    factor = min(short_side / min(size), _LONGEST * short_side / max(size))
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


class CropTo(v2.Transform):
    """A random crop of at most ``size``; a shorter side is kept.

    Args:
        size: Height and width [px].
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Top, left, height and width of the crop."""
        whole = v2.query_size(flat_inputs)
        height, width = (min(side, limit) for side, limit in zip(whole, self.size, strict=True))
        top, left = (int(torch.randint(0, w - s + 1, ())) for w, s in zip(whole, (height, width), strict=True))
        return {"top": top, "left": left, "height": height, "width": width}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crop one input."""
        return v2.functional.crop(inpt, **params)
