"""Data sets in the layouts and encodings they are published in, small and made anew for each test."""

import json

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

FRAMES = 4


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def nyu_arrays():
    """Images (N, H, W, 3), depths (N, H, W) [m] and normals (N, H, W, 3), x to the right, y down, z forward."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (FRAMES, 480, 640, 3), np.uint8)
    depths = rng.uniform(1, 9, (FRAMES, 480, 640)).astype(np.float32)
    depths[:, 100:110, 200:220] = 0
    normals = rng.normal(size=(FRAMES, 480, 640, 3)) * [1, 1, 0.1] - [0, 0, 2]
    return images, depths, (normals / np.linalg.norm(normals, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def nyu(tmp_path_factory):
    """``nyu_depth_v2_labeled.mat`` as MATLAB 7.3 writes it, its axes in reverse, with splits and Ladicky's normals."""
    root = tmp_path_factory.mktemp("nyu")
    images, depths, normals = nyu_arrays()
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = images.transpose(0, 3, 2, 1)  # (N, 3, 640, 480)
        file["rawDepths"] = depths.transpose(0, 2, 1)  # (N, 640, 480)
        file["depths"] = np.where(depths == 0, 5, depths).transpose(0, 2, 1)
    with h5py.File(root / "norm_gt_l.mat", "w") as file:
        file["norm_gt_l"] = normals.transpose(0, 3, 2, 1)
    splits = {"trainNdxs": np.array([[1], [3]]), "testNdxs": np.array([[2], [4]])}  # counted from 1, as published
    scipy.io.savemat(root / "splits.mat", splits)
    return root


@pytest.fixture
def nyu_bts(tmp_path):
    """BTS's layout: lists with leading slashes, training frames below ``sync``, test frames in their own folder."""
    rng = np.random.default_rng(1)
    for folder, scene, numbers in (("sync", "kitchen_0028b", (0, 1)), ("official_splits/test", "bathroom", (45,))):
        for i in numbers:
            place = tmp_path / folder / scene
            save(place / f"rgb_{i:05d}.jpg", rng.integers(0, 256, (480, 640, 3), np.uint8))
            save(place / f"sync_depth_{i:05d}.png", rng.integers(500, 9000, (480, 640), np.uint16))
    train = [f"/kitchen_0028b/rgb_{i:05d}.jpg /kitchen_0028b/sync_depth_{i:05d}.png 518.8579" for i in (0, 1)]
    (tmp_path / "nyudepthv2_train_files_with_gt.txt").write_text("\n".join(train) + "\n")
    test = "bathroom/rgb_00045.jpg bathroom/sync_depth_00045.png 518.8579\n"
    (tmp_path / "nyudepthv2_test_files_with_gt.txt").write_text(test)
    return tmp_path


@pytest.fixture
def kitti(tmp_path):
    """KITTI's own folders with BTS's lists, in which one test image has no depth."""
    rng = np.random.default_rng(2)
    drive, number = "2011_09_26_drive_0002_sync", "0000000069"
    save(
        tmp_path / "2011_09_26" / drive / "image_02/data" / f"{number}.png",
        rng.integers(0, 256, (375, 1242, 3), np.uint8),
    )
    depth = rng.integers(256, 80 * 256, (375, 1242), np.uint16)
    depth[:100] = 0
    truth = f"{drive}/proj_depth/groundtruth/image_02/{number}.png"
    save(tmp_path / "data_depth_annotated" / "val" / truth, depth)
    line = f"2011_09_26/{drive}/image_02/data/{number}.png {truth} 721.5377\n"
    (tmp_path / "eigen_train_files_with_gt.txt").write_text(line)
    (tmp_path / "eigen_test_files_with_gt.txt").write_text(
        line + "2011_09_26/2011_09_26_drive_0009_sync/image_02/data/0000000384.png None 721.5377\n"
    )
    return tmp_path


@pytest.fixture
def navi(tmp_path):
    """An object of NAVI with two multiview scenes and a wild set, and one without wild set, which does not count."""
    for scene in ("dino/multiview-00-pixel_5", "dino/multiview-01-canon", "dino/wild_set", "lone/multiview-00-pixel_5"):
        navi_scene(tmp_path / scene)
    (tmp_path / "custom_splits").mkdir()
    return tmp_path


def navi_scene(folder):
    """Two photographs that lie on their side, as cameras store them, with upright depth of a slanted plane."""
    rows = []
    for i in range(2):
        name = f"{i:03d}"
        upright = np.full((80, 60, 3), 30, np.uint8)
        upright[20:40, 10:50] = 200
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by a quarter, clockwise, to show it
        save(folder / "images" / f"{name}.jpg", np.rot90(upright, 1).copy(), exif=exif, quality=95)
        millimetres = np.linspace(500, 700, 40)[None].repeat(20, axis=0)
        encoded = np.zeros((80, 60), np.uint16)
        encoded[20:40, 10:50] = np.round(65535 * 10 / millimetres)
        save(folder / "depth" / f"{name}.png", encoded)
        camera = {"q": [1, 0, 0, 0], "t": [0, 0, 0], "focal_length": 3000.0, "camera_model": "pixel_5"}
        rows.append({"filename": f"{name}.jpg", "image_size": [4000, 3000], "camera": camera, "split": "train"})
    (folder / "annotations.json").write_text(json.dumps(rows))
