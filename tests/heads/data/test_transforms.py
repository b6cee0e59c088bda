import pytest
import torch
from torchvision import tv_tensors

from heads.data.transforms import ScaleJitter, train_transform


def picture(height, width):
    return tv_tensors.Image(torch.randint(1, 256, (3, height, width), dtype=torch.uint8))


@pytest.mark.parametrize(
    ("image", "size", "expected"),
    [((36, 48), (36, 48), (36, 48)), ((72, 96), (36, 48), (36, 48)), ((50, 48), (36, 48), (36, 35))],
)
def test_factor_one_fits_the_image_into_the_size(image, size, expected):
    assert ScaleJitter(size, (1.0, 1.0))(picture(*image)).shape[1:] == expected


def test_factor_covers_its_range():
    jitter = ScaleJitter((40, 80), (0.5, 2.0))
    heights = [jitter(picture(40, 80)).shape[1] for _ in range(60)]
    assert 20 <= min(heights) < 30 and 70 < max(heights) <= 80


def test_long_image_keeps_at_least_a_row():
    assert ScaleJitter((48, 64), (0.5, 0.5))(picture(4, 2000)).shape == (3, 1, 32)


@pytest.mark.parametrize("image", [(1, 1), (48, 64), (4, 2000), (130, 20)])
def test_crops_have_the_size_asked_for(image):
    mask = tv_tensors.Mask(torch.zeros(image, dtype=torch.int64))
    pixels, labels = train_transform((48, 64))(picture(*image), mask)
    assert pixels.shape == (3, 48, 64) and labels.shape == (48, 64)


def test_what_the_image_does_not_cover_is_black_and_ignored():
    torch.manual_seed(0)
    pixels, labels = train_transform((40, 40), (0.5, 0.5))(
        picture(40, 40), tv_tensors.Mask(torch.ones(40, 40, dtype=torch.int64))
    )
    outside = labels == 255
    assert outside.sum() == 40 * 40 - 20 * 20 and (labels[~outside] == 1).all()
    assert (pixels[:, outside] == 0).all() and (pixels[:, ~outside] > 0).all()


def test_images_are_smoothed_and_labels_keep_their_values():
    image = picture(80, 80)
    mask = tv_tensors.Mask(torch.tensor([0, 7]).repeat_interleave(40).repeat(80, 1))
    pixels, labels = ScaleJitter((40, 40), (1.0, 1.0))(image, mask)
    assert set(labels.unique().tolist()) == {0, 7}
    mean = image.float().unfold(1, 2, 2).unfold(2, 2, 2).mean((-1, -2))
    assert (pixels.float() - mean).abs().mean() < 25  # a picked pixel would be off by 50 on average
