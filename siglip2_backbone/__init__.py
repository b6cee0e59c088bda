"""The SigLIP 2 vision tower as timm models that return dense features.

Importing this package registers the models ``siglip2_*`` with timm.
"""

from . import registry as registry  # registers the names
from .dino import as_dino
from .factory import create_backbone
from .features import FeatureMaps
from .fingerprint import fingerprint
from .indices import tap_indices
from .pyramid import Pyramid, ResampledPyramid, SimpleFeaturePyramid
from .torchvision_backbone import as_torchvision
from .tower import Siglip2VisionTransformer
from .variants import VARIANTS, Variant

__all__ = [
    "VARIANTS",
    "FeatureMaps",
    "Pyramid",
    "ResampledPyramid",
    "Siglip2VisionTransformer",
    "SimpleFeaturePyramid",
    "Variant",
    "as_dino",
    "as_torchvision",
    "create_backbone",
    "fingerprint",
    "tap_indices",
]
