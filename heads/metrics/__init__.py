"""Metrics over a whole split."""

from .coco_scores import CocoScores, coco_scores
from .depth import DepthMetrics
from .detection import DetectionResults
from .normals import NormalsMetrics
from .segmentation import SegmentationMetrics

__all__ = ["CocoScores", "DepthMetrics", "DetectionResults", "NormalsMetrics", "SegmentationMetrics", "coco_scores"]
