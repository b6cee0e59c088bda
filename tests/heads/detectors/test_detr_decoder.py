import math

import pytest
import torch
from torch import nn

from heads.detectors.detr_decoder import BoxBias, Cells, DecoderLayer, sine

SIZES = [(33, 48), (48, 64)]  # of 6 x 8 cells of 8 px


@pytest.fixture
def cells():
    return Cells.of(torch.zeros(2, 1, 6, 8), SIZES, 8)


def test_cells_lie_around_their_centres_and_are_hidden_where_they_begin_outside(cells):
    assert cells.columns.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5] and len(cells.rows) == 6
    assert cells.extent.tolist() == [[6.0, 4.125, 6.0, 4.125], [8.0, 6.0, 8.0, 6.0]]
    seen = ~cells.hidden.unflatten(1, (6, 8))
    assert seen[0, :5, :6].all() and seen[0].sum() == 30 and seen[1].all()


def test_cells_are_encoded_by_where_their_centres_are_in_their_own_image(cells):
    encoding = cells.encoding(8).unflatten(1, (6, 8))
    y, x = 2.5 * 8 / 33, 3.5 * 8 / 48
    torch.testing.assert_close(encoding[0, 2, 3], torch.cat([sine(torch.tensor(v), 4) for v in (y, x)]))
    torch.testing.assert_close(encoding[1, 2, 3, 4:], sine(torch.tensor(3.5 / 8), 4))


def test_sine_is_one_period_and_slower_ones():
    angle, slower = 2 * math.pi * 0.3, 2 * math.pi * 0.3 / 20**0.5
    expected = [math.sin(angle), math.sin(slower), math.cos(angle), math.cos(slower)]
    torch.testing.assert_close(sine(torch.tensor(0.3), 4), torch.tensor(expected))


def test_the_bias_of_a_cell_is_of_its_offsets_to_the_edges_of_the_box(cells):
    bias = BoxBias(2)
    bias.x, bias.y = nn.Identity(), nn.Linear(2, 2)  # of columns (left, right) as they are; of rows other weights
    bias.y.weight.data, bias.y.bias.data = torch.tensor([[10.0, 0.0], [0.0, 10.0]]), torch.zeros(2)
    boxes = torch.tensor([[[0.5, 0.5, 0.25, 0.5]]]).expand(2, -1, -1)
    found = bias(boxes, cells).unflatten(3, (6, 8))
    assert found.shape == (2, 2, 1, 6, 8)

    def offset(cells):
        return math.copysign(math.log1p(abs(cells)), cells)

    # in the second image the box covers columns 3 to 5 and rows 1.5 to 4.5
    assert found[1, 0, 0, 2, 6].item() == pytest.approx(offset(6.5 - 3) + 10 * offset(2.5 - 1.5), rel=1e-5)
    assert found[1, 1, 0, 2, 6].item() == pytest.approx(offset(6.5 - 5) + 10 * offset(2.5 - 4.5), rel=1e-5)
    # in the first one, of 6 x 4.125 cells, columns 2.25 to 3.75
    assert found[0, 0, 0, 0, 1].item() == pytest.approx(offset(1.5 - 2.25) + 10 * offset(0.5 - 1.03125), rel=1e-5)


def test_a_query_looks_at_what_the_bias_of_its_box_tells(cells):
    torch.manual_seed(0)
    layer = DecoderLayer(8, 2, 16, 0.0)
    layer.bias.forward = lambda boxes, cells: torch.where(torch.arange(48) == 9, 0.0, -1e9).expand(2, 2, 3, 48)
    queries, keys, values = torch.randn(2, 3, 8), torch.randn(2, 48, 8), torch.randn(2, 48, 8, requires_grad=True)
    updated = layer(queries, torch.zeros(2, 3, 8), torch.full((2, 3, 4), 0.5), keys, values, cells)
    (gradient,) = torch.autograd.grad(updated.sum(), values)
    assert gradient.abs().sum(dim=(0, 2)).nonzero().flatten().tolist() == [9]
