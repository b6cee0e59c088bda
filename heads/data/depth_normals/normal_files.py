"""Surface normals: from images and arrays in any axis convention, or from depth.

Normals are unit vectors towards the camera, x to the right, y down, z forward, float32 ``(3, H, W)``; 0 means no
reading. A wall seen straight on has (0, 0, -1).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..images import decode

Axes = Sequence[str]
"""Directions of the three components of a file, such as (right, up, towards): towards or away from the camera."""

OWN_AXES = ("right", "down", "away")
_SIGNS = ({"right": 1.0, "left": -1.0}, {"down": 1.0, "up": -1.0}, {"away": 1.0, "towards": -1.0})
_SHORTEST = 0.5  # shorter vectors are no reading, such as (128, 128, 128) in a PNG
_OFF = 0.1  # largest deviation of the median length from 1


def check_axes(axes: Axes) -> tuple[str, str, str]:
    """The axes as given.

    Raises:
        ValueError: They are not left or right, then up or down, then towards or away.
    """
    if len(axes) != 3 or any(name not in signs for name, signs in zip(axes, _SIGNS, strict=True)):
        raise ValueError(
            f"axes is {list(axes)}; expected right or left, down or up, away or towards (the camera), for the first, "
            "second and third channel."
        )
    return axes[0], axes[1], axes[2]


def read_normals(path: str | Path, axes: Axes) -> Tensor:
    """Read normals from an RGB PNG with (n + 1) / 2 * 255, black for no reading.

    Args:
        path: The PNG.
        axes: Directions of red, green and blue.

    Returns:
        Unit normals or 0, float32 ``(3, H, W)``.

    Raises:
        ValueError: The file is missing, damaged, not RGB or not a normal map, or the axes are wrong.
    """
    path = Path(path)
    image = decode(path)
    if image.mode != "RGB":
        raise ValueError(f"{path} has mode {image.mode}; expected normals as RGB with 8 bits per channel.")
    pixels = np.asarray(image)
    values = pixels.astype(np.float64) / 127.5 - 1
    values[~pixels.any(axis=-1)] = 0
    return unit_normals(values, axes, str(path))


def unit_normals(values: NDArray[np.generic], axes: Axes, name: str) -> Tensor:
    """Unit normals, float32 ``(3, H, W)``, from vectors ``(H, W, 3)`` in given axes; short ones and NaN become 0.

    Args:
        values: Vectors of about unit length.
        axes: Directions of their components.
        name: Name of the source in errors.

    Raises:
        ValueError: There are none, their median length is not 1, or most of them point away from the camera.
    """
    signs = torch.tensor([s[a] for s, a in zip(_SIGNS, check_axes(axes), strict=True)])
    vectors = torch.from_numpy(np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)).permute(2, 0, 1)
    length = vectors.norm(dim=0)
    valid = length > _SHORTEST
    if not valid.any():
        raise ValueError(f"{name} holds no normal: every vector is 0. Remove the pair.")
    typical = float(length[valid].median())
    if abs(typical - 1) > _OFF:
        raise ValueError(f"{name} is not a normal map: its vectors have median length {typical:.2f}; expected 1.")
    normal = torch.where(valid, vectors / length.clamp(min=_SHORTEST), 0) * signs[:, None, None]
    if (normal[2][valid] > 0).double().mean() > 0.5:
        raise ValueError(
            f"{name}: most normals point away from the camera, but visible surfaces face it. Its axes are not "
            f"{list(axes)}; set data.axes to the direction of the third channel."
        )
    return normal.float()


def normals_from_depth(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Compute normals from a depth map, for each pixel with a reading whose four neighbours have readings, too.

    Args:
        depth: Depth [m], ``(1, H, W)``; 0 means no reading.
        intrinsics: Camera matrix [px], ``(3, 3)``.

    Returns:
        Unit normals towards the camera or 0, float32 ``(3, H, W)``.

    Source: compute_normal of mbanani/probe3d @ 1fff822. It puts the principal point at the corner, and missing
    neighbours at a million metres, which bends the normals along every silhouette; here pixels there have no normal.
    """
    height, width = depth.shape[-2:]
    rows = torch.arange(height, dtype=torch.float64) + 0.5  # pixel centres: pixel i covers [i, i + 1)
    columns = torch.arange(width, dtype=torch.float64) + 0.5
    fx, fy, cx, cy = (float(intrinsics[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    right, below = torch.meshgrid((columns - cx) / fx, (rows - cy) / fy, indexing="xy")
    rays = torch.stack([right, below, torch.ones_like(right)])
    points = rays * depth[0].double()
    # central differences: their cross product equals the sum of the four cross products of neighbouring differences
    along, down = points[:, 1:-1, 2:] - points[:, 1:-1, :-2], points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    # down x along points towards the camera with y down and z forward
    normal = F.pad(F.normalize(torch.linalg.cross(down, along, dim=0), dim=0), (1, 1, 1, 1))
    read = F.pad(depth > 0, (1, 1, 1, 1))
    places = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    around = torch.stack([read[:, i : height + i, j : width + j] for i, j in places]).all(dim=0)
    return torch.where(around, normal, 0).float()
