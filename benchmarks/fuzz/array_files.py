"""Readers of arrays: npy, and MATLAB's files of versions 5 and 7.3."""

import random
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from heads.data.array_files import read_array
from heads.data.depth_normals.depth_files import read_depth
from heads.data.depth_normals.normal_files import OWN_AXES
from heads.data.depth_normals.nyu_files import read_frame, read_frame_normals, read_geonet, read_splits

from .mutations import bytes_damaged, numbers_damaged
from .scipy_process import ScipyProcess

_HEADERS = (
    *(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)}",
        "{'descr': '>f8', 'shape': (2,), 'fortran_order': 1}",
    ),
    *(
        "{'descr': '|O', 'fortran_order': False, 'shape': (3, 4)}",
        "{'descr': '<f4', 'fortran_order': True, 'shape': ()}",
    ),
    *(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}",
        "[" * 3000,
        "{'a': 1}",
        "(3, 4)",
        "\x00",
        "1" * 9000,
    ),
    *("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000)}", "__import__('os').abort()", "3", "''"),
    *("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3, 4)}", "{'descr': '<M8[s]', 'shape': (3, 4)}"),
    *(
        "{'descr': '<i4', 'fortran_order': True, 'shape': (3, 4, 1)}",
        "{'descr': '<c8', 'fortran_order': 0, 'shape': (6,)}",
    ),
    *("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 4)}", "{'descr': '<f2', 'shape': (0, 4)}"),
)


class Npy:
    """A depth map in an npy file; versions 1 and 2 of the format."""

    name = "x.npy"

    def __init__(self, folder: Path) -> None:
        self.path = folder / self.name
        self.data = []
        for version, dtype in (((1, 0), np.float32), ((2, 0), np.float64), ((1, 0), np.uint16)):
            with self.path.open("wb") as file:
                np.lib.format.write_array(file, np.arange(1, 13).astype(dtype).reshape(3, 4), version)
            self.data.append(self.path.read_bytes())

    def damage(self, rng: random.Random) -> None:
        if rng.random() < 0.6:
            self.path.write_bytes(bytes_damaged(rng, rng.choice(self.data)))
            return
        header = rng.choice(_HEADERS).encode() + b"\n"
        self.path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + rng.randbytes(48))

    def read(self) -> Any:
        values = read_array(self.path, "an array of depths (H, W)")
        read_depth(self.path)
        return {"": [str(values.dtype), values.tolist()]}

    def library(self) -> Any:
        values = np.load(self.path)
        return {"": [str(values.dtype), values.tolist()]}


class _Matlab5:
    """A MATLAB 5 file, plain or compressed; scipy, which a damaged file can crash, reads it in another process."""

    name = "x.mat"

    def __init__(self, folder: Path, arrays: dict[str, Any]) -> None:
        self.path, self.keys, self.data = folder / self.name, list(arrays), []
        for packed in (False, True):
            scipy.io.savemat(self.path, arrays | {"other": "text"}, do_compression=packed)
            self.data.append(self.path.read_bytes())
        self.scipy = ScipyProcess()

    def damage(self, rng: random.Random) -> None:
        data = rng.choice(self.data)
        wrong = bytes_damaged(rng, data) if rng.random() < 0.5 else numbers_damaged(rng, data, min(len(data), 400))
        self.path.write_bytes(wrong)

    def stored(self) -> dict[str, Any] | None:
        """The arrays as scipy reads them; ``None`` if it crashes."""
        return self.scipy.load(self.path, self.keys)


class Splits(_Matlab5):
    """``splits.mat`` of NYU."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {"trainNdxs": np.arange(1.0, 21)[:, None], "testNdxs": np.arange(300.0, 320)[:, None]})

    def read(self) -> Any:
        train, test = read_splits(self.path)
        return {"trainNdxs": train, "testNdxs": test}

    def library(self) -> Any:
        found = self.stored()
        return found and {key: [int(i) - 1 for i in values.ravel(order="C")] for key, values in found.items()}


class GeoNet(_Matlab5):
    """A training file of GeoNet: image, depth and normals."""

    def __init__(self, folder: Path) -> None:
        normals = np.zeros((6, 5, 3), np.float32) + np.float32([0, 0, -1])
        depth, image = np.full((6, 5), 2.5, np.float32), np.full((6, 5, 3), 7, np.float32)
        super().__init__(folder, {"img": image, "depth": depth, "norm": normals})

    def read(self) -> Any:
        _, depth, _ = read_geonet(self.path, OWN_AXES)
        return {"depth": depth[0].tolist()}

    def library(self) -> Any:
        found = self.stored()
        return found and {"depth": np.nan_to_num(found["depth"].astype(np.float32), nan=0.0).tolist()}


class Hdf5:
    """``nyu_depth_v2_labeled.mat`` and normals in MATLAB 7.3 files, one frame."""

    name = "x.mat"

    def __init__(self, folder: Path) -> None:
        self.path = folder / self.name
        packed: dict[str, Any] = {"compression": "gzip"}  # as MATLAB packs
        with h5py.File(self.path, "w") as file:
            file.create_dataset("images", data=np.full((1, 3, 640, 480), 9, np.uint8), **packed)
            file.create_dataset("rawDepths", data=np.full((1, 640, 480), 2.5, np.float32), **packed)
            normals = np.zeros((1, 3, 640, 480), np.float32)
            normals[:, 2] = -1
            file.create_dataset("norm_gt_l", data=normals, **packed)
        self.data = self.path.read_bytes()

    def damage(self, rng: random.Random) -> None:
        if rng.random() < 0.5:
            self.path.write_bytes(bytes_damaged(rng, self.data))
        else:
            self.path.write_bytes(numbers_damaged(rng, self.data, min(len(self.data), 4000)))

    def read(self) -> Any:
        image, depth = read_frame(self.path, 0, "rawDepths")
        normals = read_frame_normals(self.path, "norm_gt_l", 0, OWN_AXES)
        shapes = [(tuple(tensor.shape), str(tensor.dtype)) for tensor in (image, depth, normals)]
        expected = [((3, 480, 640), "torch.uint8"), ((1, 480, 640), "torch.float32"), ((3, 480, 640), "torch.float32")]
        assert shapes == expected, shapes
        return {"images": image.numpy().sum(), "rawDepths": depth.numpy().sum()}

    def library(self) -> Any:
        with h5py.File(self.path) as file:
            return {name: file[name][0].sum() for name in ("images", "rawDepths")}
