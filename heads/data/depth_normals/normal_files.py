"""Surface normals: from pictures and arrays in any axis convention, or from depth.

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
"""Where the three components of a file point, such as (right, up, towards): towards or away from the camera."""

OWN_AXES = ("right", "down", "away")
_SIGNS = ({"right": 1.0, "left": -1.0}, {"down": 1.0, "up": -1.0}, {"away": 1.0, "towards": -1.0})
_SHORTEST = 0.5  # of a vector that is a direction; (128, 128, 128) of a PNG is none
_OFF = 0.1  # from the length 1 that the typical vector of a normal map may be


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
    """Normals from an RGB PNG with (n + 1) / 2 * 255, black for no reading.

    Args:
        path: The picture.
        axes: Where red, green and blue point.

    Returns:
        Unit normals or 0, float32 ``(3, H, W)``.

    Raises:
        ValueError: The file is missing, damaged, not in RGB or no normal map, or the axes are wrong.
    """
    path = Path(path)
    image = decode(path)
    if image.mode != "RGB":
        raise ValueError(f"{path} has mode {image.mode}; expected normals as RGB with 8 bits a channel.")
    pixels = np.asarray(image)
    values = pixels.astype(np.float64) / 127.5 - 1
    values[~pixels.any(axis=-1)] = 0
    return unit_normals(values, axes, str(path))


def unit_normals(values: NDArray[np.generic], axes: Axes, name: str) -> Tensor:
    """Unit normals, float32 ``(3, H, W)``, from vectors ``(H, W, 3)`` along other axes; short ones and NaN become 0.

    Args:
        values: Vectors of about unit length.
        axes: Where their components point.
        name: What errors call them.

    Raises:
        ValueError: They are not of unit length, or most of them point away from the camera.
    """
    signs = torch.tensor([s[a] for s, a in zip(_SIGNS, check_axes(axes), strict=True)])
    vectors = torch.from_numpy(np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)).permute(2, 0, 1)
    length = vectors.norm(dim=0)
    valid = length > _SHORTEST
    if not valid.any():
        raise ValueError(f"{name} holds no normal: every vector is 0. Leave the pair out.")
    typical = float(length[valid].median())
    if abs(typical - 1) > _OFF:
        raise ValueError(f"{name} is no normal map: its typical vector has length {typical:.2f}; expected 1.")
    normal = torch.where(valid, vectors / length.clamp(min=_SHORTEST), 0) * signs[:, None, None]
    if (normal[2][valid] > 0).double().mean() > 0.5:
        raise ValueError(
            f"{name}: most normals point away from the camera, where no surface can be seen from. Its axes are not "
            f"{list(axes)}; set data.axes to what the third channel means."
        )
    return normal.float()


def normals_from_depth(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Normals of a depth map: from the four neighbours of each pixel that has all of them.

    Args:
        depth: Depth [m], ``(1, H, W)``; 0 is no reading.
        intrinsics: Camera matrix [px], ``(3, 3)``.

    Returns:
        Unit normals towards the camera or 0, float32 ``(3, H, W)``.

    Source: compute_normal of mbanani/probe3d @ 1fff822. It puts the principal point at the corner, and missing
    neighbours at a million metres, which bends the normals along every silhouette; here these have none.
    """
    height, width = depth.shape[-2:]
    rows = torch.arange(height, dtype=torch.float64) + 0.5
    columns = torch.arange(width, dtype=torch.float64) + 0.5
    fx, fy, cx, cy = (float(intrinsics[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    right, below = torch.meshgrid((columns - cx) / fx, (rows - cy) / fy, indexing="xy")
    rays = torch.stack([right, below, torch.ones_like(right)])
    points = rays * depth[0].double()
    # the differences across a pixel: the sum of the four cross products of neighbouring differences is their product
    along, down = points[:, 1:-1, 2:] - points[:, 1:-1, :-2], points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    normal = F.pad(F.normalize(torch.linalg.cross(down, along, dim=0), dim=0), (1, 1, 1, 1))
    read = F.pad(depth > 0, (1, 1, 1, 1))
    places = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    around = torch.stack([read[:, i : height + i, j : width + j] for i, j in places]).all(dim=0)
    return torch.where(around, normal, 0).float()
