import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as V

from heads.data.detection.transforms import RandomResize, detection_transform, in_view, mask_boxes, resized_masks
from heads.data.module import collate
from heads.data.sizes import CropTo, Fit
from heads.geometry.record import Geometry

RECIPES = ["lsj", "resize", "plain"]


def draw(generator, *shape):
    return torch.rand(shape, generator=generator)


def random_boxes(size, count, generator):
    """xyxy boxes ``(count, 4)`` of at least a few pixels within an image."""
    height, width = size
    start = draw(generator, count, 2) * torch.tensor([width * 0.9, height * 0.9])
    rest = torch.tensor([width, height]) - start
    return torch.cat([start, start + rest * (0.05 + 0.95 * draw(generator, count, 2))], dim=1)


def moved(recipe, size, boxes, scale=(0.1, 2.0), img_size=(96, 128)):
    image = tv_tensors.Image(torch.zeros(3, *size, dtype=torch.uint8))
    wrapped = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size, clamping_mode=None)
    image, wrapped, geometry = detection_transform(img_size, scale, recipe)(image, wrapped, Geometry.of(size))
    assert geometry.image_size == tuple(image.shape[1:])
    return image, wrapped.as_subclass(torch.Tensor), geometry


@pytest.mark.parametrize("recipe", RECIPES)
def test_boxes_come_back_within_a_hundredth_of_a_pixel(recipe):
    """What of each box is in view, compared with the part of the original box that the image shows."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    seen = cut = flipped = 0
    for _ in range(60):
        size = tuple(int(side) for side in torch.randint(20, 700, (2,), generator=generator))
        boxes = random_boxes(size, 8, generator)
        image, now, geometry = moved(recipe, size, boxes)
        clipped, keep = in_view(now, None, geometry.image_size)
        sample = {"image": image.float(), "geometry": geometry, "size": geometry.image_size}
        batch = collate([sample, sample | {"image": torch.zeros(3, 160, 160), "geometry": Geometry.of((160, 160))}])
        assert batch["geometry"][0].image_size == tuple(batch["image"].shape[2:])
        back = batch["geometry"][0].original_boxes(clipped[keep])
        top, left, bottom, right = geometry.tolist()[8:]
        expected = boxes[keep].maximum(torch.tensor([left, top] * 2)).minimum(torch.tensor([right, bottom] * 2))
        assert not keep.any() or (back - expected).abs().max() < 0.01
        seen += int(keep.sum())
        cut += int(((expected - boxes[keep]).abs() > 0.01).any(1).sum())
        flipped += geometry.tolist()[1] < 0
    assert seen > 100 and 15 < flipped < 45 and (cut > 20) == (recipe == "lsj")


def test_large_scale_jitter_covers_its_range_and_crops_to_the_size():
    torch.manual_seed(0)
    images = [moved("lsj", (96, 128), torch.zeros(0, 4))[0] for _ in range(60)]
    heights = [image.shape[1] for image in images]
    assert min(heights) < 20 and max(heights) == 96 and sum(h == 96 for h in heights) > 15
    assert max(image.shape[2] for image in images) == 128


@pytest.mark.parametrize(("size", "expected"), [((90, 128), (90, 128)), ((128, 90), (96, 68)), ((96, 64), (96, 64))])
def test_a_portrait_does_not_take_the_height_for_the_width(size, expected):
    """torchvision's ScaleJitter does."""
    image, *_ = moved("lsj", size, torch.zeros(0, 4), scale=(1.0, 1.0))
    assert image.shape[1:] == expected


@pytest.mark.parametrize("size", [(300, 400), (400, 300)])
def test_short_sides_are_those_of_detr_whichever_way_the_image_lies(size):
    torch.manual_seed(0)
    sizes = [moved("resize", size, torch.zeros(0, 4), img_size=(800, 1333))[2].image_size for _ in range(60)]
    assert {min(size) for size in sizes} == {*range(480, 801, 32)}


def test_the_long_side_has_a_limit():
    torch.manual_seed(0)
    sizes = {moved("resize", (100, 400), torch.zeros(0, 4), img_size=(80, 133))[2].image_size for _ in range(20)}
    assert sizes == {(33, 133)}


def test_nothing_is_padded():
    image, _, geometry = moved("lsj", (60, 80), torch.zeros(0, 4), scale=(0.5, 0.5))
    assert image.shape[1:] == (48, 64) == geometry.image_size


def test_a_crop_is_drawn_from_everywhere():
    torch.manual_seed(0)
    marks = tv_tensors.Image(torch.arange(6).expand(3, 1, 6).byte().clone())
    assert {int(CropTo((4, 2))(marks)[0, 0, 0]) for _ in range(60)} == {0, 1, 2, 3, 4}


def test_a_mask_stays_under_its_box_when_it_is_made_smaller():
    """torchvision's own resizing of masks moves this one by half a pixel; what is left of it then is not centred."""
    mask = torch.zeros(1, 80, 80, dtype=torch.bool)
    mask[:, 20:60, 17:63] = True
    moved, theirs = RandomResize([Fit((10, 10))])(tv_tensors.Mask(mask)), V.resize(tv_tensors.Mask(mask), [10, 10])
    assert moved[0, 4].tolist() == moved[0, 4].flip(0).tolist() != theirs[0, 4].tolist()
    assert moved.dtype == torch.bool and moved.shape == (1, 10, 10)


def test_masks_are_resized_to_the_nearest_pixel():
    mask = torch.rand(3, 13, 17) < 0.5
    expected = torch.nn.functional.interpolate(mask[None].float(), (31, 9), mode="nearest-exact")[0].bool()
    assert torch.equal(resized_masks(mask, (31, 9)), expected)
    assert resized_masks(mask[:0], (4, 5)).shape == (0, 4, 5)


def test_boxes_are_drawn_around_masks():
    masks = torch.zeros(3, 8, 9, dtype=torch.bool)
    masks[0, 2:5, 3:9] = True
    masks[1, 0, 0] = True
    assert mask_boxes(masks).tolist() == [[3, 2, 9, 5], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert mask_boxes(masks[:0]).shape == (0, 4)


BOXES = torch.tensor(
    [
        [2.5, 3.0, 9.0, 8.0],  # whole
        [-10.0, 2.0, 5.0, 8.0],  # a third is left
        [-9.5, 2.0, 0.5, 8.0],  # less than a pixel is left
        [30.0, 2.0, 35.0, 8.0],  # nothing is left
        [15.0, 1.0, 15.5, 9.0],  # narrow from the start
    ]
)


def test_what_lies_outside_is_clipped_and_what_is_too_little_is_gone():
    boxes, keep = in_view(BOXES, None, (10, 20))
    assert keep.tolist() == [True, True, False, False, False]
    assert boxes[keep].tolist() == [[2.5, 3, 9, 8], [0, 2, 5, 8]]


@pytest.mark.parametrize(("share", "kept"), [(0.0, 2), (0.33, 2), (0.34, 1), (1.0, 1)])
def test_a_smallest_visible_share_may_be_asked_for(share, kept):
    assert int(in_view(BOXES, None, (10, 20), share)[1].sum()) == kept


def test_with_masks_a_box_that_is_cut_is_drawn_around_what_is_left_and_a_whole_one_is_not():
    masks = torch.zeros(5, 10, 20, dtype=torch.bool)
    masks[0, 4:7, 4:8] = True
    masks[1, 3:6, :2] = True
    boxes, keep = in_view(BOXES, masks, (10, 20))
    assert boxes[keep].tolist() == [[2.5, 3, 9, 8], [0, 3, 2, 6]]


def test_an_object_without_a_pixel_left_is_gone():
    masks = torch.zeros(5, 10, 20, dtype=torch.bool)
    masks[0, 4, 4] = True
    assert in_view(BOXES, masks, (10, 20))[1].tolist() == [True, False, False, False, False]
    assert not in_view(BOXES, torch.zeros_like(masks), (10, 20))[1].any()  # not even the one that is whole


def test_no_objects_are_no_objects():
    boxes, keep = in_view(torch.zeros(0, 4), torch.zeros(0, 10, 20, dtype=torch.bool), (10, 20))
    assert boxes.shape == (0, 4) and keep.shape == (0,)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("size", [(1, 1), (2, 3000), (3000, 2)])
def test_odd_sizes_are_survived(recipe, size):
    image, _, geometry = moved(recipe, size, torch.tensor([[0.0, 0.0, size[1], size[0]]]))
    assert min(image.shape[1:]) >= 2 and max(image.shape[1:]) <= 128 and geometry.original_size == size


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ValueError, match="recipe is 'none'; expected lsj, resize, plain"):
        detection_transform((8, 8), recipe="none")
