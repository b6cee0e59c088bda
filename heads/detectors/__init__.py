"""Detectors by name; each is a head on a backbone's maps."""

from collections.abc import Callable, Sequence

from .base import Detections, Detector, Limits, Size, Target
from .set_prediction import SetPrediction
from .torchvision_detectors import FasterRCNNDetector, FCOSDetector, MaskRCNNDetector, RetinaNetDetector

DETECTORS: dict[str, Callable[..., Detector]] = {
    "faster_rcnn": FasterRCNNDetector,
    "mask_rcnn": MaskRCNNDetector,
    "retinanet": RetinaNetDetector,
    "fcos": FCOSDetector,
    "set_prediction": SetPrediction,
}


def build_detector(
    name: str,
    channels: Sequence[int],
    reductions: Sequence[int],
    num_classes: int,
    limits: Limits | None = None,
    /,
    **args: object,
) -> Detector:
    """Build a detector by name.

    Raises:
        ValueError: The name is unknown, or the detector has no such argument.
    """
    if name not in DETECTORS:
        raise ValueError(f"detector is {name!r}; expected one of {', '.join(DETECTORS)}.")
    try:
        return DETECTORS[name](channels, reductions, num_classes, limits, **args)
    except TypeError as error:
        raise ValueError(f"detector_args {args} do not fit the detector {name!r}: {error}.") from error


__all__ = [
    "DETECTORS",
    "Detections",
    "Detector",
    "FCOSDetector",
    "FasterRCNNDetector",
    "Limits",
    "MaskRCNNDetector",
    "RetinaNetDetector",
    "SetPrediction",
    "Size",
    "Target",
    "build_detector",
]
