"""Depth and normal maps as tensors with their own kernels for torchvision's v2 transforms.

Both use nearest-neighbour sampling: an average of a chair and the wall behind it is a surface that does not exist.
Pixels that a transform adds around the image are 0, no reading. Transforms that distort the geometry (affine,
perspective, elastic) raise an error.

Resizing an image keeps its depths. The result is the same scene seen with another focal length, so the camera matrix
is scaled. A network that predicts metric depth from pixels alone should see a single focal length.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as V

from ...geometry.record import Geometry

Map = TypeVar("Map", bound="SurfaceMap")


class SurfaceMap(tv_tensors.Mask):
    """Base of depth and normal maps. As a Mask, colour transforms leave it alone, and it is 0 outside the image."""


class DepthMap(SurfaceMap):
    """Depth along the optical axis [m], ``(1, H, W)``; 0 means no reading."""


class NormalMap(SurfaceMap):
    """Unit normals ``(3, H, W)``, x right, y down, z forward; 0 means no reading. They rotate with the image."""


class Intrinsics(tv_tensors.TVTensor):
    """Camera matrix ``(3, 3)`` [px] of the original image of a :class:`~heads.geometry.record.Geometry`."""


class Rotation(v2.Transform):
    """Rotate by a random angle about the centre of the image; the size is kept.

    Images are interpolated; depth and normals use nearest-neighbour sampling, and normals are rotated, too. The camera
    matrix becomes that of a rolled camera (exact for square pixels). A Geometry cannot represent a rotation: it is
    reset, with the rotated image as its original.

    Args:
        degrees: Largest angle to either side.
        p: Probability.
    """

    def __init__(self, degrees: float, p: float = 0.5) -> None:
        super().__init__()
        self.degrees = degrees
        self.p = p

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The angle, counter-clockwise [degrees], and the Geometry before the rotation."""
        drawn = float(torch.rand(())) < self.p
        angle = (2 * float(torch.rand(())) - 1) * self.degrees
        return {
            "angle": angle if drawn else 0.0,
            "geometry": next((inpt for inpt in flat_inputs if isinstance(inpt, Geometry)), None),
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Rotate one input."""
        angle, geometry = params["angle"], params["geometry"]
        if angle == 0:
            return inpt
        if isinstance(inpt, Geometry):
            return Geometry.of(inpt.image_size)
        if isinstance(inpt, Intrinsics):
            if geometry is None:
                raise ValueError(
                    "Got a camera matrix without the Geometry of its image; expected both to rotate it. Pass both."
                )
            return tv_tensors.wrap(_rolled(geometry.intrinsics(inpt.as_subclass(Tensor)), angle, geometry), like=inpt)
        return V.rotate(inpt, angle, interpolation=InterpolationMode.BILINEAR)


def _turn(angle: float) -> Tensor:
    """Matrix that rotates (x right, y down) by an angle [degrees], counter-clockwise as seen in the image."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)


def _rolled(matrix: Tensor, angle: float, geometry: Geometry) -> Tensor:
    """The camera matrix after a rotation about the image centre, which moves the principal point."""
    height, width = geometry.image_size
    middle = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    rolled = matrix.clone()
    rolled[:2, 2] = (_turn(angle) @ (matrix[:2, 2].double() - middle) + middle).to(matrix.dtype)
    return rolled


def _like(values: Tensor, given: Map) -> Map:
    return tv_tensors.wrap(values, like=given)  # type: ignore[no-any-return]


def _resized(given: Map, size: Any, *args: Any, **kwargs: Any) -> Map:
    """Nearest-neighbour by pixel centres; torchvision's default for masks shifts them by up to half a pixel."""
    values, mode = given.as_subclass(Tensor), InterpolationMode.NEAREST_EXACT
    return _like(V.resize_image(values, size, mode, max_size=kwargs.get("max_size"), antialias=False), given)


def _resized_crop(
    given: Map, top: int, left: int, height: int, width: int, size: Any, *args: Any, **kwargs: Any
) -> Map:
    cropped: Map = V.crop(given, top, left, height, width)
    return _resized(cropped, size)


def _flipped(dim: int, component: int) -> Callable[[NormalMap], NormalMap]:
    def flip(given: NormalMap) -> NormalMap:
        values = given.as_subclass(Tensor).flip(dim)
        values[component] = 0 - values[component]  # unlike negation, keeps 0 instead of -0
        return _like(values, given)

    return flip


def _padded(given: Map, padding: Any, *args: Any, **kwargs: Any) -> Map:
    """Pad with 0, ignoring the fill value of images and masks."""
    return _like(V.pad_mask(given.as_subclass(Tensor), padding), given)


def _rotated(given: Map, angle: float, *args: Any, expand: bool = False, center: Any = None, **kwargs: Any) -> Map:
    values = V.rotate_mask(given.as_subclass(Tensor), angle, expand=expand, center=center)
    if isinstance(given, NormalMap):
        values[:2] = torch.einsum("ij,jhw->ihw", _turn(angle).to(values.dtype), values[:2])
    return _like(values, given)


def _refused(name: str) -> Callable[..., Any]:
    def refuse(given: SurfaceMap, *args: Any, **kwargs: Any) -> Any:
        raise ValueError(
            f"{name} of a {type(given).__name__} would not be a valid camera view; expected resize, crop, flip, pad or "
            "rotation. Use only those."
        )

    return refuse


_KERNELS: dict[Callable[..., Any], Callable[..., Any]] = {
    V.resize: _resized,
    V.resized_crop: _resized_crop,
    V.pad: _padded,
    V.rotate: _rotated,
} | {f: _refused(f.__name__) for f in (V.affine, V.perspective, V.elastic)}

for _function, _kernel in _KERNELS.items():
    V.register_kernel(_function, SurfaceMap)(_kernel)
# flips of a DepthMap are those of a Mask; those of normals negate x or y, too
V.register_kernel(V.horizontal_flip, NormalMap)(_flipped(-1, 0))
V.register_kernel(V.vertical_flip, NormalMap)(_flipped(-2, 1))
