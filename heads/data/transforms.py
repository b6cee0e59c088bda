"""What happens to an image and its labels before a batch, on torchvision v2 and its tv_tensors."""

from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from .classes import IGNORE

Size = tuple[int, int]


class ScaleJitter(v2.Transform):
    """Resize so that the whole image fits into ``size`` (height, width) [px], times a random factor from ``scale``.

    torchvision's own (0.29) takes the height for the width, which shrinks every image that is not square, and rounds
    the short side of a long image down to nothing.

    Args:
        size: Height and width [px].
        scale: Range of the factor.
    """

    def __init__(self, size: Size, scale: tuple[float, float]) -> None:
        super().__init__()
        self.size = size
        self.scale = scale

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Height and width to resize to."""
        height, width = v2.query_size(flat_inputs)
        low, high = self.scale
        factor = min(self.size[0] / height, self.size[1] / width) * (low + float(torch.rand(())) * (high - low))
        return {"size": [max(1, round(height * factor)), max(1, round(width * factor))]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize one input: labels to the nearest neighbour, images bilinearly."""
        return v2.functional.resize(inpt, params["size"], antialias=True)


def train_transform(size: Size, scale: tuple[float, float] = (0.5, 2.0)) -> v2.Transform:
    """Random scale, crop to ``size`` (height, width) [px] and horizontal flip.

    Where the scaled image is smaller than the crop, the rest is black and its labels are ignored.
    """
    fill = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORE}
    return v2.Compose(
        [
            ScaleJitter(size, scale),
            v2.RandomCrop(size, pad_if_needed=True, fill=fill),
            v2.RandomHorizontalFlip(),
        ]
    )
