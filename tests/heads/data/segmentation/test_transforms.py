import pytest
import torch
from torchvision import tv_tensors

from heads.data.segmentation.transforms import ScaleJitter, ShortSideJitter, VariedCrop, _varied, train_transform
from heads.data.sizes import Fit, short_side_size
from heads.geometry.record import Geometry


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


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [
        ((300, 400), 512, (512, 683)),
        ((400, 300), 512, (683, 512)),
        ((100, 800), 64, (32, 256)),
        ((1, 9000), 8, (1, 32)),
    ],
)
def test_short_side_keeps_the_shape_up_to_four_to_one(size, short, expected):
    assert short_side_size(size, short) == expected


@pytest.mark.parametrize(
    ("fit", "image", "expected"),
    [
        (Fit((48, 64)), (24, 32), (48, 64)),
        (Fit((48, 64)), (60, 40), (48, 32)),
        (Fit((48, 64), turns=True), (60, 40), (64, 43)),
        (Fit((48, 64), turns=True), (60, 10), (64, 11)),
        (Fit((48, 64), turns=True), (20, 20), (48, 48)),
        (Fit((64, 48), turns=True), (30, 40), (48, 64)),
        (Fit((48, 64)), (1, 9000), (2, 64)),
    ],
)
def test_a_fit_keeps_the_shape_and_may_lie_on_its_side(fit, image, expected):
    assert fit.of(image) == expected


def test_short_side_covers_its_range():
    sides = [min(ShortSideJitter(40, (0.5, 2.0))(picture(60, 90)).shape[1:]) for _ in range(60)]
    assert 20 <= min(sides) < 28 and 70 < max(sides) <= 80


def test_a_crop_is_drawn_again_while_one_class_fills_three_quarters():
    torch.manual_seed(0)
    labels = torch.zeros(64, 640, dtype=torch.int64)
    labels[:, 300:340] = 1  # few crops of 64 have a quarter of it
    crops = [VariedCrop((64, 64))(picture(64, 640), tv_tensors.Mask(labels))[1] for _ in range(40)]
    varied = [0.25 < float((crop == 1).float().mean()) < 0.75 for crop in crops]
    assert sum(varied) > 20  # of single draws 10 % would be


def test_ignored_pixels_do_not_count_as_a_class():
    labels = torch.full((40, 40), 255)
    labels[:4], labels[4:8] = 0, 1
    assert _varied(labels) and not _varied(labels.where(labels != 1, 255))


@pytest.mark.parametrize("image", [(1, 1), (48, 64), (4, 2000), (130, 20)])
@pytest.mark.parametrize("recipe", ["dinov2", "dinov3"])
def test_recipes_pad_on_the_right_and_below_with_grey_and_the_geometry_knows(image, recipe):
    for seed in range(4):
        torch.manual_seed(seed)
        mask = tv_tensors.Mask(torch.zeros(image, dtype=torch.int64))
        pixels, labels, geometry = train_transform((48, 64), (0.5, 0.9), recipe)(
            picture(*image), mask, Geometry.of(image)
        )
        assert pixels.shape == (3, 48, 64) and labels.shape == (48, 64) == geometry.image_size
        outside = labels == 255
        assert outside.any() and (pixels[:, outside] == 128).all()
        rows, columns = int((~outside).any(1).sum()), int((~outside).any(0).sum())
        assert not outside[:rows, :columns].any()
        seen = geometry.boxes(torch.tensor([geometry._parts()[4]])[:, [1, 0, 3, 2]])[0]
        torch.testing.assert_close(seen, torch.tensor([0.0, 0.0, columns, rows], dtype=seen.dtype), atol=1, rtol=0)


def test_labels_of_a_recipe_return_to_their_place_in_the_original():
    labels = torch.arange(6).repeat_interleave(20).repeat(90, 1)
    image = tv_tensors.Image((labels * 40).byte().expand(3, -1, -1).clone())
    for seed in range(6):
        torch.manual_seed(seed)
        transformed = train_transform((64, 64), recipe="dinov2")(image, tv_tensors.Mask(labels), Geometry.of((90, 120)))
        back = transformed[2].to_original(transformed[1].as_subclass(torch.Tensor), "nearest", fill=255)
        seen = back != 255
        assert seen.any() and (back == labels)[seen].float().mean() > 0.9


def test_unknown_recipe_is_refused():
    with pytest.raises(ValueError, match="recipe is 'none'; expected plain, dinov2 or dinov3"):
        train_transform((8, 8), recipe="none")
