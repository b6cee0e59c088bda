"""Metrics over a whole split."""

from .segmentation import SegmentationMetrics

__all__ = ["SegmentationMetrics"]
