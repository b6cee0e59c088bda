"""What happens to an image and its labels before a batch, on torchvision v2 and its tv_tensors."""

from torchvision import tv_tensors
from torchvision.transforms import v2

from .classes import IGNORE

Size = tuple[int, int]


def train_transform(size: Size, scale: tuple[float, float] = (0.5, 2.0)) -> v2.Transform:
    """Random scale, crop to ``size`` (height, width) [px] and horizontal flip.

    Where the scaled image is smaller than the crop, the rest is black and its labels are ignored.
    """
    fill = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORE}
    return v2.Compose(
        [
            v2.ScaleJitter(target_size=size, scale_range=scale, antialias=True),
            v2.RandomCrop(size, pad_if_needed=True, fill=fill),
            v2.RandomHorizontalFlip(),
        ]
    )
