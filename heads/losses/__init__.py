"""Losses that the tasks train with."""

from .depth import DepthAlignment, GradientLoss, ScaleShiftInvariantLoss, SigLoss, valid_depth
from .normals import AngularLoss, UncertaintyLoss, valid_normals

__all__ = [
    "AngularLoss",
    "DepthAlignment",
    "GradientLoss",
    "ScaleShiftInvariantLoss",
    "SigLoss",
    "UncertaintyLoss",
    "valid_depth",
    "valid_normals",
]
