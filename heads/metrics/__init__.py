"""Metrics over a whole split."""

from .depth import DepthMetrics
from .normals import NormalsMetrics
from .segmentation import SegmentationMetrics

__all__ = ["DepthMetrics", "NormalsMetrics", "SegmentationMetrics"]
