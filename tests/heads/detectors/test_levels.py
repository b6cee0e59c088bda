from collections import OrderedDict

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from heads.detectors.levels import LevelAnchors, LevelRoIAlign


def anchors_of(generator, size, reductions):
    levels = [torch.zeros(1, 1, *(-(-s // r) for s in size)) for r in reductions]
    return generator(ImageList(torch.zeros(1, 3, *size), [size]), levels)[0]


def test_anchors_are_those_of_torchvision_where_cells_fill_the_image():
    reductions, size = [4, 8, 16, 32, 64], (128, 192)
    expected = anchors_of(
        AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5), size, reductions
    )
    found = anchors_of(LevelAnchors((8.0,), (0.5, 1.0, 2.0), reductions), size, reductions)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("reduction", [14, 32])
def test_anchors_stay_on_their_cells_where_these_reach_beyond_the_image(reduction):
    generator = LevelAnchors((1.0,), (1.0,), [reduction])
    rows, columns = -(-100 // reduction), -(-75 // reduction)
    found = anchors_of(generator, (100, 75), [reduction]).view(rows, columns, 4)
    middles = (found[..., :2] + found[..., 2:]) / 2  # 25 px apart by torchvision's own rule, of 32
    assert middles[:, 0, 1].tolist() == [reduction * i for i in range(rows)]
    assert middles[0, :, 0].tolist() == [reduction * i for i in range(columns)]


def test_anchors_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"Anchors of \[0.1\] x \[4, 8\] px; expected at least one scale, and at"):
        LevelAnchors((0.1,), (1.0,), [4, 8])
    with pytest.raises(ValueError, match=r"Anchors of \[\] x \[8\]"):
        LevelAnchors((), (1.0,), [8])


def coordinates(size, reductions):
    """Levels whose cells hold the x at which torchvision has them [px]: what a region reads tells where it looks."""
    columns = [-(-size[1] // r) for r in reductions]
    rows = [-(-size[0] // r) for r in reductions]
    return OrderedDict(
        (str(i), (torch.arange(float(c)) * s).expand(1, 1, r, c))
        for i, (r, c, s) in enumerate(zip(rows, columns, reductions, strict=True))
    )


@pytest.mark.parametrize(("reductions", "size"), [([14], (100, 140)), ([32], (20, 90))])
def test_regions_read_where_they_lie_on_any_levels(reductions, size):
    pool = LevelRoIAlign([str(i) for i in range(len(reductions))], reductions, 1)
    box = torch.tensor([[20.0, 0.0, 60.0, 20.0]])
    assert pool(coordinates(size, reductions), [box], [size]).item() == pytest.approx(40, abs=1e-3)


def test_regions_read_the_same_as_torchvision_on_a_usual_pyramid():
    torch.manual_seed(0)
    reductions, size = [4, 8, 16, 32], (256, 512)
    levels = OrderedDict((str(i), torch.randn(1, 3, size[0] // r, size[1] // r)) for i, r in enumerate(reductions))
    corners = torch.rand(60, 2) * 100
    boxes = [torch.cat([corners, corners + torch.logspace(0.3, 2.5, 60)[:, None]], dim=1)]
    boxes[0][-1] = torch.tensor([0.0, 0.0, 224.0, 224.0])  # on the edge between two levels
    names = list(levels)
    expected = MultiScaleRoIAlign(names, 7, 2)(levels, boxes, [size])
    torch.testing.assert_close(LevelRoIAlign(names, reductions, 7)(levels, boxes, [size]), expected)


def test_large_regions_read_the_coarse_one_of_two_levels_that_do_not_double():
    pool = LevelRoIAlign(["0", "1"], [4, 16], 1)
    levels = OrderedDict({"0": torch.zeros(1, 1, 100, 100), "1": torch.ones(1, 1, 25, 25)})
    boxes = torch.tensor([[0.0, 0.0, side, side] for side in (20.0, 100.0, 223.0, 225.0, 400.0)])
    assert pool(levels, [boxes], [(400, 400)]).flatten().tolist() == [0, 0, 0, 1, 1]
