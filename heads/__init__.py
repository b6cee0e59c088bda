"""Tasks, data modules and tools on top of dense features.

Names are imported on first use, so that ``siglip2 --help`` does not wait for torch and Lightning. They are stored in
YAML files and checkpoints: a public name never moves.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.ade20k import ADE20K
    from .data.cityscapes import Cityscapes
    from .data.coco import COCODetection
    from .data.coco_folder import COCOFolder
    from .data.coco_stuff import COCOStuff
    from .data.generated_scenes import GeneratedScenes
    from .data.kitti import KITTIEigen
    from .data.lvis import LVIS
    from .data.module import DenseDataModule
    from .data.navi import NAVI
    from .data.nyu import NYUv2, NYUv2BTS
    from .data.nyu_normals import NYUv2Normals
    from .data.pascal import PascalContext, PascalVOC
    from .data.segmentation_folder import SegmentationFolder
    from .data.surface_folders import DepthFolder, NormalsFolder
    from .data.voc_detection import PascalVOCDetection, VOCFolder
    from .depth import DepthTask
    from .detection import DetectionTask
    from .extractor import Extractor
    from .loading import export, load
    from .normals import NormalsTask
    from .segmentation import SegmentationTask
    from .sharing import push

_HOMES = {
    "ADE20K": "data.ade20k",
    "COCODetection": "data.coco",
    "COCOFolder": "data.coco_folder",
    "COCOStuff": "data.coco_stuff",
    "Cityscapes": "data.cityscapes",
    "DenseDataModule": "data.module",
    "DepthFolder": "data.surface_folders",
    "DepthTask": "depth",
    "DetectionTask": "detection",
    "Extractor": "extractor",
    "GeneratedScenes": "data.generated_scenes",
    "KITTIEigen": "data.kitti",
    "LVIS": "data.lvis",
    "NAVI": "data.navi",
    "NYUv2": "data.nyu",
    "NYUv2BTS": "data.nyu",
    "NYUv2Normals": "data.nyu_normals",
    "NormalsFolder": "data.surface_folders",
    "NormalsTask": "normals",
    "PascalContext": "data.pascal",
    "PascalVOC": "data.pascal",
    "PascalVOCDetection": "data.voc_detection",
    "SegmentationFolder": "data.segmentation_folder",
    "SegmentationTask": "segmentation",
    "VOCFolder": "data.voc_detection",
    "export": "loading",
    "load": "loading",
    "push": "sharing",
}

__all__ = [
    "ADE20K",
    "LVIS",
    "NAVI",
    "COCODetection",
    "COCOFolder",
    "COCOStuff",
    "Cityscapes",
    "DenseDataModule",
    "DepthFolder",
    "DepthTask",
    "DetectionTask",
    "Extractor",
    "GeneratedScenes",
    "KITTIEigen",
    "NYUv2",
    "NYUv2BTS",
    "NYUv2Normals",
    "NormalsFolder",
    "NormalsTask",
    "PascalContext",
    "PascalVOC",
    "PascalVOCDetection",
    "SegmentationFolder",
    "SegmentationTask",
    "VOCFolder",
    "export",
    "load",
    "push",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
