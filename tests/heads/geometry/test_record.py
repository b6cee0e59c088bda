import copy

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

from heads.data.module import collate
from heads.data.segmentation.transforms import train_transform
from heads.geometry.record import Geometry

SIZE = (40, 60)
CHAINS = {
    "resize": [v2.Resize((29, 77))],
    "short side": [v2.Resize(25, max_size=70)],
    "twice": [v2.Resize((80, 31)), v2.Resize((33, 44))],
    "crop": [v2.RandomCrop((17, 23))],
    "flips": [v2.RandomHorizontalFlip(1), v2.RandomVerticalFlip(1)],
    "pad": [v2.Pad([3, 5, 7, 11])],
    "pad alike": [v2.Pad([3, 5])],
    "middle": [v2.CenterCrop((31, 21))],
    "middle beyond": [v2.CenterCrop((45, 61))],
    "resized crop": [v2.RandomResizedCrop((32, 32))],
    "beyond": [v2.RandomCrop((64, 64), pad_if_needed=True)],
    "zoom out": [v2.RandomZoomOut(p=1)],
    "to one pixel": [v2.Resize((1, 90))],
    "training": [train_transform((48, 48))],
    "long": [v2.RandomHorizontalFlip(1), v2.Resize((64, 90)), v2.RandomCrop((50, 51)), v2.Resize((20, 33)), v2.Pad(9)],
}
PAD_THEN_RESIZE = [v2.Pad(9), v2.Resize((64, 90)), v2.RandomCrop((30, 31))]  # resizing blends padding into the border


@pytest.mark.parametrize("steps", [*CHAINS.values(), PAD_THEN_RESIZE], ids=[*CHAINS, "pad then resize"])
def test_boxes_go_where_torchvision_puts_them_and_come_back(steps):
    torch.manual_seed(0)
    boxes = torch.tensor([[3.0, 4.0, 30.0, 35.0], [0.0, 0.0, 60.0, 40.0], [20.5, 10.25, 21.0, 39.0]])
    theirs = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=SIZE, clamping_mode=None)
    image = tv_tensors.Image(torch.zeros(3, *SIZE))
    image, theirs, geometry = v2.Compose(steps)(image, theirs, Geometry.of(SIZE))
    assert geometry.image_size == tuple(image.shape[1:]) and geometry.original_size == SIZE
    ours = geometry.boxes(boxes)
    torch.testing.assert_close(ours, theirs.as_subclass(torch.Tensor), atol=2e-3, rtol=0)
    assert (geometry.original_boxes(ours) - boxes).abs().max() < 0.01


@pytest.mark.parametrize("steps", CHAINS.values(), ids=CHAINS.keys())
def test_what_is_seen_comes_back_to_its_place_and_the_rest_is_filled(steps):
    torch.manual_seed(1)
    rows, columns = torch.meshgrid(torch.arange(40.0) + 0.5, torch.arange(60.0) + 0.5, indexing="ij")
    ramp = tv_tensors.Image(torch.stack([rows, columns]))
    moved, geometry = v2.Compose([*steps])(ramp, Geometry.of(SIZE))
    back = geometry.to_original(moved.as_subclass(torch.Tensor), fill=-1)
    assert back.shape == (2, *SIZE)
    top, left, bottom, right = geometry.tolist()[8:]
    inside = (rows > top) & (rows < bottom) & (columns > left) & (columns < right)
    assert (back[:, ~inside] == -1).all() and inside.any()
    # a ramp survives, but for half a cell of the smaller image at the border of what is seen
    for axis in (0, 1):
        cell = max(1.0, 1 / abs(geometry.tolist()[axis]))
        assert (back[axis] - ramp[axis])[inside].abs().max() <= 0.5 * cell + 0.51


def test_one_resize_is_interpolate_bit_for_bit():
    maps, geometry = torch.randn(2, 5, 29, 77), V.resize(Geometry.of(SIZE), [29, 77])
    assert torch.equal(geometry.to_original(maps), F.interpolate(maps, SIZE, mode="bilinear"))
    labels = torch.randint(0, 9, (29, 77))
    expected = F.interpolate(labels[None, None].double(), SIZE, mode="nearest-exact")[0, 0].long()
    assert torch.equal(geometry.to_original(labels, "nearest"), expected)
    assert geometry.to_original(labels, "nearest").dtype == torch.int64


def test_the_general_way_agrees_with_interpolate():
    maps, geometry = torch.randn(3, 29, 77, dtype=torch.float64), V.resize(Geometry.of(SIZE), [29, 77])
    there_and_back = V.horizontal_flip(V.horizontal_flip(V.crop(geometry, 0, 0, 29, 77)))
    flipped = V.horizontal_flip(geometry).to_original(maps.flip(-1))
    for found in (there_and_back.to_original(maps), flipped):
        torch.testing.assert_close(found, F.interpolate(maps[None], SIZE, mode="bilinear")[0], atol=1e-12, rtol=0)


def test_padding_does_not_leak_into_the_image():
    geometry = V.pad(V.resize(Geometry.of((10, 10)), [4, 4]), [0, 0, 4, 4])
    maps = torch.full((1, 8, 8), 1e6)
    maps[:, :4, :4] = 1
    assert (geometry.to_original(maps) == 1).all()


def test_crops_of_labels_come_back_exactly():
    labels = torch.randint(0, 200, SIZE)
    geometry = V.vertical_flip(V.crop(Geometry.of(SIZE), 7, 11, 20, 30))
    back = geometry.to_original(labels[7:27, 11:41].flip(0), "nearest", fill=255)
    assert torch.equal(back[7:27, 11:41], labels[7:27, 11:41])
    assert (back == 255).sum() == 40 * 60 - 20 * 30


@pytest.mark.parametrize(
    "transform",
    [v2.RandomRotation(10), v2.RandomAffine(10), v2.RandomPerspective(p=1), v2.ElasticTransform(), v2.FiveCrop(5)],
    ids=lambda t: type(t).__name__,
)
def test_what_cannot_be_recorded_is_refused_where_torchvision_would_say_nothing(transform):
    with pytest.raises(ValueError, match="cannot be recorded"):
        transform(tv_tensors.Image(torch.zeros(3, *SIZE)), Geometry.of(SIZE))


def test_colours_leave_the_record_alone_and_no_random_number_is_used_up():
    image, steps = tv_tensors.Image(torch.rand(3, *SIZE)), v2.Compose([v2.ColorJitter(0.5), train_transform((32, 32))])
    torch.manual_seed(0)
    alone = steps(image)
    torch.manual_seed(0)
    together, _ = steps(image, Geometry.of(SIZE))
    assert torch.equal(alone, together)
    assert torch.equal(v2.ColorJitter(0.5)(Geometry.of(SIZE)), Geometry.of(SIZE))


def test_it_survives_batches_workers_and_copies():
    samples = [{"image": torch.zeros(1), "geometry": V.resize(Geometry.of(SIZE), [3, i + 1])} for i in range(4)]
    loader = DataLoader(samples, batch_size=2, num_workers=1, collate_fn=collate)
    found = [g for batch in loader for g in batch["geometry"]]
    assert [g.image_size for g in found] == [(3, i + 1) for i in range(4)]
    assert all(isinstance(g, Geometry) for g in [*found, found[0].to("cpu"), copy.deepcopy(found[0])])


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"The map is \(3, 4\) .*its image \(40, 60\)"):
        Geometry.of(SIZE).to_original(torch.zeros(3, 4))
