"""Whole images, windows, flips and scales: what is averaged, and when it is one plain look."""

import pytest
import torch
import torch.nn.functional as F

from heads.tasks.test_time import TestTimeAugmentation as Views


def blur(image):
    """Stands for a network: what it says of a pixel depends on its surroundings, and on the side they are on."""
    kernel = torch.arange(25, dtype=image.dtype).view(1, 1, 5, 5) / 300
    padded = F.pad(image[:, :1], (2, 2, 2, 2))
    one = F.conv2d(padded, kernel)
    return [torch.cat([one, image[:, 1:2]], dim=1), torch.cat([-one, image[:, 2:3]], dim=1)]


def average(how, image, network):
    """The mean over the views of one image, of what a function of pixels says of each."""
    size = (image.shape[1], image.shape[2])
    batch = {"image": image[None], "size": [size]}
    return how.average(0, size, lambda view: network(view.pixels(batch)))


@pytest.fixture
def image():
    return torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_one_window_is_the_whole_image(image):
    whole = average(Views(), image, blur)
    for window in ((20, 30), (64, 64)):
        for found, expected in zip(average(Views("slide", window, (10, 10)), image, blur), whole, strict=True):
            assert torch.equal(found, expected)


def test_windows_are_averaged_by_how_many_see_a_pixel(image):
    found = average(Views("slide", (20, 20), (20, 10)), image, blur)[0]
    left, right = blur(image[None, :, :, :20])[0][0], blur(image[None, :, :, 10:])[0][0]
    expected = torch.cat([left[..., :10], (left[..., 10:] + right[..., :10]) / 2, right[..., 10:]], dim=-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


def test_the_number_of_windows_in_a_batch_changes_nothing(image):
    looks = [average(Views("slide", (8, 8), (5, 5), window_batch=n), image, blur)[1] for n in (1, 3, 100)]
    assert torch.equal(looks[0], looks[1]) and torch.equal(looks[0], looks[2])


def test_a_mirrored_look_is_mirrored_back(image):
    found = average(Views(flip=True), image, blur)[0]
    plain, mirrored = blur(image[None])[0][0], blur(image[None].flip(-1))[0][0].flip(-1)
    torch.testing.assert_close(found, (plain + mirrored) / 2, rtol=0, atol=1e-14)
    assert torch.equal(found[1], image[1])


def test_scales_are_looked_at_and_brought_back(image):
    seen = []

    def note(view):
        seen.append(tuple(view.shape[-2:]))
        return [view[:, :2]]

    ramp = torch.linspace(0, 1, 30, dtype=torch.float64).expand(3, 20, 30)
    found = average(Views(scales=(1.0, 0.5, 2.0), flip=True), ramp, note)[0]
    assert seen == [(20, 30)] * 2 + [(10, 15)] * 2 + [(40, 60)] * 2
    torch.testing.assert_close(found[:, :, 4:-4], ramp[:2, :, 4:-4], rtol=0, atol=1e-3)


def test_what_one_plain_look_is():
    assert Views().single((9, 9)) and Views("slide").single((512, 512))
    assert not Views("slide").single((512, 513))
    assert not Views(flip=True).single((9, 9)) and not Views(scales=(1.0, 2.0)).single((9, 9))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "tiles"}, "inference is 'tiles'; expected one of whole, slide"),
        ({"window": (0, 8)}, r"window is \[0, 8\]"),
        ({"window": (8, 8), "stride": (9, 8)}, "there are gaps"),
        ({"scales": ()}, "at least one factor"),
        ({"scales": (1.0, 0.0)}, "one factor above 0"),
        ({"scales": (float("nan"),)}, "one factor above 0"),
        ({"window_batch": 0}, "window_batch is 0"),
    ],
)
def test_what_is_out_of_range_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Views(**wrong)
