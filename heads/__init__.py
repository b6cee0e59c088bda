"""Tasks, data modules and tools on top of dense features.

Names are imported on first use, so that ``siglip2 --help`` does not wait for torch and Lightning. YAML files and
checkpoints store them: a public name never changes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backbones.extractor import Extractor
    from .data.depth_normals.folder import DepthFolder, NormalsFolder
    from .data.depth_normals.kitti import KITTIEigen
    from .data.depth_normals.navi import NAVI
    from .data.depth_normals.nyu import NYUv2, NYUv2BTS
    from .data.depth_normals.nyu_normals import NYUv2Normals
    from .data.detection.coco import COCODetection
    from .data.detection.coco_folder import COCOFolder
    from .data.detection.lvis import LVIS
    from .data.detection.voc import PascalVOCDetection, VOCFolder
    from .data.module import DenseDataModule
    from .data.scenes.module import GeneratedScenes
    from .data.segmentation.ade20k import ADE20K
    from .data.segmentation.cityscapes import Cityscapes
    from .data.segmentation.coco_stuff import COCOStuff
    from .data.segmentation.folder import SegmentationFolder
    from .data.segmentation.pascal import PascalContext, PascalVOC
    from .storage.hub import push
    from .storage.loading import export, load
    from .tasks.depth import DepthTask
    from .tasks.detection import DetectionTask
    from .tasks.normals import NormalsTask
    from .tasks.segmentation import SegmentationTask

# public name -> module that defines it
_HOMES = {
    "ADE20K": "data.segmentation.ade20k",
    "COCODetection": "data.detection.coco",
    "COCOFolder": "data.detection.coco_folder",
    "COCOStuff": "data.segmentation.coco_stuff",
    "Cityscapes": "data.segmentation.cityscapes",
    "DenseDataModule": "data.module",
    "DepthFolder": "data.depth_normals.folder",
    "DepthTask": "tasks.depth",
    "DetectionTask": "tasks.detection",
    "Extractor": "backbones.extractor",
    "GeneratedScenes": "data.scenes.module",
    "KITTIEigen": "data.depth_normals.kitti",
    "LVIS": "data.detection.lvis",
    "NAVI": "data.depth_normals.navi",
    "NYUv2": "data.depth_normals.nyu",
    "NYUv2BTS": "data.depth_normals.nyu",
    "NYUv2Normals": "data.depth_normals.nyu_normals",
    "NormalsFolder": "data.depth_normals.folder",
    "NormalsTask": "tasks.normals",
    "PascalContext": "data.segmentation.pascal",
    "PascalVOC": "data.segmentation.pascal",
    "PascalVOCDetection": "data.detection.voc",
    "SegmentationFolder": "data.segmentation.folder",
    "SegmentationTask": "tasks.segmentation",
    "VOCFolder": "data.detection.voc",
    "export": "storage.loading",
    "load": "storage.loading",
    "push": "storage.hub",
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
