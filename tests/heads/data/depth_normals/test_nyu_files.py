import sys

import numpy as np
import pytest
import scipy.io
import torch

from heads.data.depth_normals.normal_files import OWN_AXES
from heads.data.depth_normals.nyu_files import read_frame, read_frame_normals, read_geonet, read_splits


@pytest.fixture(scope="module")
def arrays(nyu):
    import h5py

    with h5py.File(nyu / "nyu_depth_v2_labeled.mat") as file:
        return {key: file[key][()] for key in file}


@pytest.mark.parametrize("frame", [0, 3])
def test_a_frame_is_upright_and_in_metres(nyu, arrays, frame):
    image, depth = read_frame(nyu / "nyu_depth_v2_labeled.mat", frame, "rawDepths")
    assert image.shape == (3, 480, 640) and image.dtype == torch.uint8
    for c, row, column in ((0, 0, 639), (2, 479, 5), (1, 100, 200)):
        assert image[c, row, column] == arrays["images"][frame, c, column, row]
        assert depth[0, row, column] == arrays["rawDepths"][frame, column, row]


def test_raw_depth_has_holes_and_the_other_is_filled_in(nyu):
    path = nyu / "nyu_depth_v2_labeled.mat"
    raw, filled = read_frame(path, 0, "rawDepths")[1], read_frame(path, 0, "depths")[1]
    assert (raw[:, 100:110, 200:220] == 0).all() and (filled[:, 100:110, 200:220] == 5).all()
    assert torch.equal(raw[raw > 0], filled[raw > 0])


def test_splits_are_counted_from_one(nyu):
    assert read_splits(nyu / "splits.mat") == ([0, 2], [1, 3])


@pytest.mark.parametrize(
    "splits",
    [
        {"trainNdxs": [[0]], "testNdxs": [[1]]},
        {"trainNdxs": [[1]], "testNdxs": [[1]]},
        {"trainNdxs": [[1], [1]], "testNdxs": [[2]]},
        {"trainNdxs": [[1]], "testNdxs": [[1450]]},
        {"trainNdxs": [[1]], "testNdxs": [[2.5]]},
        {"trainNdxs": [[1]], "testNdxs": [[float("nan")]]},
    ],
    ids=["zero", "both", "twice", "beyond", "half", "nan"],
)
def test_other_splits(tmp_path, splits):
    scipy.io.savemat(tmp_path / "splits.mat", splits)
    with pytest.raises(ValueError, match=r"splits\.mat has frames below 1, above 1449, twice or in both splits"):
        read_splits(tmp_path / "splits.mat")


def test_files_that_are_not_matlab_5(tmp_path):
    (tmp_path / "splits.mat").write_bytes(b"not a matrix" * 20)
    with pytest.raises(ValueError, match=r"splits\.mat cannot be read as a MATLAB 5 file"):
        read_splits(tmp_path / "splits.mat")
    scipy.io.savemat(tmp_path / "other.mat", {"trainNdxs": [[1]]})
    with pytest.raises(ValueError, match=r"other\.mat has no testNdxs; expected trainNdxs, testNdxs"):
        read_splits(tmp_path / "other.mat")
    with pytest.raises(ValueError, match=r"No file .*gone\.mat"):
        read_splits(tmp_path / "gone.mat")


def test_files_that_are_no_hdf5(tmp_path, nyu):
    scipy.io.savemat(tmp_path / "five.mat", {"images": [1]})
    with pytest.raises(ValueError, match=r"five\.mat is not a MATLAB 7\.3 file \(HDF5\)"):
        read_frame(tmp_path / "five.mat", 0, "depths")
    with pytest.raises(ValueError, match=r"No file .*gone\.mat; expected a MATLAB 7\.3"):
        read_frame(tmp_path / "gone.mat", 0, "depths")
    whole = (nyu / "splits.mat").read_bytes()
    (tmp_path / "cut.mat").write_bytes(whole[:40])
    with pytest.raises(ValueError, match=r"cut\.mat is not a MATLAB 7\.3 file"):
        read_frame(tmp_path / "cut.mat", 0, "depths")


def test_a_frame_or_array_that_is_not_there(nyu):
    with pytest.raises(ValueError, match=r"labeled\.mat, images: shape \(4, 3, 640, 480\); expected \(frames, 3, 640"):
        read_frame(nyu / "nyu_depth_v2_labeled.mat", 4, "depths")
    with pytest.raises(ValueError, match=r"norm_gt_l\.mat, images: no such array"):
        read_frame(nyu / "norm_gt_l.mat", 0, "depths")


def test_damaged_hdf5_is_named(tmp_path):
    import h5py

    path = tmp_path / "labeled.mat"
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", (1, 3, 640, 480), "u1", chunks=True, compression="gzip")
        images[:] = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
        file.create_group("depths")
    with pytest.raises(ValueError, match=r"labeled\.mat, depths: shape \(\) of a group"):
        read_frame_normals(path, "depths", 0, OWN_AXES)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 3 : -1000] = bytes(len(damaged[len(damaged) // 3 : -1000]))
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"labeled\.mat, images, is damaged"):
        read_frame(path, 0, "depths")


def test_arrays_of_geonet_that_do_not_fit_together(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"img": np.ones((4, 5, 3)), "depth": np.ones((4, 6)), "norm": np.ones((4, 5))})
    with pytest.raises(ValueError, match=r"a\.mat has img, depth and norm of shapes .*expected \(H, W, 3\)"):
        read_geonet(tmp_path / "a.mat", OWN_AXES)


def test_normals_in_an_archive_are_refused_by_the_reader_of_arrays(tmp_path):
    with (tmp_path / "n.npy").open("wb") as file:
        np.savez(file, normals=np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"n\.npy is not a readable array: .* numpy\.savez archive with normals"):
        read_frame_normals(tmp_path / "n.npy", "", 0, OWN_AXES)


def test_without_h5py(nyu, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match=r"need h5py: pip install 'siglip2-backbone\[nyu\]'"):
        read_frame(nyu / "nyu_depth_v2_labeled.mat", 0, "depths")


def test_normals_in_matlab_and_numpy_are_the_same(nyu, tmp_path):
    import h5py

    with h5py.File(nyu / "norm_gt_l.mat") as file:
        stored = file["norm_gt_l"][()]
    np.save(tmp_path / "normals.npy", stored.transpose(0, 3, 2, 1))
    normal = read_frame_normals(nyu / "norm_gt_l.mat", "norm_gt_l", 2, OWN_AXES)
    assert torch.equal(normal, read_frame_normals(tmp_path / "normals.npy", "", 2, OWN_AXES))
    np.testing.assert_allclose(normal[:, 7, 300], stored[2, :, 300, 7], atol=1e-6)
    assert normal[2].mean() < -0.5


def test_axes_that_point_away_are_refused(nyu):
    with pytest.raises(ValueError, match=r"norm_gt_l\.mat, frame 1,: most normals point away"):
        read_frame_normals(nyu / "norm_gt_l.mat", "norm_gt_l", 0, ("right", "down", "towards"))


def test_normals_in_a_pickle_are_not_opened(tmp_path):
    (tmp_path / "all_normals.pklz").write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"all_normals\.pklz is neither \.mat nor \.npy.*numpy\.save"):
        read_frame_normals(tmp_path / "all_normals.pklz", "", 0, OWN_AXES)


def test_normals_of_another_shape(tmp_path):
    np.save(tmp_path / "n.npy", np.zeros((2, 3, 480, 640)))
    with pytest.raises(ValueError, match=r"n\.npy has shape \(2, 3, 480, 640\); expected \(frames, 480, 640, 3\)"):
        read_frame_normals(tmp_path / "n.npy", "", 0, OWN_AXES)
    np.save(tmp_path / "p.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"p\.npy is not a readable array"):
        read_frame_normals(tmp_path / "p.npy", "", 0, OWN_AXES)


def test_a_training_file_of_geonet(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (481, 641, 3))
    less = pixels - 2 * np.array([122.175, 116.169, 103.508])
    norm = np.broadcast_to([0.6, 0, -0.8], (481, 641, 3))
    scipy.io.savemat(tmp_path / "a.mat", {"img": less, "depth": np.full((481, 641), 2.5), "norm": norm})
    image, depth, normal = read_geonet(tmp_path / "a.mat", OWN_AXES)
    assert image.shape == (3, 480, 640) and (depth == 2.5).all()
    assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - pixels[:480, :640]).max() <= 1
    torch.testing.assert_close(normal[:, 9, 9], torch.tensor([0.6, 0, -0.8]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fletcher32": True}, r"rawDepths, is damaged \(it has HDF5 filters \[3\], expected none but deflate"),
        ({"compression": "lzf"}, r"rawDepths, is damaged \(it has HDF5 filters \[32000\]"),
        ({"dtype": "S1"}, r"rawDepths, is damaged \(it has dtype \|S1, expected numbers"),
        ({"shape": (2000, 640, 480), "chunks": (2000, 640, 480)}, r"rawDepths, is damaged \(it has chunks of shape"),
        ({"external": "other.bin"}, r"rawDepths, is damaged \(its values are in other files"),
    ],
    ids=["checksum", "lzf", "text", "chunk", "external"],
)
def test_an_array_that_matlab_does_not_store_so(tmp_path, options, message):
    import h5py

    path = tmp_path / "x.mat"
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((1, 3, 640, 480), np.uint8)
        file.create_dataset("rawDepths", **({"shape": (1, 640, 480), "dtype": "f4"} | options))
    with pytest.raises(ValueError, match=rf"x\.mat, {message}"):
        read_frame(path, 0, "rawDepths")


def test_deflate_and_shuffle_are_read_and_wide_images_refused(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x.mat", "w") as file:
        file.create_dataset("images", data=np.full((1, 3, 640, 480), 7, np.uint16))
        depth = np.full((1, 640, 480), 2.5, np.float32)
        file.create_dataset("rawDepths", data=depth, compression="gzip", shuffle=True)
        file.create_dataset("depths", data=depth)
    with pytest.raises(ValueError, match=r"x\.mat, images, is uint16; expected 8 bits"):
        read_frame(tmp_path / "x.mat", 0, "rawDepths")
    with h5py.File(tmp_path / "x.mat", "a") as file:
        del file["images"]
        file["images"] = np.full((1, 3, 640, 480), 7, np.uint8)
    assert (read_frame(tmp_path / "x.mat", 0, "rawDepths")[1] == 2.5).all()


def test_a_chunk_that_is_marked_as_not_compressed(tmp_path):
    import h5py

    packed = {"shape": (2, 640, 480), "dtype": "f4", "chunks": (1, 640, 480), "compression": "gzip"}
    with h5py.File(tmp_path / "x.mat", "w") as file:
        file["images"] = np.zeros((2, 3, 640, 480), np.uint8)
        depths = file.create_dataset("rawDepths", **packed)
        depths[0] = 1.0
        depths.id.write_direct_chunk((1, 0, 0), bytes(640 * 480), filter_mask=1)
    assert (read_frame(tmp_path / "x.mat", 0, "rawDepths")[1] == 1).all()
    with pytest.raises(ValueError, match=r"rawDepths, is damaged \(a chunk is marked as not compressed"):
        read_frame(tmp_path / "x.mat", 1, "rawDepths")
