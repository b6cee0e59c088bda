"""Image preprocessing for a tower: sizes, squash, pad, normalise and denormalise."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

MAX_PATCHES = 256  # per image for a NaFlex checkpoint; from the preprocessor_config.json of the published ones
_PRECISION = 1e-5  # of the scale in the binary search
_LARGEST_SCALE = 100.0


def squash(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize to exactly ``size`` without keeping the aspect ratio: SigLIP 2's own preprocessing.

    Bilinear with antialias, as in SiglipImageProcessor (huggingface/transformers 5.23), which also rounds the result
    for uint8 input. big_vision resizes without antialias.

    Args:
        image: ``(..., C, H, W)``, uint8 or floating point.
        size: Height and width [px].

    Raises:
        ValueError: A side is shorter than 2 px, where torch's antialiased resize is wrong or fails.
    """
    if min(size) < 2:
        raise ValueError(f"Images cannot be resized to {size[0]} x {size[1]} px; expected at least 2 px a side.")
    resized: Tensor = TF.resize(image, list(size), interpolation=TF.InterpolationMode.BILINEAR, antialias=True)
    return resized


def naflex_size(size: tuple[int, int], patch_size: int, max_patches: int = MAX_PATCHES) -> tuple[int, int]:
    """Input size of an image for a NaFlex checkpoint: whole patches within a budget, close to its aspect ratio.

    A binary search finds the largest scale at which both sides, rounded up to whole patches, stay within the budget.
    Small images are enlarged, by a factor of 100 at most.

    Args:
        size: Height and width of the image [px].
        patch_size: Side of a patch [px].
        max_patches: The budget [patches].

    Returns:
        Height and width [px], to :func:`squash` the image to.

    Raises:
        ValueError: An argument is below 1.

    Source: ``get_image_size_for_max_num_patches`` of huggingface/transformers 5.24 (``image_processing_siglip2.py``),
    based on google-research/big_vision @ 0127fb6 (``pp/proj/image_text/ops_naflex.py``).
    """
    if min(*size, patch_size, max_patches) < 1:
        raise ValueError(
            f"The image is {size[0]} x {size[1]} px, patch_size {patch_size} and max_patches {max_patches}; expected "
            "at least 1 each."
        )

    def cells(scale: float) -> tuple[int, int]:
        rows, columns = (max(1, math.ceil(side * scale / patch_size)) for side in size)
        return rows, columns

    low, high = _PRECISION / 10, _LARGEST_SCALE
    while high - low >= _PRECISION:
        middle = (low + high) / 2
        if math.prod(cells(middle)) <= max_patches:
            low = middle
        else:
            high = middle
    rows, columns = cells(low)
    return rows * patch_size, columns * patch_size


def normalize(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """``(image - mean) / std`` for images ``(..., C, H, W)`` in [0, 1].

    Raises:
        ValueError: The image is not floating point, or has another number of channels than ``mean``.
    """
    if not image.is_floating_point():
        raise ValueError(f"image is {image.dtype}; expected floating point in [0, 1]. Divide a uint8 image by 255.")
    if image.shape[-3] != len(mean):
        raise ValueError(
            f"image has shape {tuple(image.shape)}; expected {len(mean)} channels in the third dimension from the end."
        )
    return (image - _per_channel(mean, image)) / _per_channel(std, image)


def denormalize(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Inverse of :func:`normalize`: back to [0, 1]."""
    return image * _per_channel(std, image) + _per_channel(mean, image)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad ``(..., C, H, W)`` with zeros below and to the right until ``multiple`` divides both sides [px].

    Zero is the mean of a normalised image. A SigLIP 2 tower does this itself; other backbones need it.
    """
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % multiple, 0, -height % multiple))


def _per_channel(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)
