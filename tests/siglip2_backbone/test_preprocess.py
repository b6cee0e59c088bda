import pytest
import torch

from siglip2_backbone.preprocess import denormalize, normalize, pad_to_multiple, squash

HALF = (0.5, 0.5, 0.5)


def picture(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_squash_and_normalize_are_the_checkpoints_own_processor():
    from transformers import SiglipImageProcessor

    image = picture(3, 90, 140)
    processor = SiglipImageProcessor(size={"height": 64, "width": 64}, resample=2)  # 2: bilinear, as the hub files say
    expected = processor(image, return_tensors="pt").pixel_values[0]
    found = normalize(squash(image, (64, 64)).float() / 255, HALF, HALF)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_squash_keeps_a_picture_of_the_right_size():
    assert torch.equal(squash(picture(3, 20, 30), (20, 30)), picture(3, 20, 30))


@pytest.mark.parametrize("mean", [HALF, (0.485, 0.456, 0.406)])
def test_denormalize_is_the_inverse(mean):
    image = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(denormalize(normalize(image, mean, (0.2, 0.3, 0.4)), mean, (0.2, 0.3, 0.4)), image)


def test_normalize_maps_black_and_white_to_the_ends():
    image = torch.stack([torch.zeros(3, 1), torch.ones(3, 1)], dim=-1)
    assert normalize(image, HALF, HALF).unique().tolist() == [-1, 1]


def test_normalize_refuses_bytes_and_other_channels():
    with pytest.raises(ValueError, match=r"uint8; expected floating point.*255"):
        normalize(picture(3, 4, 4), HALF, HALF)
    with pytest.raises(ValueError, match=r"\(4, 8, 8\); expected 3 channels"):
        normalize(torch.rand(4, 8, 8), HALF, HALF)


def test_padding_is_below_and_to_the_right():
    image = torch.rand(1, 3, 10, 17)
    padded = pad_to_multiple(image, 8)
    assert padded.shape == (1, 3, 16, 24)
    assert torch.equal(padded[..., :10, :17], image) and padded.sum() == pytest.approx(image.sum().item(), rel=1e-5)
    assert pad_to_multiple(padded, 8).shape == padded.shape


def test_sides_that_torch_resizes_wrongly_are_refused():
    with pytest.raises(ValueError, match="at least 2 px"):
        squash(picture(3, 20, 30), (8, 1))
