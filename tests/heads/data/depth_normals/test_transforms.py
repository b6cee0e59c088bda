import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as V

from heads.data.depth_normals.maps import DepthMap
from heads.data.depth_normals.transforms import (
    NYU_BORDER,
    Frame,
    GammaBrightnessColour,
    bts_transform,
    kb_crop,
    probe3d_transform,
)
from heads.geometry.record import Geometry


def pair(height, width):
    """An image whose first channel holds the depth, so that the two can be compared."""
    values = torch.arange(height * width).reshape(1, height, width) % 200 + 1
    return tv_tensors.Image(values.to(torch.uint8).expand(3, -1, -1).clone()), DepthMap(values.float())


def test_nyu_border_is_that_of_the_recipe():
    image, depth = pair(480, 640)
    left, upper, right, lower = 43, 45, 608, 472
    for part in (image, depth):
        assert torch.equal(V.crop(part, *NYU_BORDER), part[:, upper:lower, left:right])


@pytest.mark.parametrize(("size", "top", "left"), [((375, 1242), 23, 13), ((370, 1226), 18, 5), ((352, 1216), 0, 0)])
def test_kb_crop_is_at_the_bottom_in_the_middle(size, top, left):
    assert kb_crop(size) == (top, left, 352, 1216)


def test_kb_crop_of_a_small_image():
    with pytest.raises(ValueError, match=r"The image is \(300, 1216\).*352 x 1216"):
        kb_crop((300, 1216))


def test_recipe_of_nyu_has_crops_of_its_size_and_pixels_that_belong_together():
    image, depth = pair(480, 640)
    torch.manual_seed(0)
    image, depth = bts_transform((480, 640), (416, 544), border=NYU_BORDER)(image, depth)
    assert image.shape == (3, 416, 544) and torch.equal(image[:1].float(), depth)


def test_turned_corners_have_no_reading_and_the_rest_stays_registered():
    image, depth = pair(480, 640)
    torch.manual_seed(1)
    image, depth = bts_transform((480, 640), None, rotate=2.5, rotate_p=1)(image, depth)
    assert image.shape == (3, 480, 640) and (depth == 0).float().mean() < 0.08 and (depth == 0).any()
    assert (image[:, (depth == 0)[0]] == 0).float().mean() > 0.5


def test_training_sees_the_scale_that_tests_see():
    _, depth = pair(480, 640)
    found = Frame((240, 320), NYU_BORDER)(depth)
    assert found.shape == (1, 214, 282)
    _, geometry = Frame((240, 320), NYU_BORDER)(depth, Geometry.of((480, 640)))
    matrix = geometry.intrinsics(torch.tensor([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]))
    assert matrix[0, 0] == pytest.approx(250, rel=0.003) and matrix[0, 2] == pytest.approx((320 - 43) / 2, rel=0.003)


def test_border_of_an_image_that_is_too_small():
    with pytest.raises(ValueError, match="The image is 240 x 320 px; expected one that contains the part"):
        Frame((240, 320), NYU_BORDER)(pair(240, 320)[0])


def test_crops_larger_than_the_image_are_padded_without_a_reading():
    image, depth = bts_transform((20, 30), (40, 40))(*pair(20, 30))
    assert image.shape == (3, 40, 40) and (depth == 0).sum() == 40 * 40 - 20 * 30


def test_colours_keep_depth_and_stay_within_their_range():
    image, depth = pair(20, 20)
    image = torch.full_like(image, 128)
    for seed in range(20):
        torch.manual_seed(seed)
        changed, same = GammaBrightnessColour((0.75, 1.25), 1.0)(image, depth)
        assert torch.equal(same, depth) and changed.dtype == torch.uint8
        value = changed.float().mean(dim=(1, 2)) / 255
        assert (value > 0.5**1.1 * 0.75 * 0.9 - 0.01).all() and (value < 0.51**0.9 * 1.25 * 1.1 + 0.01).all()
    assert torch.equal(GammaBrightnessColour((0.75, 1.25), 0.0)(image), image)


@pytest.mark.parametrize("size", [(48, 48), (48, 64)])
def test_recipe_of_probe3d_keeps_the_shape_of_pixels(size):
    torch.manual_seed(0)
    for _ in range(10):
        image, depth = pair(480, 640) if size[1] == 64 else pair(500, 500)
        image, depth, geometry = probe3d_transform(size, crop=1.0)(image, depth, Geometry.of(image.shape[1:]))
        assert image.shape[1:] == depth.shape[1:] == size
        row_scale, column_scale = geometry.tolist()[:2]
        assert row_scale == pytest.approx(column_scale, rel=0.05)
        assert 0.9 < row_scale / (48 / image_height(size)) < 1.5


def image_height(size):
    return 480 if size[1] == 64 else 500
