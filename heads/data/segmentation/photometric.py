"""Photometric distortion of training images, as in the segmentation recipes."""

from typing import Any, Literal

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

_BRIGHTNESS = 32.0  # largest shift, on the scale of 255
_FACTORS = (0.5, 1.5)  # of contrast and saturation


class PhotometricDistortion(v2.Transform):
    """Brightness, contrast, saturation and hue of a uint8 image, each changed with probability 1/2.

    torchvision's RandomPhotometricDistort differs: it multiplies the brightness, scales the contrast around the mean
    grey, and swaps channels.

    Args:
        hue: Largest shift of the hue, as a fraction of the circle.
        saturation: hsv scales the S of HSV; blend mixes with the grey image.

    Source: PhotoMetricDistortion of open-mmlab/mmsegmentation (hue 0.1, hsv; its 8-bit HSV has hues in steps of 2
    degrees), and of facebookresearch/dinov3 @ 6876159 (hue 0.5, blend).
    """

    def __init__(self, hue: float, saturation: Literal["hsv", "blend"]) -> None:
        super().__init__()
        self.hue = hue
        self.saturation = saturation

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Names and amounts of the changes, in their order."""
        amounts = {
            "brightness": _uniform(-_BRIGHTNESS, _BRIGHTNESS),
            "contrast": _uniform(*_FACTORS),
            "saturation": _uniform(*_FACTORS),
            "hue": _uniform(-self.hue, self.hue),
        }
        contrast_last = bool(torch.rand(()) < 0.5)
        order = ["brightness", "saturation", "hue"]
        order.insert(3 if contrast_last else 1, "contrast")
        return {"steps": [(name, amounts[name]) for name in order if torch.rand(()) < 0.5]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Distort an image; return any other input unchanged."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        image = inpt.as_subclass(Tensor)
        for name, amount in params["steps"]:
            image = self._step(image, name, amount)
        return tv_tensors.wrap(image, like=inpt)

    def _step(self, image: Tensor, name: str, amount: float) -> Tensor:
        if name == "brightness":
            return _to_8_bit(image.float() + amount)
        if name == "contrast":
            return _to_8_bit(image.float() * amount)
        if name == "hue":
            return V.adjust_hue(image, amount)  # type: ignore[no-any-return]
        return scale_saturation(image, amount) if self.saturation == "hsv" else V.adjust_saturation(image, amount)


def scale_saturation(image: Tensor, factor: float) -> Tensor:
    """A uint8 image ``(3, H, W)`` with the S of HSV times ``factor``, at most 1; H and V stay.

    S is (V - min) / V, so this moves each channel away from V or towards it.
    """
    pixels = image.float()
    value = pixels.amax(dim=0)
    chroma = (value - pixels.amin(dim=0)).clamp(min=1e-6)
    # value / chroma is 1 / S, the largest factor that keeps S at most 1
    return _to_8_bit(value - (value - pixels) * torch.clamp(value / chroma, max=factor))


def _to_8_bit(image: Tensor) -> Tensor:
    return image.clamp(0, 255).round().byte()


def _uniform(low: float, high: float) -> float:
    return low + float(torch.rand(())) * (high - low)
