import pytest
import torch
import torch.nn.functional as F
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as V

from heads.data.depth_normals.maps import DepthMap, Intrinsics, NormalMap, Rotation
from heads.data.depth_normals.normal_files import normals_from_depth
from heads.data.scenes.render import render
from heads.geometry.record import Geometry

SIZE = (48, 64)


def depths(*size):
    return DepthMap(torch.rand(1, *(size or SIZE)) + 1)


def normals():
    return NormalMap(F.normalize(torch.randn(3, *SIZE), dim=0))


@pytest.mark.parametrize("kind", [DepthMap, NormalMap])
@pytest.mark.parametrize(
    "transform",
    [
        v2.Resize((20, 30), antialias=True),
        v2.Resize((90, 70), interpolation=InterpolationMode.BICUBIC),
        v2.RandomResizedCrop((33, 31), scale=(0.3, 0.5)),
        v2.RandomCrop((50, 70), pad_if_needed=True, fill=255),
        v2.CenterCrop((60, 20)),
        v2.Pad(5, fill=7),
        v2.Pad(5, padding_mode="reflect"),
        v2.RandomZoomOut(fill=9, p=1),
        v2.ColorJitter(0.5, 0.5),
        v2.GaussianBlur(5),
    ],
    ids=lambda t: type(t).__name__,
)
def test_values_are_picked_and_what_is_added_is_no_reading(kind, transform):
    given = kind((torch.randint(1, 3, (3 if kind is NormalMap else 1, *SIZE))).float())
    found = transform(given)
    assert type(found) is kind and set(found.unique().tolist()) <= {0.0, 1.0, 2.0}


def test_what_lies_around_the_image_is_0_whatever_images_are_filled_with():
    assert (V.pad(depths(4, 4), 2, fill=255)[:, 0] == 0).all()
    assert (V.rotate(depths(40, 40), 45, fill=255)[:, 0, 0] == 0).all()


def test_resizing_picks_the_nearest_middle():
    values = torch.arange(1.0, 9).expand(1, 8, 8)
    found = V.resize(DepthMap(values), [4, 4])
    assert found[0, 0].tolist() == F.interpolate(values[None], (4, 4), mode="nearest-exact")[
        0, 0, 0
    ].tolist() and found[0, 0].tolist() == [2, 4, 6, 8]


def test_depth_keeps_its_metres_when_the_image_is_resized_and_the_focal_length_follows():
    depth, matrix = depths(), torch.tensor([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]])
    geometry = V.resize(Geometry.of(SIZE), [24, 32])
    assert set(V.resize(depth, [24, 32]).unique().tolist()) <= set(depth.unique().tolist())
    assert geometry.intrinsics(matrix).tolist() == [[25, 0, 16], [0, 25, 12], [0, 0, 1]]


def test_a_flip_turns_x_round_and_keeps_the_others():
    given = normals()
    flipped = V.horizontal_flip(given)
    assert torch.equal(flipped[0], -given[0].flip(-1)) and torch.equal(flipped[1:], given[1:].flip(-1))
    over = V.vertical_flip(given)
    assert torch.equal(over[1], -given[1].flip(-2)) and torch.equal(over[[0, 2]], given[[0, 2]].flip(-2))
    assert type(flipped) is type(over) is NormalMap


def test_a_flip_leaves_no_negative_zero():
    assert not torch.signbit(V.horizontal_flip(NormalMap(torch.zeros(3, 2, 2)))).any()


def test_a_quarter_turn_turns_right_into_up():
    right = NormalMap(torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 4, 4).clone())
    torch.testing.assert_close(V.rotate(right, 90)[:, 1, 1], torch.tensor([0.0, -1, 0]))  # y points down


def test_normals_keep_their_length_when_they_are_turned():
    turned = V.rotate(normals(), 30)
    length = turned.norm(dim=0)
    torch.testing.assert_close(length[length > 0], torch.ones(int((length > 0).sum())))
    assert (length == 0).any()


@pytest.mark.parametrize(
    "steps",
    [
        [v2.RandomHorizontalFlip(1)],
        [v2.RandomVerticalFlip(1)],
        [v2.Resize((120, 150))],
        [v2.RandomCrop((100, 100)), v2.Resize((150, 150))],
        [Rotation(25, 1)],
        [v2.RandomHorizontalFlip(1), Rotation(25, 1), v2.RandomCrop((120, 120))],
        [Rotation(25, 1), v2.RandomHorizontalFlip(1), v2.Pad(3)],
    ],
    ids=["flip", "over", "resize", "crop", "turn", "flip and turn", "turn and flip"],
)
def test_moved_depth_still_has_the_moved_normals(steps):
    """Depth, normals and camera agree before and after: a sign or an angle that is wrong in one would show."""
    torch.manual_seed(0)
    scene = render((1, 2), (160, 160))
    depth, normal, matrix = (torch.from_numpy(a) for a in (scene.depth, scene.normal, scene.intrinsics))
    sample = {"depth": DepthMap(depth), "normal": NormalMap(normal), "geometry": Geometry.of((160, 160))}
    sample = v2.Compose(steps)(sample | {"intrinsics": matrix.as_subclass(Intrinsics)})
    matrix = sample["geometry"].intrinsics(sample["intrinsics"].as_subclass(torch.Tensor))
    assert matrix[0, 0] > 0 and matrix[1, 1] > 0
    found, normal = normals_from_depth(sample["depth"].as_subclass(torch.Tensor), matrix), sample["normal"]
    both = (found != 0).any(dim=0) & (normal != 0).any(dim=0)
    # a depth picked half a pixel away tilts its normal, but not those of a neighbourhood together
    ours, theirs = (F.normalize(F.avg_pool2d((n * both)[None], 9)[0], dim=0) for n in (found, torch.Tensor(normal)))
    angle = (ours * theirs).sum(dim=0).clamp(-1, 1).acos().rad2deg()[ours.norm(dim=0) > 0.5]
    assert both.float().mean() > 0.5 and angle.median() < 2


def test_turning_a_camera_moves_a_point_as_it_moves_the_image():
    matrix = torch.tensor([[50.0, 0, 30], [0, 50, 20], [0, 0, 1]])
    point = torch.tensor([0.2, -0.1, 1.0])
    image = torch.zeros(1, *SIZE)
    column, row = (matrix @ point)[:2].tolist()
    image[0, int(row) - 1 : int(row) + 2, int(column) - 1 : int(column) + 2] = 1
    torch.manual_seed(3)
    sample = {"image": tv_tensors.Image(image), "geometry": Geometry.of(SIZE)}
    sample = Rotation(30, 1)(
        sample
        | {
            "intrinsics": matrix.as_subclass(Intrinsics),
            "normal": NormalMap(point[:, None, None].expand(3, *SIZE).clone()),
        }
    )
    moved = sample["intrinsics"].as_subclass(torch.Tensor) @ sample["normal"][:, 24, 32].as_subclass(torch.Tensor)
    rows, columns = torch.meshgrid(torch.arange(48.0) + 0.5, torch.arange(64.0) + 0.5, indexing="ij")
    weight = sample["image"][0].as_subclass(torch.Tensor)
    seen = torch.stack([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
    torch.testing.assert_close(moved[:2], seen, atol=0.8, rtol=0)
    assert (moved[:2] - torch.tensor([column, row])).norm() > 2


def test_a_rotation_starts_the_record_anew_only_if_it_turns():
    geometry = V.crop(Geometry.of(SIZE), 4, 4, 40, 50)
    image = tv_tensors.Image(torch.zeros(3, 40, 50))
    _, turned = Rotation(10, 1)(image, geometry)
    _, same = Rotation(10, 0)(image, geometry)
    assert torch.equal(same, geometry) and torch.equal(turned, Geometry.of((40, 50)))


def test_images_are_interpolated_when_they_are_turned():
    image = tv_tensors.Image(torch.tensor([0.0, 1.0]).repeat_interleave(16).expand(1, 32, 32).clone())
    assert len(Rotation(20, 1)(image).unique()) > 10


def test_a_camera_without_the_record_of_its_image_is_not_turned():
    with pytest.raises(ValueError, match="without the Geometry"):
        Rotation(10, 1)(tv_tensors.Image(torch.zeros(3, 4, 4)), torch.eye(3).as_subclass(Intrinsics))


@pytest.mark.parametrize(
    "transform", [v2.RandomAffine(10), v2.RandomPerspective(p=1), v2.ElasticTransform()], ids=lambda t: type(t).__name__
)
def test_what_would_bend_the_geometry_is_refused(transform):
    for given in (depths(), normals()):
        with pytest.raises(ValueError, match=f"of a {type(given).__name__} would not be"):
            transform(given)
