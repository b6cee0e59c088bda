import colorsys

import pytest
import torch
from torchvision import tv_tensors

from heads.data.segmentation.photometric import PhotometricDistortion, scale_saturation
from heads.geometry.record import Geometry


def noise(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tv_tensors.Image(torch.randint(0, 256, (3, 9, 9), dtype=torch.uint8, generator=generator))


def distorted(steps, image, saturation="hsv"):
    return PhotometricDistortion(0.1, saturation).transform(image, {"steps": steps}).as_subclass(torch.Tensor)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.5])
def test_saturation_is_that_of_hsv_and_value_and_hue_stay(factor):
    image = noise()
    found = scale_saturation(image.as_subclass(torch.Tensor), factor)
    for before, after in zip(image.flatten(1).T.tolist(), found.flatten(1).T.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in before))
        expected = colorsys.hsv_to_rgb(hue, min(1, saturation * factor), value)
        assert max(abs(255 * e - a) for e, a in zip(expected, after, strict=True)) <= 0.51


def test_grey_has_no_saturation_to_scale():
    grey = torch.full((3, 2, 2), 77, dtype=torch.uint8)
    assert torch.equal(scale_saturation(grey, 1.5), grey)


def test_brightness_is_added_and_contrast_multiplied():
    image = tv_tensors.Image(torch.tensor([0, 100, 250], dtype=torch.uint8).view(3, 1, 1))
    assert distorted([("brightness", 20.0)], image).flatten().tolist() == [20, 120, 255]
    assert distorted([("contrast", 1.5)], image).flatten().tolist() == [0, 150, 255]


def test_blending_is_another_saturation():
    image = noise()
    assert not torch.equal(distorted([("saturation", 0.5)], image), distorted([("saturation", 0.5)], image, "blend"))


def test_each_step_has_probability_one_half_and_contrast_comes_second_or_last():
    torch.manual_seed(0)
    draws = [[name for name, _ in PhotometricDistortion(0.5, "blend").make_params([])["steps"]] for _ in range(400)]
    for name in ("brightness", "contrast", "saturation", "hue"):
        assert 150 < sum(name in draw for draw in draws) < 250
    whole = [draw for draw in draws if len(draw) == 4]
    assert {draw.index("contrast") for draw in whole} == {1, 3}
    assert all([n for n in draw if n != "contrast"] == ["brightness", "saturation", "hue"] for draw in whole)


def test_labels_and_geometry_stay_as_they_are():
    torch.manual_seed(0)
    image, mask, geometry = noise(), tv_tensors.Mask(torch.ones(9, 9, dtype=torch.int64)), Geometry.of((9, 9))
    found = PhotometricDistortion(0.5, "blend")(image, mask, geometry)
    assert isinstance(found[0], tv_tensors.Image) and not torch.equal(found[0], image)
    assert torch.equal(found[1], mask) and torch.equal(found[2], geometry)
