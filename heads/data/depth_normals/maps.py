"""Depth and normals as tensors that torchvision's v2 transforms treat as what they are.

Both are picked, never blended: between a chair and the wall behind it there is no surface. What a transform adds around
the image is 0, no reading. A transform that would bend the geometry (affine, perspective, elastic) is refused.

The depths of an image that is resized stay as they are. That is the same scene seen with another focal length, so the
camera matrix follows; a network that is to tell metres from pixels alone should see one focal length.
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
    """What depth and normals share; as a Mask it keeps its values in colour transforms and is 0 outside the image."""


class DepthMap(SurfaceMap):
    """Depth along the optical axis [m], ``(1, H, W)``; 0 is no reading."""


class NormalMap(SurfaceMap):
    """Unit normals ``(3, H, W)``, x to the right, y down, z forward; 0 is no reading. They turn with the image."""


class Intrinsics(tv_tensors.TVTensor):
    """Camera matrix ``(3, 3)`` [px] of the original that a :class:`~heads.geometry.record.Geometry` starts from."""


class Rotation(v2.Transform):
    """Turn by a random angle about the middle of the image; its size stays.

    Images are interpolated, depth and normals picked, and normals turned with them; the camera matrix follows, as of a
    camera that rolls (exact for square pixels). A Geometry cannot hold a rotation: it starts anew with the turned image
    as its original.

    Args:
        degrees: Largest angle to either side.
        p: Probability.
    """

    def __init__(self, degrees: float, p: float = 0.5) -> None:
        super().__init__()
        self.degrees = degrees
        self.p = p

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The angle, counter-clockwise [degrees], and the record so far."""
        drawn = float(torch.rand(())) < self.p
        angle = (2 * float(torch.rand(())) - 1) * self.degrees
        return {
            "angle": angle if drawn else 0.0,
            "geometry": next((inpt for inpt in flat_inputs if isinstance(inpt, Geometry)), None),
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Turn one input."""
        angle, geometry = params["angle"], params["geometry"]
        if angle == 0:
            return inpt
        if isinstance(inpt, Geometry):
            return Geometry.of(inpt.image_size)
        if isinstance(inpt, Intrinsics):
            if geometry is None:
                raise ValueError("A camera matrix can be turned only beside the Geometry of its image: pass both.")
            return tv_tensors.wrap(_rolled(geometry.intrinsics(inpt.as_subclass(Tensor)), angle, geometry), like=inpt)
        return V.rotate(inpt, angle, interpolation=InterpolationMode.BILINEAR)


def _turn(angle: float) -> Tensor:
    """Rotation of (x right, y down) that looks counter-clockwise [degrees]."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)


def _rolled(matrix: Tensor, angle: float, geometry: Geometry) -> Tensor:
    height, width = geometry.image_size
    middle = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    rolled = matrix.clone()
    rolled[:2, 2] = (_turn(angle) @ (matrix[:2, 2].double() - middle) + middle).to(matrix.dtype)
    return rolled


def _like(values: Tensor, given: Map) -> Map:
    return tv_tensors.wrap(values, like=given)  # type: ignore[no-any-return]


def _resized(given: Map, size: Any, *args: Any, **kwargs: Any) -> Map:
    """To the nearest pixel by the centres; torchvision's own way with masks shifts them by half a pixel."""
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
        values[component] = 0 - values[component]  # not -0
        return _like(values, given)

    return flip


def _padded(given: Map, padding: Any, *args: Any, **kwargs: Any) -> Map:
    """With 0, whatever images and masks are filled with."""
    return _like(V.pad_mask(given.as_subclass(Tensor), padding), given)


def _rotated(given: Map, angle: float, *args: Any, expand: bool = False, center: Any = None, **kwargs: Any) -> Map:
    values = V.rotate_mask(given.as_subclass(Tensor), angle, expand=expand, center=center)
    if isinstance(given, NormalMap):
        values[:2] = torch.einsum("ij,jhw->ihw", _turn(angle).to(values.dtype), values[:2])
    return _like(values, given)


def _refused(name: str) -> Callable[..., Any]:
    def refuse(given: SurfaceMap, *args: Any, **kwargs: Any) -> Any:
        raise ValueError(
            f"{name} of a {type(given).__name__} would not be the depth or the normals of any camera's view. Use "
            "resizes, crops, flips, padding and rotations."
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
V.register_kernel(V.horizontal_flip, NormalMap)(_flipped(-1, 0))
V.register_kernel(V.vertical_flip, NormalMap)(_flipped(-2, 1))
