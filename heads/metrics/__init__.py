"""Metrics over a whole split."""

from .coco_scores import Scores, coco_scores
from .depth import DepthMetrics
from .detection import DetectionResults
from .normals import NormalsMetrics
from .segmentation import SegmentationMetrics

__all__ = ["DepthMetrics", "DetectionResults", "NormalsMetrics", "Scores", "SegmentationMetrics", "coco_scores"]
