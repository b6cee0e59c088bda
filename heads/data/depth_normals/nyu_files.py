"""The MATLAB files of NYU Depth V2: frames in HDF5, splits in MATLAB 5, normals in either."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..array_files import read_array
from .depth_files import metres
from .matlab_files import read_matlab_5
from .module import camera
from .normal_files import Axes, unit_normals

Frames = list[int]
DepthKey = Literal["depths", "rawDepths"]

NYU_CAMERA = camera(518.85790117450188, 519.46961112127485, 325.08244941119034, 253.23616633400465)
"""Camera of the 640 x 480 frames: the toolbox's, which has pixel centres at 1, 2, ..., so half a pixel less here."""

_FRAMES = 1449
_SIZE = (480, 640)  # height and width of every frame
_FILTERS = {1, 2}  # HDF5's numbers for deflate and shuffle, all that MATLAB writes
_LARGEST_CHUNK = 1 << 28  # [bytes]; HDF5 decompresses whole chunks
_RGB_MEANS = (122.175, 116.169, 103.508)  # subtracted twice from GeoNet's images


def read_frame(path: Path, frame: int, depth: DepthKey) -> tuple[Tensor, Tensor]:
    """Read a frame of ``nyu_depth_v2_labeled.mat``.

    Args:
        path: The file.
        frame: Index of the frame, from 0.
        depth: ``depths`` (in-painted) or ``rawDepths`` (0 in holes) [m].

    Returns:
        The image, uint8 ``(3, 480, 640)``, and its depth [m], float32 ``(1, 480, 640)``.

    Raises:
        ValueError: The file is missing, is not HDF5, or has no such frame.
    """
    with open_hdf5(path) as file:
        image = _slice(file, "images", frame, (3, *_SIZE), path)
        values = _slice(file, depth, frame, _SIZE, path)
    if image.dtype != np.uint8:
        raise ValueError(f"{path}, images, is {image.dtype}; expected 8 bits without a sign. Download the file again.")
    return torch.from_numpy(image), metres(values, 1.0, f"{path}, frame {frame + 1} of {depth},")


def read_frame_normals(path: Path, key: str, frame: int, axes: Axes) -> Tensor:
    """Read the normals of a frame from a MATLAB 7.3 file or an npy array ``(frames, 480, 640, 3)``.

    Args:
        path: The file.
        key: Name of the array in a MATLAB file, such as ``norm_gt_l``.
        frame: Index of the frame, from 0.
        axes: Directions of the components.

    Returns:
        Unit normals or 0, float32 ``(3, 480, 640)``.

    Raises:
        ValueError: The file is missing, a pickle, or of another shape, or the axes are wrong.
    """
    name = f"{path}, frame {frame + 1},"
    if path.suffix.lower() == ".npy":
        return unit_normals(_npy_frame(path, frame), axes, name)
    if path.suffix.lower() != ".mat":
        raise ValueError(
            f"{path} is neither .mat nor .npy. all_normals.pklz is a pickle, which can run code when loaded: if "
            "you trust it, save its array all_normals with numpy.save, and use that file."
        )
    with open_hdf5(path) as file:
        return unit_normals(_slice(file, key, frame, (3, *_SIZE), path).transpose(1, 2, 0), axes, name)


def _npy_frame(path: Path, frame: int) -> NDArray[np.generic]:
    values = read_array(path, "an array of normals (frames, 480, 640, 3)")
    if values.shape[1:] != (*_SIZE, 3) or frame >= len(values):
        raise ValueError(f"{path} has shape {values.shape}; expected (frames, 480, 640, 3) with frame {frame + 1}.")
    return np.asarray(values[frame])


def read_splits(path: Path) -> tuple[Frames, Frames]:
    """Read training and test frames, from 0, from ``splits.mat`` (which counts from 1).

    Raises:
        ValueError: The file is missing, damaged or of another kind.
    """
    values = read_matlab_5(path, ("trainNdxs", "testNdxs"))
    numbers = np.concatenate([values["trainNdxs"].ravel(), values["testNdxs"].ravel()])
    if not np.isin(numbers, np.arange(1, _FRAMES + 1)).all() or len(np.unique(numbers)) < len(numbers):
        raise ValueError(
            f"{path} has frames below 1, above {_FRAMES}, twice or in both splits; expected the official splits.mat. "
            "Download it again."
        )
    frames = [int(i) - 1 for i in numbers]
    train = values["trainNdxs"].size
    return frames[:train], frames[train:]


def read_geonet(path: Path, axes: Axes) -> tuple[Tensor, Tensor, Tensor]:
    """Read image, depth and normals from a training file of GeoNet.

    Returns:
        The image, uint8 ``(3, H, W)``, depth [m], float32 ``(1, H, W)``, and normals, float32 ``(3, H, W)``.

    Raises:
        ValueError: The file is missing, damaged or of another kind, or the axes are wrong.

    Source: NYU_geonet of mbanani/probe3d @ 1fff822, which crops to 480 x 640 and adds twice the mean.
    """
    values = read_matlab_5(path, ("img", "depth", "norm"))
    shapes = [values[key].shape for key in ("img", "depth", "norm")]
    if len(shapes[1]) != 2 or not values["depth"].size or shapes[0] != (*shapes[1], 3) or shapes[2] != shapes[0]:
        raise ValueError(f"{path} has img, depth and norm of shapes {shapes}; expected (H, W, 3), (H, W), (H, W, 3).")
    image, depth, normal = (values[key][: _SIZE[0], : _SIZE[1]] for key in ("img", "depth", "norm"))
    restored = np.clip(image.astype(np.float64) + 2 * np.array(_RGB_MEANS), 0, 255).astype(np.uint8)
    pixels = torch.from_numpy(restored).permute(2, 0, 1).contiguous()
    return pixels, metres(depth, 1.0, str(path)), unit_normals(normal, axes, str(path))


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open a MATLAB 7.3 file for one read only, so that worker processes share no handle.

    Raises:
        ValueError: h5py is not installed, or the file is missing or not HDF5.
    """
    try:
        import h5py  # optional dependency, for one dataset
    except ImportError as error:
        raise ValueError("MATLAB 7.3 files need h5py: pip install 'siglip2-backbone[nyu]'.") from error
    if not path.is_file():
        raise ValueError(f"No file {path}; expected a MATLAB 7.3 file (HDF5).")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(
            f"{path} is not a MATLAB 7.3 file (HDF5): {error}. Download it again, or save it with -v7.3."
        ) from error
    with file:
        yield file


def _slice(file: Any, key: str, frame: int, shape: tuple[int, ...], path: Path) -> NDArray[Any]:
    """Read one frame of an array; HDF5 has MATLAB's axes in reverse order, so rows and columns are swapped back."""
    expected = (*shape[:-2], shape[-1], shape[-2])
    try:
        stored = file.get(key)
        found = "no such array" if stored is None else f"shape {getattr(stored, 'shape', '() of a group')}"
        if stored is not None and getattr(stored, "shape", ())[1:] == expected and frame < stored.shape[0]:
            _check_storage(stored, frame)
            return np.ascontiguousarray(np.swapaxes(stored[frame], -1, -2))
    except Exception as error:  # for a damaged file h5py passes on any exception of its decoders
        raise ValueError(f"{path}, {key}, is damaged ({error}). Download the file again.") from error
    raise ValueError(f"{path}, {key}: {found}; expected (frames, {', '.join(map(str, expected))}).")


def _check_storage(stored: Any, frame: int) -> None:
    """Refuse what MATLAB does not write, because HDF5 (1.14) crashes in some of its filters on a damaged file.

    Raises:
        ValueError: The array holds no numbers, is stored in other files, has another filter or a huge chunk, or a
            chunk of the frame is marked as not compressed, for which HDF5 returns memory that it has not filled.
    """
    if stored.dtype.kind not in "fiu":
        raise ValueError(f"it has dtype {stored.dtype}, expected numbers")
    if stored.is_virtual or stored.external:
        raise ValueError("its values are in other files")
    layout = stored.id.get_create_plist()
    filters = {layout.get_filter(i)[0] for i in range(layout.get_nfilters())}
    if filters - _FILTERS:
        raise ValueError(f"it has HDF5 filters {sorted(filters)}, expected none but deflate (1) and shuffle (2)")
    if stored.chunks and math.prod(stored.chunks) * stored.dtype.itemsize > _LARGEST_CHUNK:
        raise ValueError(f"it has chunks of shape {stored.chunks}, expected at most {_LARGEST_CHUNK} bytes")
    if filters:
        region = (slice(frame, frame + 1), *(slice(0, side) for side in stored.shape[1:]))
        corners = [
            tuple(part.start // size * size for part, size in zip(chunk, stored.chunks, strict=True))
            for chunk in stored.iter_chunks(region)
        ]
        if any(stored.id.get_chunk_info_by_coord(corner).filter_mask for corner in corners):
            raise ValueError("a chunk is marked as not compressed")
