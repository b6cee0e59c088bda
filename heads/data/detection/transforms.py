"""Augmentation of an image with its boxes and instance masks, built on torchvision v2 and its tv_tensors."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

from ..sizes import CropTo, Fit, Size

DetectionRecipe = Literal["lsj", "resize", "plain"]

_SHORT_SIDES = 11  # DETR's sizes: 480 to 800 px in steps of 32
_SHORTEST = 0.6
_CUT = 0.01  # [px]; a box beyond the border by no more than this is not cut, only rounded


class RandomResize(v2.Transform):
    """Resize to a size drawn from several fits, times a random factor; the aspect ratio is kept.

    Masks take the pixel at the centre of each new pixel. torchvision's default takes the pixel at its corner, which
    shifts a mask that is made smaller by up to half a pixel against image and boxes.

    Args:
        fits: Sizes that the image is resized to fit into.
        scale: Range of the factor.
    """

    def __init__(self, fits: Sequence[Fit], scale: tuple[float, float] = (1.0, 1.0)) -> None:
        super().__init__()
        self.fits = fits
        self.scale = scale

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Height and width to resize to."""
        low, high = self.scale
        fit = self.fits[int(torch.randint(len(self.fits), ()))]
        return {"size": fit.of(v2.query_size(flat_inputs), low + float(torch.rand(())) * (high - low))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize one input: masks by nearest neighbour, images bilinearly with antialiasing."""
        if isinstance(inpt, tv_tensors.Mask):
            return tv_tensors.Mask(resized_masks(inpt.as_subclass(Tensor), params["size"]))
        return V.resize(inpt, list(params["size"]), antialias=True)


def resized_masks(masks: Tensor, size: Size) -> Tensor:
    """Resize bool masks ``(N, H, W)`` to a height and width [px], by nearest neighbour at pixel centres."""
    pixels = masks.unsqueeze(1).view(torch.uint8)  # interpolate has no kernel for bool
    return F.interpolate(pixels, size, mode="nearest-exact").view(torch.bool).squeeze(1)


def detection_transform(
    size: Size, scale: tuple[float, float] = (0.1, 2.0), recipe: DetectionRecipe = "lsj"
) -> v2.Transform:
    """Random size, crop and horizontal flip of image, boxes, instance masks and geometry together.

    Images are not padded here, but in the batch, to its largest image.

    * ``lsj``, large-scale jitter: the image is resized to fit into ``size`` (height, width) [px] times a factor from
      ``scale``, and cropped to at most ``size``.
    * ``resize``: the short side is drawn from eleven sizes between 0.6 and 1 times the short side of ``size``, the
      long side is at most that of ``size``; (800, 1333) gives DETR's 480 to 800.
    * ``plain``: the image is resized to fit into ``size``, in either orientation.

    Raises:
        ValueError: The recipe is unknown.

    Source: ``coco_loader_lsj`` of facebookresearch/detectron2 (ViTDet; it pads to a square), and
    ``make_coco_transforms`` of facebookresearch/detr (without its crops), whose sizes torchvision's references share.
    """
    steps: dict[str, list[v2.Transform]] = {
        "lsj": [RandomResize([Fit(size)], scale), CropTo(size)],
        "resize": [RandomResize(_short_sides(size))],
        "plain": [RandomResize([Fit(size, turns=True)])],
    }
    if recipe not in steps:
        raise ValueError(f"recipe is {recipe!r}; expected {', '.join(steps)}.")
    return v2.Compose([*steps[recipe], v2.RandomHorizontalFlip()])


def _short_sides(size: Size) -> list[Fit]:
    short, long = sorted(size)
    factors = torch.linspace(_SHORTEST, 1, _SHORT_SIDES).tolist()
    return [Fit((max(1, round(short * factor)), long), turns=True) for factor in factors]


def in_view(boxes: Tensor, masks: Tensor | None, size: Size, min_visible: float = 0.0) -> tuple[Tensor, Tensor]:
    """Clip objects to the image, and find those to keep.

    A box cut by the image border is clipped; with masks it also shrinks to the visible part of its mask, which can be
    smaller than the clipped box.

    Args:
        boxes: xyxy ``(N, 4)`` [px], not clipped yet.
        masks: bool ``(N, H, W)`` within the image, or ``None``.
        size: Height and width of the image [px].
        min_visible: Smallest fraction of a box's area that must be visible.

    Returns:
        The boxes ``(N, 4)``, and which objects to keep, bool ``(N,)``: those whose box has sides of at least
        1 px and at least ``min_visible`` of its area, and, with masks, whose mask has a pixel.

    Source: ``recompute_boxes`` of facebookresearch/detectron2's DatasetMapper, which ViTDet sets. It recomputes
    every box; here an uncut box stays as annotated, because the mask of a downsized image is coarser.
    """
    limit = boxes.new_tensor([size[1], size[0]] * 2)
    clipped = boxes.clamp(min=0).minimum(limit)
    enough = _area(clipped) >= min_visible * _area(boxes)
    if masks is not None:
        drawn = mask_boxes(masks)
        around = torch.cat([clipped[:, :2].maximum(drawn[:, :2]), clipped[:, 2:].minimum(drawn[:, 2:])], dim=1)
        cut = ((clipped - boxes).abs() > _CUT).any(1, keepdim=True)
        clipped = torch.where(cut, around, clipped)
        enough &= drawn[:, 2] > 0  # the mask has a pixel
    return clipped, enough & ((clipped[:, 2:] - clipped[:, :2]) >= 1).all(1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def mask_boxes(masks: Tensor) -> Tensor:
    """Boxes ``(N, 4)``, xyxy [px], around the pixels of masks ``(N, H, W)``; an empty mask has a box of zeros.

    torchvision's ``masks_to_boxes`` ends at the last pixel's index instead of its far edge, so boxes are 1 px too
    small, and an empty mask cannot be told from one with a pixel.
    """
    ends = [_ends(masks.any(dim)) for dim in (1, 2)]  # of the columns (x), then of the rows (y)
    return torch.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], dim=1).float()


def _ends(seen: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the first True, and one past the last, in each row of bool ``(N, length)``; 0 and 0 if there is none."""
    count = seen.shape[1]
    places = torch.arange(count)
    first = torch.where(seen, places, count).amin(1)
    last = torch.where(seen, places + 1, 0).amax(1)
    return torch.where(last > 0, first, 0), last
