import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from heads.data.depth_normals.depth_files import check_unit, read_depth, read_inverse_depth

SAMPLES = Path(__file__).parents[5] / "shared" / "data"


def png(path, values, dtype=np.uint16):
    Image.fromarray(np.asarray(values, dtype)).save(path)
    return path


def npy(path, values):
    np.save(path, values)
    return path


def test_png_of_millimetres(tmp_path):
    depth = read_depth(png(tmp_path / "d.png", [[0, 1, 1234], [65535, 2500, 9999]]))
    expected = torch.tensor([[[0, 0.001, 1.234], [65.535, 2.5, 9.999]]])
    assert torch.equal(depth, expected) and depth.dtype == torch.float32


def test_png_of_kitti(tmp_path):
    depth = read_depth(png(tmp_path / "d.png", [[0, 256, 20480], [1, 128, 384]]), scale=256)
    assert torch.equal(depth, torch.tensor([[[0, 1, 80], [1 / 256, 0.5, 1.5]]]))


def test_png_of_navi_is_inverse_depth(tmp_path):
    values = np.array([[0, 65535, 6553, 1000]], np.uint16)
    disparity = values.astype(np.float32) / (65535 * 10.0)  # as google/navi decodes it
    with np.errstate(divide="ignore"):
        theirs = np.where(values == 0, 0, 1 / disparity) / 1000
    found = read_inverse_depth(png(tmp_path / "d.png", values))
    assert found[0, 0, :2].tolist() == pytest.approx([0, 0.01])
    np.testing.assert_allclose(found[0].numpy(), theirs, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3), (2, 3, 1)])
def test_array_of_metres(tmp_path, shape):
    values = np.arange(1, 7, dtype=np.float64).reshape(shape)
    assert torch.equal(read_depth(npy(tmp_path / "d.npy", values)), torch.arange(1.0, 7).reshape(1, 2, 3))


def test_array_with_a_scale(tmp_path):
    assert read_depth(npy(tmp_path / "d.npy", np.array([[1500, 0]])), scale=1000).tolist() == [[[1.5, 0]]]


def test_nan_is_no_reading(tmp_path):
    assert read_depth(npy(tmp_path / "d.npy", np.array([[np.nan, 2.0]]))).tolist() == [[[0, 2]]]


def test_infinity_is_refused_unless_it_is_declared(tmp_path):
    path = npy(tmp_path / "d.npy", np.array([[np.inf, 2.0]]))
    with pytest.raises(ValueError, match=r"d\.npy has infinite depth at 1 pixels.*\.inf to data\.invalid"):
        read_depth(path)
    assert read_depth(path, invalid=[float("inf")]).tolist() == [[[0, 2]]]


def test_declared_values_are_no_reading_before_they_are_scaled(tmp_path):
    path = png(tmp_path / "d.png", [[65535, 1000]])
    assert read_depth(path, invalid=[65535]).tolist() == [[[0, 1]]]


def test_picture_of_8_bits(tmp_path):
    with pytest.raises(ValueError, match=r"d\.png has mode L; expected depth as one channel of 16 bits"):
        read_depth(png(tmp_path / "d.png", [[1, 2]], np.uint8))


@pytest.mark.parametrize("values", [[[0, 0]], [[np.nan, 0]]])
def test_no_reading_at_all(tmp_path, values):
    with pytest.raises(ValueError, match=r"d\.npy holds no reading"):
        read_depth(npy(tmp_path / "d.npy", np.array(values, np.float64)))


def test_negative_depth(tmp_path):
    with pytest.raises(ValueError, match=r"d\.npy has depths down to -2 m"):
        read_depth(npy(tmp_path / "d.npy", np.array([[-2.0, 1]])))


@pytest.mark.parametrize("value", [1e39, 1e-60, 1e-40])
def test_what_float32_cannot_hold_is_refused(tmp_path, value):
    path = npy(tmp_path / "d.npy", np.array([[value, 2.0]]))
    with pytest.raises(
        ValueError,
        match=rf"d\.npy has depths that float32 cannot hold at 1 pixels, such as {re.escape(f'{value:g}')} m",
    ):
        read_depth(path)
    assert read_depth(path, invalid=[value]).tolist() == [[[0, 2]]]


def test_the_cast_is_checked_after_the_scale(tmp_path):
    path = npy(tmp_path / "d.npy", np.array([[1e39, 2e39]]))
    assert read_depth(path, scale=1e39).tolist() == [[[1, 2]]]
    with pytest.raises(ValueError, match=r"d\.npy has depths that float32 cannot hold"):
        read_depth(npy(tmp_path / "d.npy", np.array([[1.0, 2.0]])), scale=1e-300)


def test_numbers_beyond_float64_are_infinite(tmp_path):
    path = npy(tmp_path / "d.npy", np.array([["1e400", "2"]], np.longdouble))
    with pytest.raises(ValueError, match=r"d\.npy has infinite depth"):
        read_depth(path)


def test_values_of_8_bits_in_a_depth_map_of_16_stay_exact(tmp_path):
    assert read_depth(png(tmp_path / "d.png", [[1, 250]]), scale=1).tolist() == [[[1, 250]]]


def test_files_that_are_no_depth(tmp_path):
    with pytest.raises(ValueError, match=r"No file .*d\.png"):
        read_depth(tmp_path / "d.png")
    with pytest.raises(ValueError, match=r"No file .*d\.npy"):
        read_depth(tmp_path / "d.npy")
    (tmp_path / "t.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match=r"t\.npy is not a readable array"):
        read_depth(tmp_path / "t.npy")
    with pytest.raises(ValueError, match=r"s\.npy is float64 of shape \(2, 3, 4\)"):
        read_depth(npy(tmp_path / "s.npy", np.ones((2, 3, 4))))
    with pytest.raises(ValueError, match=r"c\.npy has dtype complex128"):
        read_depth(npy(tmp_path / "c.npy", np.ones((2, 3), complex)))


def test_a_pickle_is_not_opened(tmp_path):
    np.save(tmp_path / "p.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"p\.npy is not a readable array"):
        read_depth(tmp_path / "p.npy")


@pytest.mark.parametrize(("factor", "message"), [(1000, "1000 times.* 2.5 m"), (0.001, "0.001 times.* 2.5 m")])
def test_wrong_unit_is_warned_about_with_the_factor(factor, message):
    with pytest.warns(UserWarning, match=message):
        check_unit(9, lambda i: torch.tensor([[[0, 2.5 * factor]]]), (0.01, 10))


def test_kitti_read_as_millimetres_is_warned_about():
    with pytest.warns(UserWarning, match=r"The median depth of 2 maps is 3.5 m, outside depth_range \[5.0, 80.0\]"):
        check_unit(2, lambda i: torch.full((1, 2, 2), 3.5), (5.0, 80.0))


def test_right_unit_is_not_warned_about():
    check_unit(1, lambda i: torch.tensor([[[0, 2.5]]]), (0.01, 10))


def test_depth_without_a_fitting_unit():
    with pytest.warns(UserWarning, match="look at the files"):
        check_unit(1, lambda i: torch.tensor([[[1e30]]]), (1, 10))


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("name", "scale", "invalid", "low", "high"),
    [
        ("nyu_depth_v2_mini/scene_a/sync_depth_00000.png", None, (), 3.0, 3.5),
        ("nyu_depth_v2_mini/labeled_half/depth_00009.png", None, (), 1.5, 2.0),
        ("kitti_depth_mini/metric3d_demo/proj_depth/groundtruth/image_02/0000000050.png", 256, (), 12, 15),
        ("sevenscenes_rgbd/seq-01/frame-000000.depth.png", None, (65535,), 1.5, 2.5),
        ("cleargrasp_real/000000080-opaque-depth-mm.png", None, (), 0.5, 0.7),
    ],
)
def test_real_depths_are_plausible(name, scale, invalid, low, high):
    depth = read_depth(SAMPLES / name, scale, invalid)
    assert low < depth[depth > 0].median() < high and depth.max() < 90
