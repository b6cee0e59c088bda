"""Training losses of the tasks."""

from .depth import DepthAlignment, GradientLoss, ScaleShiftInvariantLoss, SigLoss, valid_depth
from .normals import AngularLoss, UncertaintyLoss, valid_normals
from .segmentation import SegmentationLoss, build_loss
from .upsampled_cross_entropy import upsampled_cross_entropy

__all__ = [
    "AngularLoss",
    "DepthAlignment",
    "GradientLoss",
    "ScaleShiftInvariantLoss",
    "SegmentationLoss",
    "SigLoss",
    "UncertaintyLoss",
    "build_loss",
    "upsampled_cross_entropy",
    "valid_depth",
    "valid_normals",
]
