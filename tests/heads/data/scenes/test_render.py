import hashlib
import re
import subprocess
import sys
from dataclasses import astuple

import numpy as np
import pytest
import torch
from torchvision.ops import masks_to_boxes

from heads.data.scenes.materials import COLOURS, TEXTURES
from heads.data.scenes.render import CLASSES, EYE, PITCH, intrinsics, render

NAMES = list(CLASSES)
KEYS = [(3, 1, i) for i in range(12)]


@pytest.fixture(scope="module")
def scenes():
    return [render(key, (128, 160)) for key in KEYS]


def digest(key):
    parts = (p.encode() if isinstance(p, str) else p.tobytes() for p in astuple(render(key, (48, 64))))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def points(scene):
    """Camera coordinates (3, H, W) of each pixel, from depth and intrinsics alone."""
    height, width = scene.mask.shape
    pixel = np.stack(np.broadcast_arrays(np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5, 1.0))
    return np.einsum("ij,jhw->ihw", np.linalg.inv(scene.intrinsics.astype(np.float64)), pixel) * scene.depth


def above_floor(scene):
    """Height of each pixel's point above the floor [m], for a camera that looks down by PITCH."""
    _, y, z = points(scene)
    return EYE - np.cos(PITCH) * y - np.sin(PITCH) * z


def test_a_key_gives_the_same_scene_in_any_order_and_process():
    keys = [(0, 0, 5), (0, 2, 5, 1), (7, 0, 0)]
    found = [digest(key) for key in keys]
    assert [digest(key) for key in reversed(keys)] == found[::-1]
    assert len(set(found)) == 3
    code = f"import test_render; print(*map(test_render.digest, {keys}))"
    run = subprocess.run([sys.executable, "-c", code], cwd="tests/heads/data/scenes", capture_output=True, text=True)
    assert run.stdout.split() == found, run.stderr


def test_arrays_are_as_documented(scenes):
    for scene in scenes:
        count = len(scene.labels)
        shapes = {name: (value.dtype.name, value.shape) for name, value in vars(scene).items() if name != "caption"}
        assert shapes == {
            "image": ("uint8", (128, 160, 3)),
            "mask": ("int64", (128, 160)),
            "depth": ("float32", (1, 128, 160)),
            "normal": ("float32", (3, 128, 160)),
            "boxes": ("float32", (count, 4)),
            "labels": ("int64", (count,)),
            "instance_masks": ("bool", (count, 128, 160)),
            "intrinsics": ("float32", (3, 3)),
        }
        assert count >= 1 and np.isfinite(scene.depth).all() and scene.depth.min() > 0.3 and scene.depth.max() < 20


def test_planes_are_where_they_belong(scenes):
    for scene in scenes:
        height, normal, place = above_floor(scene), scene.normal, points(scene)
        np.testing.assert_allclose(height[scene.mask == NAMES.index("floor")], 0, atol=1e-5)
        ceiling = height[scene.mask == NAMES.index("ceiling")]
        assert np.ptp(ceiling) < 1e-5 if ceiling.size else True
        wall = scene.mask == NAMES.index("wall")
        for direction in np.unique(normal[:, wall].round(4), axis=1).T:
            own = wall & (np.abs(normal - direction[:, None, None]).max(axis=0) < 1e-3)
            assert np.ptp((normal * place).sum(axis=0)[own]) < 1e-5  # each wall is one plane
        solid = scene.mask < 4
        assert height[solid].min() > -1e-5 and height[solid].max() < EYE


def test_normals_are_those_of_the_depth_within_3_degrees_away_from_edges(scenes):
    checked = 0
    for scene in scenes:
        place, normal = points(scene), scene.normal
        np.testing.assert_allclose(np.linalg.norm(normal, axis=0), 1, atol=1e-6)
        assert ((normal * place).sum(axis=0) < 0).all()  # towards the camera
        across, down = place[:, 1:-1, 2:] - place[:, 1:-1, :-2], place[:, 2:, 1:-1] - place[:, :-2, 1:-1]
        found = np.cross(down, across, axis=0)
        found /= np.linalg.norm(found, axis=0)
        middle, own = normal[:, 1:-1, 1:-1], surfaces(scene)
        facing = -(normal * place).sum(axis=0) / np.linalg.norm(place, axis=0)
        same = facing[1:-1, 1:-1] > 0.25  # the outline of a ball is an edge as well
        for part in (np.s_[2:, 1:-1], np.s_[:-2, 1:-1], np.s_[1:-1, 2:], np.s_[1:-1, :-2]):
            same &= (own[part] == own[1:-1, 1:-1]) & ((normal[:, *part] * middle).sum(axis=0) > np.cos(np.deg2rad(8)))
        angle = np.rad2deg(np.arccos(np.clip((found * middle).sum(axis=0)[same], -1, 1)))
        assert angle.max() < 3
        checked += same.mean() / len(scenes)
    assert checked > 0.85


def surfaces(scene):
    """A number for each class of the room and for each solid."""
    return scene.mask + (scene.instance_masks * np.arange(10, 10 + len(scene.labels))[:, None, None]).sum(axis=0)


def test_boxes_labels_and_masks_are_each_others(scenes):
    for scene in scenes:
        masks = torch.from_numpy(scene.instance_masks)
        expected = masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])
        assert torch.equal(torch.from_numpy(scene.boxes), expected)
        assert masks.sum(dim=0).max() <= 1
        for mask, label in zip(scene.instance_masks, scene.labels, strict=True):
            assert (scene.mask[mask] == label).all()
        hidden = (scene.mask < 4) & ~scene.instance_masks.any(axis=0)
        assert hidden.mean() < 0.005  # solids of which hardly anything is seen


def test_captions_are_true(scenes):
    names = rf"(?:({'|'.join(TEXTURES[1:])}) )?({'|'.join(COLOURS)}) (box|ball|cylinder|cone)"
    relations = 0
    for scene in scenes:
        first, *rest = re.split(r"(?<=\.) ", scene.caption)
        found = re.findall(names, first)
        assert sorted(NAMES.index(kind) for _, _, kind in found) == sorted(scene.labels)
        order = {name: i for i, name in enumerate(found)}  # the caption names them in the order of the boxes
        for sentence in rest:
            one, relation, other = re.fullmatch(rf"The ({names}) is (.*) the ({names})\.", sentence).group(1, 5, 6)
            i, j = (order[re.fullmatch(names, n).groups(default="")] for n in (one, other))
            (left, _, right, _), (other_left, _, other_right, _) = scene.boxes[i], scene.boxes[j]
            nearest = [scene.depth[0][scene.instance_masks[k]].min() for k in (i, j)]
            assert {
                "left of": right <= other_left,
                "right of": left >= other_right,
                "in front of": nearest[0] < nearest[1],
                "behind": nearest[0] > nearest[1],
            }[relation]
            relations += 1
    assert relations > 5


def test_the_lamp_and_colours_leave_no_picture_flat(scenes):
    assert all(10 < scene.image.mean() < 220 and scene.image.std() > 15 for scene in scenes)


def test_no_class_has_more_than_two_fifths_of_the_pixels_or_almost_none():
    masks = np.stack([render((0, 0, i), (64, 64)).mask for i in range(200)])
    shares = np.bincount(masks.ravel(), minlength=len(NAMES)) / masks.size
    assert shares.max() < 0.4 and shares.min() > 0.03


def test_a_scene_is_the_same_at_any_size():
    small, large, wide = (render((1, 2, 3), size) for size in ((60, 80), (120, 160), (120, 80)))
    assert np.mean(small.mask == large.mask[::2, ::2]) > 0.95
    np.testing.assert_allclose(large.intrinsics[:2], 2 * small.intrinsics[:2])
    np.testing.assert_array_equal(wide.depth[0, 30:90], small.depth[0])  # the same camera sees more above and below
    assert intrinsics((60, 80))[0, 0] == pytest.approx(0.85 * 80) and wide.mask.shape == (120, 80)
