"""Augmentation of images with depth and normals: the recipes of the published probes."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

from ..sizes import Size
from .maps import Intrinsics, Rotation


class Part(NamedTuple):
    """A part of an image [px]."""

    top: int
    left: int
    height: int
    width: int


NYU_BORDER = Part(45, 43, 427, 565)
"""The part of a 640 x 480 NYU frame that has registered depth and colour: columns 43:608, rows 45:472.

Source: cleinc/bts @ 29d6a32; NYUCrop of DINOv2 and DINOv3.
"""


def kb_crop(size: Size) -> Part:
    """The KITTI benchmark's crop: the lowest 352 rows, the central 1216 columns.

    Raises:
        ValueError: The image is smaller than the crop.

    Source: cleinc/bts @ 29d6a32.
    """
    height, width = size
    if height < 352 or width < 1216:
        raise ValueError(
            f"The image is {size} (height, width), smaller than KITTI's crop of 352 x 1216; expected a KITTI image."
        )
    return Part(height - 352, (width - 1216) // 2, 352, 1216)


class Frame(v2.Transform):
    """Crop a border, and resize by the factor that takes the whole image to ``size`` (height, width) [px].

    So one pixel covers the same angle in training as in tests, which use whole images.

    Args:
        size: Size of the whole image after resizing.
        border: The part inside the border, which is kept, in pixels of the original image.
    """

    def __init__(self, size: Size, border: Part | None = None) -> None:
        super().__init__()
        self.size = size
        self.border = border

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The part that is kept, and its new size."""
        height, width = v2.query_size(flat_inputs)
        kept = self.border or Part(0, 0, height, width)
        if kept.top + kept.height > height or kept.left + kept.width > width:
            raise ValueError(f"The image is {height} x {width} px; expected one that contains the part {kept}.")
        resized = [round(kept.height * self.size[0] / height), round(kept.width * self.size[1] / width)]
        return {"kept": kept, "size": [max(1, n) for n in resized]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crop and resize one input; a camera matrix stays that of the original, the Geometry converts it later."""
        if isinstance(inpt, Intrinsics):
            return inpt
        cropped = V.crop(inpt, *params["kept"]) if self.border else inpt
        return V.resize(cropped, params["size"], antialias=True)


class GammaBrightnessColour(v2.Transform):
    """Gamma, brightness and per-channel colour factors on a uint8 image: all three or none.

    Args:
        brightness: Range of the brightness factor.
        p: Probability of all three.

    Source: augment_image of cleinc/bts @ 29d6a32 (gamma and colours from 0.9 to 1.1), which does not round.
    """

    def __init__(self, brightness: tuple[float, float], p: float = 0.5) -> None:
        super().__init__()
        self.brightness = brightness
        self.p = p

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Gamma, and the product of brightness and colour factor for each channel."""
        draws = torch.rand(6)
        low, high = self.brightness
        factors = (0.9 + 0.2 * draws[2:5]) * (low + (high - low) * draws[1])
        return {"on": float(draws[5]) < self.p, "gamma": 0.9 + 0.2 * float(draws[0]), "factors": factors}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply to an image; other inputs are returned unchanged."""
        if not isinstance(inpt, tv_tensors.Image) or not params["on"]:
            return inpt
        values = (inpt.as_subclass(Tensor) / 255) ** params["gamma"] * params["factors"][:, None, None]
        return tv_tensors.wrap((values.clamp(0, 1) * 255).round().to(torch.uint8), like=inpt)


def bts_transform(
    img_size: Size,
    crop: Size | None,
    *,
    border: Part | None = None,
    rotate: float = 0.0,
    rotate_p: float = 0.5,
    flip: float = 0.5,
    colour: float = 0.0,
    brightness: tuple[float, float] = (0.75, 1.25),
) -> v2.Transform:
    """BTS's augmentation, which DINOv2's and DINOv3's depth probes share: rotate, flip, crop, colour.

    Args:
        img_size: Height and width that whole images are resized to [px].
        crop: Size of the random crop [px]; ``None`` for ``img_size``.
        border: The part of an image that is kept before resizing.
        rotate: Largest angle to either side [degrees].
        rotate_p: Probability of the rotation.
        flip: Probability of the horizontal flip.
        colour: Probability of the colour augmentation.
        brightness: Range of its brightness factor.

    Source: cleinc/bts @ 29d6a32; DINOv3's config-nyu.yaml (facebookresearch/dinov3 @ 6876159).
    """
    return v2.Compose(
        [
            Frame(img_size, border),
            Rotation(rotate, rotate_p if rotate else 0.0),
            v2.RandomHorizontalFlip(flip),
            v2.RandomCrop(crop or img_size, pad_if_needed=True),
            GammaBrightnessColour(brightness, colour),
        ]
    )


def probe3d_transform(img_size: Size, *, crop: float = 0.0, flip: float = 0.0, jitter: float = 0.8) -> v2.Transform:
    """Probe3D's augmentation: colour jitter, and a crop of half to all of the area in the shape of ``img_size``.

    Args:
        img_size: Height and width of the result [px].
        crop: Probability of the random crop; Probe3D uses 0.5 for NYU and none for NAVI.
        flip: Probability of the horizontal flip.
        jitter: Probability of the colour jitter.

    Source: get_nyu_transforms and get_navi_transforms of mbanani/probe3d @ 1fff822. It resizes images by nearest
    neighbour, here they are interpolated; its NYU crop is square, and stretched if the image is not square.
    """
    shape = img_size[1] / img_size[0]
    part = v2.RandomResizedCrop(img_size, scale=(0.5, 1.0), ratio=(shape, shape), antialias=True)
    return v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(0.2, 0.2, 0.2, 0.2)], p=jitter),
            Frame(img_size),
            v2.RandomHorizontalFlip(flip),
            v2.RandomApply([part], p=crop),
        ]
    )
