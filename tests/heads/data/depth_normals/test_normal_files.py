from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from heads.data.depth_normals.depth_files import read_depth
from heads.data.depth_normals.module import camera
from heads.data.depth_normals.normal_files import normals_from_depth, read_normals, unit_normals
from heads.data.scenes.render import render

SAMPLES = Path(__file__).parents[5] / "shared" / "data"
THEIRS = ("right", "up", "towards")  # of ScanNet's, NYU's and ClearGrasp's pictures


def unit(*vector):
    return np.array(vector) / np.linalg.norm(vector)


def picture(path, vectors):
    """As published: (n + 1) / 2 * 255."""
    Image.fromarray(((np.array(vectors) + 1) / 2 * 255).round().astype(np.uint8)).save(path)
    return path


def test_a_wall_that_is_seen_straight_on_has_minus_z(tmp_path):
    normal = read_normals(picture(tmp_path / "n.png", [[[0, 0, 1]] * 2]), THEIRS)
    torch.testing.assert_close(normal[:, 0, 0], torch.tensor([0.0, 0, -1]), atol=0.005, rtol=0)


@pytest.mark.parametrize(
    ("axes", "theirs"),
    [
        (THEIRS, (0.3, 0.5, 0.8)),
        (("right", "down", "away"), (0.3, -0.5, -0.8)),
        (("left", "up", "away"), (-0.3, 0.5, -0.8)),
    ],
)
def test_axes_are_turned_into_our_own(tmp_path, axes, theirs):
    normal = read_normals(picture(tmp_path / "n.png", [[unit(*theirs)] * 2]), axes)
    torch.testing.assert_close(normal[:, 0, 0], torch.tensor(unit(0.3, -0.5, -0.8)).float(), atol=0.005, rtol=0)
    torch.testing.assert_close(normal.norm(dim=0), torch.ones(1, 2))


def test_black_is_no_reading_and_middle_grey_is_no_direction(tmp_path):
    pixels = np.array([[[0, 0, 0], [128, 128, 128], [128, 128, 255]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "n.png")
    normal = read_normals(tmp_path / "n.png", THEIRS)
    assert (normal[:, 0, :2] == 0).all() and normal[2, 0, 2] < -0.99


def test_normals_that_point_away_from_the_camera_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"n\.png: most normals point away .* not \['right', 'down', 'away'\]"):
        read_normals(picture(tmp_path / "n.png", [[[0, 0, 1]] * 2]), ("right", "down", "away"))


def test_a_photograph_is_no_normal_map(tmp_path):
    Image.fromarray(np.full((4, 4, 3), 250, np.uint8)).save(tmp_path / "n.png")
    Image.fromarray(np.full((4, 4), 60, np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(ValueError, match=r"n\.png is not a normal map: its vectors have median length 1\.66"):
        read_normals(tmp_path / "n.png", THEIRS)
    with pytest.raises(ValueError, match=r"grey\.png has mode L; expected normals as RGB"):
        read_normals(tmp_path / "grey.png", THEIRS)
    with pytest.raises(ValueError, match=r"vectors have median length 2\.00; expected 1"):
        unit_normals(np.full((2, 2, 3), [0, 0, 2.0]), THEIRS, "n")


def test_no_normal_at_all(tmp_path):
    with pytest.raises(ValueError, match=r"n\.png holds no normal"):
        read_normals(picture(tmp_path / "n.png", np.full((2, 2, 3), -1.0)), THEIRS)


def test_vectors_that_are_no_numbers_are_no_reading():
    normal = unit_normals(np.array([[[0, 0, 1], [np.nan, 0, 1], [np.inf, 0, 0]]]), THEIRS, "n")
    assert normal[2, 0].tolist() == [-1, -1, 0]  # what is left of the second one has a direction


@pytest.mark.parametrize("axes", [("up", "right", "away"), ("right", "down"), ("x", "y", "z")])
def test_unknown_axes(axes):
    with pytest.raises(ValueError, match=r"axes is .*; expected right or left"):
        unit_normals(np.ones((1, 1, 3)), axes, "n")


def test_depth_of_a_plane_gives_its_normal():
    normal, matrix = torch.tensor(unit(0.2, -0.4, -0.9)), camera(50, 55, 20.5, 12)
    rows, columns = torch.meshgrid(torch.arange(24.0) + 0.5, torch.arange(40.0) + 0.5, indexing="ij")
    rays = torch.stack([(columns - 20.5) / 50, (rows - 12) / 55, torch.ones(24, 40)]).double()
    found = normals_from_depth(-2 / torch.einsum("c,chw->hw", normal, rays)[None], matrix)
    torch.testing.assert_close(found[:, 1:-1, 1:-1], normal.float()[:, None, None].expand(3, 22, 38))
    assert (found[:, 0] == 0).all() and (found[:, :, -1] == 0).all()


def test_pixels_beside_a_hole_have_no_normal():
    depth = torch.ones(1, 5, 5)
    depth[0, 2, 2] = 0
    found = normals_from_depth(depth, camera(5, 5, 2.5, 2.5))
    assert found[2].tolist() == [[0] * 5, [0, -1, 0, -1, 0], [0] * 5, [0, -1, 0, -1, 0], [0] * 5]


def test_depth_of_a_generated_scene_gives_its_normals():
    scene = render((0, 0), (96, 96))
    found = normals_from_depth(torch.from_numpy(scene.depth), torch.from_numpy(scene.intrinsics))
    cosine = (found * torch.from_numpy(scene.normal)).sum(dim=0)[(found != 0).any(dim=0)]
    assert cosine.median() > 0.9999 and (cosine > 0.95).float().mean() > 0.85  # not across edges


_EACH = 8  # pixels between the windows


def smooth_normals(depth, matrix, size):
    """Of planes fitted to windows: 1 / depth of a plane is linear in the ray, and its slopes are the normal."""
    rows, columns = torch.arange(depth.shape[1]) + 0.5, torch.arange(depth.shape[2]) + 0.5
    x, y = torch.meshgrid((columns - matrix[0, 2]) / matrix[0, 0], (rows - matrix[1, 2]) / matrix[1, 1], indexing="xy")
    rays = torch.stack([x, y, torch.ones_like(x)]).double()
    read, near = (depth > 0).double(), torch.where(depth > 0, 1 / depth, 0).double()

    def mean(values):
        return F.avg_pool2d(values[None], size, stride=_EACH, padding=size // 2)[0]

    squares = mean((rays[:, None] * rays[None] * read).flatten(0, 1)).unflatten(0, (3, 3)).permute(2, 3, 0, 1)
    slopes = torch.linalg.solve(squares + 1e-12 * torch.eye(3), mean(rays * near).permute(1, 2, 0))
    return -F.normalize(slopes, dim=-1).permute(2, 0, 1), mean(read)[0] > 0.999


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("depth", "normal", "matrix", "window"),
    [
        (
            "nyu_depth_v2_mini/scene_a/sync_depth_00000.png",
            "nyu_depth_v2_mini/scene_a/normal_from_depth_00000.png",
            camera(518.8579, 519.46961, 325.08245, 253.23617),
            13,
        ),
        (
            "sevenscenes_rgbd/seq-01/frame-000000.depth.png",
            "sevenscenes_rgbd/normal_from_depth/frame-000000.normal.png",
            camera(585, 585, 320, 240),
            13,
        ),
        (
            "cleargrasp_real/000000080-opaque-depth-mm.png",
            "cleargrasp_real/000000080-normals.png",
            camera(921, 921, 642, 359),
            31,  # steps of 1 mm at 0.6 m: a smaller window is all noise
        ),
    ],
    ids=lambda v: v.split("/")[0] if isinstance(v, str) else "",
)
def test_real_normals_are_those_of_the_depth(depth, normal, matrix, window):
    expected, whole = smooth_normals(read_depth(SAMPLES / depth, invalid=(65535,)), matrix, window)
    found = read_normals(SAMPLES / normal, THEIRS)[:, ::_EACH, ::_EACH]
    both = whole & (found != 0).any(dim=0)
    cosine = (found * expected).sum(dim=0)[both].clamp(-1, 1)
    assert both.float().mean() > 0.2
    assert cosine.acos().rad2deg().median() < 5
