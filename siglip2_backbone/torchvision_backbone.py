"""A pyramid as the backbone of torchvision's detectors."""

from collections import OrderedDict

from torch import Tensor, nn

from .features import FeatureMaps
from .pyramid import Pyramid


class TorchvisionBackbone(nn.Module):
    """The result of :func:`as_torchvision`: images ``(B, C, H, W)`` to an ordered dict of maps, "0" first.

    Args:
        model: The backbone, held as ``model``.

    Attributes:
        out_channels: Channels of every map.
    """

    def __init__(self, model: Pyramid | FeatureMaps) -> None:
        super().__init__()
        channels = model.feature_info.channels()
        if len(set(channels)) != 1:
            raise ValueError(f"The maps have {channels} channels; torchvision's detectors expect one number for all.")
        self.model = model
        self.out_channels: int = channels[0]

    def forward(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        """Maps of normalised images, keyed "0", "1", and so on in the order of the backbone."""
        return OrderedDict((str(i), m) for i, m in enumerate(self.model(x)))


def as_torchvision(model: Pyramid | FeatureMaps) -> TorchvisionBackbone:
    """Wrap a pyramid (or plain maps) as the backbone of torchvision's FasterRCNN, MaskRCNN, RetinaNet or FCOS.

    Two defaults of these detectors do not fit. They normalise with the mean and std of ImageNet: pass
    ``image_mean`` and ``image_std`` from ``model.pretrained_cfg``. Their anchors assume another number of levels:
    pass an ``AnchorGenerator`` with one tuple of sizes for each of the four levels.

    Raises:
        ValueError: The maps differ in their channels, or ``model`` is neither a pyramid nor FeatureMaps.
    """
    if not isinstance(model, Pyramid | FeatureMaps):
        raise ValueError(
            f"model is a {type(model).__name__}; expected a pyramid or FeatureMaps, as create_backbone returns them."
        )
    return TorchvisionBackbone(model)
