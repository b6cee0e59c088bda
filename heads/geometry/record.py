"""Invertible record of the resizes, crops, paddings and flips applied to an image.

Points are continuous: pixel i covers [i, i + 1). Each axis is scaled and shifted separately (a flip scales by -1), so
the record is four numbers, the two sizes, and the visible part of the original.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as V

Interpolation = Literal["bilinear", "nearest"]


class Geometry(tv_tensors.TVTensor):
    """Maps from an original image to the one that a network sees, and back.

    It travels with the image through torchvision's v2 transforms, which update it; a transform that it cannot record
    (rotation, perspective) raises an error. As a tensor it is float64 ``(12,)``: scale, shift, original size, size, and
    the visible part of the original.
    """

    @classmethod
    def of(cls, size: tuple[int, int]) -> "Geometry":
        """The record of an untouched image of this height and width [px]."""
        return cls._make((1.0, 1.0), (0.0, 0.0), size, size, (0.0, 0.0, *size))

    @classmethod
    def _make(cls, scale: Any, shift: Any, original: Any, size: Any, seen: Any) -> "Geometry":
        values = [*scale, *shift, *original, *size, *seen]
        return torch.tensor(values, dtype=torch.float64).as_subclass(cls)

    def _parts(self) -> tuple[list[float], ...]:
        """Scale, shift, original size, size, and top, left, bottom, right of the visible part; rows before columns."""
        values = self.tolist()
        return values[:2], values[2:4], values[4:6], values[6:8], values[8:]

    @property
    def original_size(self) -> tuple[int, int]:
        """Height and width of the original [px]."""
        height, width = self._parts()[2]
        return int(height), int(width)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the transformed image [px]."""
        height, width = self._parts()[3]
        return int(height), int(width)

    def boxes(self, boxes: Tensor) -> Tensor:
        """Map boxes of the original ``(..., 4)``, xyxy [px], to the transformed image, without clipping."""
        return self._map(boxes, lambda v, scale, shift: v * scale + shift)

    def original_boxes(self, boxes: Tensor) -> Tensor:
        """Map boxes of the image ``(..., 4)``, xyxy [px], to the original: the inverse of :meth:`boxes`."""
        return self._map(boxes, lambda v, scale, shift: (v - shift) / scale)

    def _map(self, boxes: Tensor, along: Callable[[Tensor, float, float], Tensor]) -> Tensor:
        (row_scale, column_scale), (row_shift, column_shift), *_ = self._parts()
        corners = boxes.double().reshape(*boxes.shape[:-1], 2, 2)
        x, y = along(corners[..., 0], column_scale, column_shift), along(corners[..., 1], row_scale, row_shift)
        ends = torch.stack([x, y], dim=-1)  # a flip swaps the corners
        return torch.cat([ends.amin(dim=-2), ends.amax(dim=-2)], dim=-1).to(boxes.dtype)

    def intrinsics(self, matrix: Tensor) -> Tensor:
        """The camera matrix ``(3, 3)`` [px] of the transformed image, from that of the original.

        For a flipped image it describes the mirrored scene: focal lengths stay positive.
        """
        (row_scale, column_scale), (row_shift, column_shift), *_ = self._parts()
        rows = [[column_scale, 0, column_shift], [0, row_scale, row_shift], [0, 0, 1]]
        sides = torch.tensor([math.copysign(1, column_scale), math.copysign(1, row_scale), 1])
        return (torch.tensor(rows, dtype=torch.float64) @ matrix.double() * sides).to(matrix.dtype)

    def to_original(self, maps: Tensor, mode: Interpolation = "bilinear", fill: float = 0.0) -> Tensor:
        """Resample maps of the image ``(..., H, W)`` to the original image.

        Padding is dropped before interpolation, and cropped parts are filled. After a resize alone this equals
        ``F.interpolate(..., align_corners=False)``, bit for bit.

        Args:
            maps: At the image's :attr:`image_size`.
            mode: bilinear for scores, nearest for labels.
            fill: Value outside the part of the original that the image shows.

        Raises:
            ValueError: The maps and the image differ in size.
        """
        if tuple(maps.shape[-2:]) != self.image_size:
            raise ValueError(
                f"The map is {tuple(maps.shape[-2:])} (height, width), its image {self.image_size}; expected equal "
                "sizes. Pass the map at the image's size."
            )
        scale, shift, original, size, seen = self._parts()
        resized = torch.allclose(torch.tensor(_times(original, scale)), torch.tensor(size))
        if resized and shift == [0, 0] and seen == [0, 0, *original]:
            return _interpolate(maps, self.original_size, mode)
        return self._axis_to_original(self._axis_to_original(maps, -2, mode, fill), -1, mode, fill)

    def _axis_to_original(self, maps: Tensor, dim: int, mode: Interpolation, fill: float) -> Tensor:
        """One axis of :meth:`to_original`; the other axis is unchanged."""
        places, first, last, outside = self._axis(dim, maps.device)
        if mode == "nearest":
            found = maps.index_select(dim, places.floor().long().clamp(first, last))
        else:
            left, right, weight = _neighbours(places, first, last)
            share = weight.to(maps.dtype).view([-1] + [1] * (-dim - 1))
            found = torch.lerp(maps.index_select(dim, left), maps.index_select(dim, right), share)
        return found.index_fill(dim, outside, fill)

    def axis_places(self, dim: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The image rows or columns that bilinear :meth:`to_original` interpolates, for each of the original's.

        Args:
            dim: -2 for the rows, -1 for the columns.

        Returns:
            On the CPU: indices of the two neighbours in the image, int64, possibly equal; the weight of the second,
            float64; and the indices in the original that the image does not show.
        """
        places, first, last, outside = self._axis(dim, torch.device("cpu"))
        return *_neighbours(places, first, last), outside

    def _axis(self, dim: int, device: torch.device) -> tuple[Tensor, int, int, Tensor]:
        """Image position of each original row or column, first and last image index that shows any, and those hidden.

        Rows and columns are sampled at their centres, i + 0.5.
        """
        scale, shift, original, _, seen = self._parts()
        axis = dim + 2
        middles = torch.arange(int(original[axis]), dtype=torch.float64, device=device) + 0.5
        edges = (seen[axis], seen[axis + 2])
        ends = sorted(edge * scale[axis] + shift[axis] for edge in edges)
        first, last = round(ends[0]), max(round(ends[0]), round(ends[1]) - 1)
        outside = ((middles < edges[0]) | (middles > edges[1])).nonzero().flatten()
        return middles * scale[axis] + shift[axis], first, last, outside


def _neighbours(places: Tensor, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels on both sides of each position, and the weight of the second one."""
    low = (places - 0.5).clamp(first, last)  # pixel i has its centre at i + 0.5
    left = low.floor().long()
    return left, (left + 1).clamp(max=last), low - left


def _interpolate(maps: Tensor, size: tuple[int, int], mode: Interpolation) -> Tensor:
    if tuple(maps.shape[-2:]) == size:
        return maps
    batch = maps.reshape(-1, 1, *maps.shape[-2:])
    if mode == "nearest":  # PyTorch supports it for floats and bytes only
        values = batch if maps.is_floating_point() else batch.double()
        found = F.interpolate(values, size=size, mode="nearest-exact").to(maps.dtype)
        return found.reshape(*maps.shape[:-2], *size)
    return F.interpolate(batch, size=size, mode="bilinear", align_corners=False).reshape(*maps.shape[:-2], *size)


def _resized(geometry: Geometry, size: Any, *args: Any, **kwargs: Any) -> Geometry:
    scale, shift, original, old, seen = geometry._parts()
    new = _output_size(old, size, kwargs.get("max_size"))
    by = [n / o for n, o in zip(new, old, strict=True)]
    return Geometry._make(_times(scale, by), _times(shift, by), original, new, seen)


def _output_size(old: list[float], size: Any, max_size: int | None) -> list[int]:
    """Height and width that torchvision's resize produces."""
    if isinstance(size, Sequence) and len(size) == 2:
        return list(size)  # no probe needed, which takes milliseconds
    probe = torch.empty(1, int(old[0]), int(old[1]), device="meta")
    return list(V.resize_image(probe, size, antialias=False, max_size=max_size).shape[-2:])


def _times(values: list[float], by: list[float]) -> list[float]:
    return [v * b for v, b in zip(values, by, strict=True)]


def _cropped(geometry: Geometry, top: int, left: int, height: int, width: int) -> Geometry:
    """A crop may reach beyond the image, as in torchvision; the part outside is padding."""
    scale, shift, original, _, seen = geometry._parts()
    shift = [shift[0] - top, shift[1] - left]
    cropped = Geometry._make(scale, shift, original, (height, width), seen)
    corners = torch.tensor([0.0, 0.0, width, height], dtype=torch.float64)
    x0, y0, x1, y1 = cropped.original_boxes(corners).tolist()
    part = [max(seen[0], y0), max(seen[1], x0), min(seen[2], y1), min(seen[3], x1)]
    return Geometry._make(scale, shift, original, (height, width), part)


def _padded(geometry: Geometry, padding: Any, *args: Any, **kwargs: Any) -> Geometry:
    scale, shift, original, (height, width), seen = geometry._parts()
    sides = [padding] if isinstance(padding, int) else list(padding)
    left, top, right, bottom = sides * (4 // len(sides))
    size = (height + top + bottom, width + left + right)
    return Geometry._make(scale, [shift[0] + top, shift[1] + left], original, size, seen)


def _flipped(axis: int) -> Callable[[Geometry], Geometry]:
    def flip(geometry: Geometry) -> Geometry:
        scale, shift, original, size, seen = geometry._parts()
        scale[axis], shift[axis] = -scale[axis], size[axis] - shift[axis]
        return Geometry._make(scale, shift, original, size, seen)

    return flip


def _resized_crop(
    geometry: Geometry, top: int, left: int, height: int, width: int, size: Any, *args: Any, **kwargs: Any
) -> Geometry:
    return _resized(_cropped(geometry, top, left, height, width), size)


def _center_crop(geometry: Geometry, output_size: Any) -> Geometry:
    """As in torchvision: a smaller image is padded first; an odd pixel goes to the right and below."""
    sides = [output_size] if isinstance(output_size, int) else list(output_size)
    height, width = sides * (3 - len(sides))
    down, across = max(0, height - geometry.image_size[0]), max(0, width - geometry.image_size[1])
    geometry = _padded(geometry, [across // 2, down // 2, (across + 1) // 2, (down + 1) // 2])
    top, left = round((geometry.image_size[0] - height) / 2), round((geometry.image_size[1] - width) / 2)
    return _cropped(geometry, top, left, height, width)


def _refused(name: str) -> Callable[..., Geometry]:
    def refuse(geometry: Geometry, *args: Any, **kwargs: Any) -> Geometry:
        raise ValueError(
            f"{name} cannot be recorded: results could not be mapped back to the original image. Use resize, crop, "
            "pad and flips, or leave the geometry out of the transformed inputs."
        )

    return refuse


def _query_size(geometry: Geometry) -> list[int]:
    return list(geometry.image_size)


_KERNELS: dict[Callable[..., Any], Callable[..., Any]] = {
    V.get_size: _query_size,
    V.resize: _resized,
    V.crop: _cropped,
    V.pad: _padded,
    V.horizontal_flip: _flipped(1),
    V.vertical_flip: _flipped(0),
    V.resized_crop: _resized_crop,
    V.center_crop: _center_crop,
} | {f: _refused(f.__name__) for f in (V.rotate, V.affine, V.perspective, V.elastic, V.five_crop, V.ten_crop)}

# v2 silently passes a tensor type without a kernel through unchanged
for _function, _kernel in _KERNELS.items():
    V.register_kernel(_function, Geometry)(_kernel)
