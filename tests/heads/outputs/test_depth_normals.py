import numpy as np
import pytest
import torch
from PIL import Image

from heads.outputs.depth_normals import depth_picture, normals_picture, write_depth, write_normals


@pytest.mark.parametrize(("far", "scale"), [(10.0, 1000), (65.5, 1000), (80.0, 256)])
def test_depth_comes_back_from_the_png_by_its_scale(tmp_path, far, scale):
    depth = torch.rand(7, 9) * far
    write_depth(depth, far, tmp_path, "a")
    with Image.open(tmp_path / "depth" / "a.png") as image:
        assert image.mode == "I;16" and image.text["depth_scale"] == str(scale)
        found = np.array(image) / int(image.text["depth_scale"])
    assert np.abs(found - depth.numpy()).max() <= 0.5 / scale + 4e-6  # half a float32 step at 65.5 m
    assert np.array_equal(np.load(tmp_path / "depth" / "a.npy"), depth.numpy())


def test_relative_depth_has_no_metres(tmp_path):
    write_depth(torch.randn(7, 9), None, tmp_path, "a")
    assert [p.name for p in sorted((tmp_path / "depth").iterdir())] == ["a.npy"]
    assert (tmp_path / "colours" / "a.png").is_file()


def test_near_is_bright_in_relative_depth_too_which_is_inverse():
    inverse = np.linspace(1, 4, 20000).reshape(40, 500)
    picture = np.array(depth_picture(inverse, ""), dtype=int).sum(axis=-1)
    assert picture[39, 499] > picture[0, 0] and picture[52, 260] > picture[52, 240]


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (40, 500)])
def test_near_is_bright_and_the_bar_goes_the_same_way(size):
    depth = np.linspace(1, 4, size[0] * size[1]).reshape(size)
    picture = np.array(depth_picture(depth, "m"), dtype=int)
    assert picture.shape[0] == size[0] + 24 and picture.shape[1] >= size[1]
    near, far = picture[0, 0].sum(), picture[size[0] - 1, size[1] - 1].sum()
    assert near >= far and (near > far or depth.size == 1)
    bar = picture[size[0] + 12].sum(axis=-1)
    middle = bar[picture.shape[1] // 2 - 15 : picture.shape[1] // 2 + 15]
    assert (np.diff(middle) <= 0).all() and middle[0] > middle[-1]


def test_normals_in_colours_and_numbers(tmp_path):
    normals = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]).T.reshape(3, 1, 3)  # right, up, towards the camera
    write_normals(normals, tmp_path, "a")
    assert np.array_equal(np.load(tmp_path / "normals" / "a.npy"), normals.numpy())
    colours = np.array(Image.open(tmp_path / "colours" / "a.png"))
    assert colours.tolist() == [[[255, 128, 128], [128, 255, 128], [128, 128, 255]]]
    assert np.array_equal(np.array(normals_picture(normals.numpy())), colours)
