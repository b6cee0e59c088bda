"""Read depth maps in the encodings of common datasets; every error names the file.

Depth is the distance along the optical axis in metres, float32 ``(1, H, W)``; 0 means no reading.
"""

import warnings
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..array_files import read_array
from ..checks import Range
from ..images import decode

_PNG_SCALE = 1000.0  # values per metre of a PNG by default: millimetres
_SCALES = (1.0, 100.0, 256.0, 1000.0, 5000.0, 10000.0)  # values per metre in common datasets
_NAVI = 65535 * 10 / 1000  # 65535 times the factor 10 of its encoder, over 1000 mm per metre
_LOOKED_AT = 3  # maps per split that the unit check reads


def read_depth(path: str | Path, scale: float | None = None, invalid: Collection[float] = ()) -> Tensor:
    """Read depth from a 16-bit grey PNG or an npy array.

    0, NaN and the values in ``invalid`` mean no reading.

    Args:
        path: A ``.png``, or a ``.npy`` of shape ``(H, W)``, ``(1, H, W)`` or ``(H, W, 1)``.
        scale: Values per metre: 1000 for millimetres, 256 for KITTI. By default 1000 for a PNG and 1 for an array.
        invalid: Values of the file that mean no reading, such as 65535 or infinity.

    Returns:
        Depth [m], float32 ``(1, H, W)``.

    Raises:
        ValueError: The file is missing, damaged or of another type, a value is negative or infinite, or the map has no
            reading.
    """
    path = Path(path)
    is_array = path.suffix.lower() == ".npy"
    values = _array(path) if is_array else read_16_bit(path)
    if scale is None:
        scale = 1.0 if is_array else _PNG_SCALE
    return metres(values, scale, str(path), invalid)


def read_inverse_depth(path: str | Path) -> Tensor:
    """Read depth from a NAVI PNG, which holds inverse depth: 655350 over the depth in mm, 0 for no reading.

    Returns:
        Depth [m], float32 ``(1, H, W)``.

    Raises:
        ValueError: As :func:`read_depth`.

    Source: decode_depth of google/navi @ 3fcfd40.
    """
    values = read_16_bit(Path(path)).astype(np.float64)
    return metres(np.divide(_NAVI, values, out=np.zeros_like(values), where=values > 0), 1.0, str(path))


def read_16_bit(path: Path) -> NDArray[np.generic]:
    """Read the values of a 16-bit grey PNG, ``(H, W)``.

    Raises:
        ValueError: The file is missing or damaged, or has 8 bits or colour.
    """
    image = decode(path)
    if not image.mode.startswith("I"):
        raise ValueError(
            f"{path} has mode {image.mode}; expected depth as one channel of 16 bits. An 8-bit file is only a "
            "visualisation of the depth: use the file that it was made from."
        )
    return np.asarray(image)


def metres(values: NDArray[np.generic], scale: float, name: str, invalid: Collection[float] = ()) -> Tensor:
    """Convert the values ``(H, W)`` of a file to depth [m], float32 ``(1, H, W)``; see :func:`read_depth`.

    Raises:
        ValueError: A value is negative or infinite, float32 cannot hold it, or the map has no reading.
    """
    with np.errstate(over="ignore", under="ignore"):  # overflow and underflow raise an error below
        raw = values.astype(np.float64)
        unread = np.isnan(raw) | np.isin(raw, list(invalid))
        depth = np.where(unread, 0, raw) / scale
        cast = depth.astype(np.float32)
    if np.isinf(depth).any():
        raise ValueError(
            f"{name} has infinite depth at {np.isinf(depth).sum()} pixels. If that means no reading (sky), add .inf to "
            "data.invalid."
        )
    if depth.min() < 0:
        raise ValueError(f"{name} has depths down to {depth.min():g} m; expected 0 for no reading, else above 0.")
    lost = np.isinf(cast) | ((depth > 0) & (cast < np.finfo(np.float32).tiny))
    if lost.any():
        raise ValueError(
            f"{name} has depths that float32 cannot hold at {lost.sum()} pixels, such as {depth[lost][0]:g} m; "
            f"expected metres. If they mean no reading, add {float(raw[lost][0])} to data.invalid; if not, set "
            "data.depth_scale."
        )
    if not cast.any():
        raise ValueError(f"{name} holds no reading: every pixel is 0, NaN or invalid. Remove the pair.")
    return torch.from_numpy(cast)[None]


def _array(path: Path) -> NDArray[np.generic]:
    values = read_array(path, "an array of depths (H, W)")
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2:
        raise ValueError(f"{path} is {values.dtype} of shape {values.shape}; expected numbers (H, W).")
    return values


def check_unit(count: int, depth: Callable[[int], Tensor], depth_range: Range) -> None:
    """Warn if the median depth of a few maps lies outside the range: most likely the unit is wrong.

    Args:
        count: Number of maps in the split.
        depth: Returns the map with an index [m].
        depth_range: Expected range of depths [m].
    """
    # the first, the middle and the last map; fewer if the split is small
    indices = sorted({round(i * (count - 1) / max(_LOOKED_AT - 1, 1)) for i in range(_LOOKED_AT)})
    readings = torch.cat([d[d > 0] for d in map(depth, indices)])
    median = float(readings.median())
    low, high = depth_range
    if not low <= median <= high:
        warnings.warn(
            f"The median depth of {len(indices)} maps is {median:g} m, outside depth_range {[low, high]}. "
            f"{_remedy(median, depth_range)}",
            stacklevel=2,
        )


def _remedy(median: float, depth_range: Range) -> str:
    """The factor to multiply the scale by, from the ratios of the units in use."""
    ratios = sorted({a / b for a in _SCALES for b in _SCALES} - {1.0}, key=lambda r: abs(np.log(r)))
    fitting = [r for r in ratios if depth_range[0] <= median / r <= depth_range[1]]
    if not fitting:
        return "No common unit brings it into the range: look at the files."
    # metres against millimetres is the usual mistake, then the smallest change
    usual = 1000.0 if 1000.0 in fitting else 0.001 if 0.001 in fitting else fitting[0]
    return f"With {usual:g} times as many values per metre (depth_scale), it would be {median / usual:.3g} m."
