from itertools import product

import pytest
import torch

from siglip2_backbone.preprocess import denormalize, naflex_size, normalize, pad_to_multiple, squash

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


@pytest.mark.parametrize("max_patches", [1, 7, 256, 1024])
@pytest.mark.parametrize("patch", [8, 14, 16])
def test_naflex_sizes_are_those_of_transformers(patch, max_patches):
    from transformers.models.siglip2.image_processing_siglip2 import get_image_size_for_max_num_patches

    sides = [1, 2, 7, 16, 100, 255, 256, 257, 480, 641, 1023, 4000, 12345]
    for size in product(sides, sides):
        assert naflex_size(size, patch, max_patches) == get_image_size_for_max_num_patches(*size, patch, max_patches)


def test_naflex_fills_the_budget_and_keeps_the_shape():
    assert naflex_size((480, 640), 16) == (224, 288)  # 14 x 18 of 256 patches
    assert naflex_size((48, 64), 16) == (224, 288)  # small images are enlarged
    assert naflex_size((1, 1), 16) == (112, 112)  # a hundred times at most


@pytest.mark.parametrize(("size", "patch", "budget"), [((0, 5), 16, 256), ((5, 5), 0, 256), ((5, 5), 16, 0)])
def test_naflex_refuses_nothing_to_fill(size, patch, budget):
    with pytest.raises(ValueError, match="expected at least 1 each"):
        naflex_size(size, patch, budget)
