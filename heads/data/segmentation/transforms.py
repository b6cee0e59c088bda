"""Training transforms of an image and its label map, on torchvision v2 and its tv_tensors."""

from typing import Any, Literal

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from ..classes import IGNORE
from ..sizes import GREY, CropTo, Size, short_side_size
from .photometric import PhotometricDistortion

Recipe = Literal["plain", "dinov2", "dinov3"]

_TRIES = 10  # further crops drawn until one is varied enough
_MOST = 0.75  # one class must fill less than this fraction of a crop


class ScaleJitter(v2.Transform):
    """Resize so that the whole image fits into ``size`` (height, width) [px], times a random factor from ``scale``.

    torchvision's ScaleJitter (0.29) confuses height and width, which shrinks every image that is not square, and rounds
    the short side of a long image down to 0.

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
        """Resize one input: labels with nearest-neighbour sampling, images bilinearly with antialiasing."""
        return v2.functional.resize(inpt, params["size"], antialias=True)


class ShortSideJitter(v2.Transform):
    """Resize so that the short side is ``size`` [px] times a random factor from ``scale``; the aspect ratio is kept.

    Args:
        size: Short side [px].
        scale: Range of the factor.
    """

    def __init__(self, size: int, scale: tuple[float, float]) -> None:
        super().__init__()
        self.size = size
        self.scale = scale

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Height and width to resize to."""
        low, high = self.scale
        factor = low + float(torch.rand(())) * (high - low)
        return {"size": short_side_size(v2.query_size(flat_inputs), max(1, int(self.size * factor)))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize one input: labels with nearest-neighbour sampling, images bilinearly with antialiasing."""
        return v2.functional.resize(inpt, list(params["size"]), antialias=True)


class VariedCrop(CropTo):
    """A random crop of at most ``size``, redrawn up to ten times until no class fills three quarters of it.

    Ignored pixels do not count. A side shorter than ``size`` is kept.

    Args:
        size: Height and width [px].

    Source: RandomCrop of open-mmlab/mmsegmentation with ``cat_max_ratio=0.75``.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Top, left, height and width of the crop."""
        masks = [x.as_subclass(Tensor) for x in flat_inputs if isinstance(x, tv_tensors.Mask)]
        for _ in range(_TRIES + 1):
            crop = super().make_params(flat_inputs)
            rows = slice(crop["top"], crop["top"] + crop["height"])
            columns = slice(crop["left"], crop["left"] + crop["width"])
            if all(_varied(mask[..., rows, columns]) for mask in masks):
                break
        return crop


def _varied(mask: Tensor) -> bool:
    counts = torch.bincount(mask.flatten(), minlength=IGNORE + 1)[:IGNORE]
    return int((counts > 0).sum()) > 1 and float(counts.max() / counts.sum()) < _MOST


class PadTo(v2.Transform):
    """Pad on the right and below to at least ``size`` (height, width) [px]: images with grey, labels with ignore."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The padding on each side."""
        height, width = v2.query_size(flat_inputs)
        return {"padding": [0, 0, max(0, self.size[1] - width), max(0, self.size[0] - height)]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Pad one input."""
        fill = IGNORE if isinstance(inpt, tv_tensors.Mask) else round(255 * GREY)  # the recipes pad with the mean
        return v2.functional.pad(inpt, params["padding"], fill=fill)


def train_transform(size: Size, scale: tuple[float, float] = (0.5, 2.0), recipe: Recipe = "plain") -> v2.Transform:
    """Random scale, crop to ``size`` (height, width) [px] and horizontal flip.

    * ``plain``: the image is scaled relative to its fit into ``size``. If it is smaller than the crop, the rest is
      black and its labels are ignored.
    * ``dinov2``, ``dinov3``: the short side is scaled, no class fills a whole crop, colours are distorted, and the
      padding on the right and below is grey. They differ in the colour distortion. SigLIP 2's probes follow TIPS, and
      TIPS follows DINOv2.

    Raises:
        ValueError: The recipe is unknown.

    Source: mmsegmentation's pipeline as in DINOv2's heads (facebookresearch/dinov2 @ b8931f7), and
    ``make_segmentation_train_transforms`` of facebookresearch/dinov3 @ 6876159. mmsegmentation resizes without
    antialiasing; DINOv3 and this function with it.
    """
    if recipe == "plain":
        fill = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORE}
        crop = v2.RandomCrop(size, pad_if_needed=True, fill=fill)
        return v2.Compose([ScaleJitter(size, scale), crop, v2.RandomHorizontalFlip()])
    colours = {"dinov2": PhotometricDistortion(0.1, "hsv"), "dinov3": PhotometricDistortion(0.5, "blend")}
    if recipe not in colours:
        raise ValueError(f"recipe is {recipe!r}; expected plain, {' or '.join(colours)}.")
    resize = ShortSideJitter(min(size), scale)
    return v2.Compose([resize, VariedCrop(size), v2.RandomHorizontalFlip(), colours[recipe], PadTo(size)])
