import math

import pytest
import torch
import torch.nn.functional as F

from siglip2_backbone.positions import interpolation_matrix, resample

TORCH = {
    "bicubic_antialias": {"mode": "bicubic", "antialias": True},
    "bicubic": {"mode": "bicubic", "antialias": False},
    "bilinear_antialias": {"mode": "bilinear", "antialias": True},
}
GRIDS = [(16, 16), (12, 20), (20, 12), (8, 32), (32, 8), (1, 16), (3, 2), (7, 7), (64, 4), (5, 40), (48, 48)]
MODES = list(TORCH)


def table_of(rows, columns, width=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, rows * columns, width, generator=generator, dtype=torch.float64).to(dtype)


def interpolated(table, old_grid, new_grid, mode):
    image = table.reshape(1, *old_grid, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(image, size=new_grid, align_corners=False, **TORCH[mode])
    return resized.permute(0, 2, 3, 1).flatten(1, 2)


def by_definition(values, new, mode):
    """One axis, sample by sample, in float64: the definition that torch's kernels share."""
    old, result = len(values), []
    antialias, a = mode.endswith("antialias"), -0.5 if mode == "bicubic_antialias" else -0.75

    def kernel(x):
        x = abs(x)
        if mode == "bilinear_antialias":
            return max(0.0, 1 - x)
        if x < 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    for i in range(new):
        centre = (i + 0.5) * old / new - 0.5
        if antialias:  # the kernel is stretched when shrinking, and what lies outside is left out
            stretch = max(1.0, old / new)
            weights = {j: kernel((j - centre) / stretch) for j in range(old)}
        else:  # four taps; what lies outside repeats the border
            weights = {j: kernel(j - centre) for j in range(math.floor(centre) - 1, math.floor(centre) + 3)}
        taps = sum(w * values[min(max(j, 0), old - 1)] for j, w in weights.items())
        result.append(taps / sum(weights.values()))
    return torch.stack(result)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grid", [(16, 16), (27, 27), (5, 9), (1, 1)], ids=str)
def test_the_native_grid_gives_the_table_bit_for_bit(grid, mode, dtype):
    table = table_of(*grid, dtype=dtype)
    assert torch.equal(resample(table, grid, grid, mode), table)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(resample(table, grid, grid, mode), table)


def test_autocast_and_low_precision_cost_no_accuracy():
    table = table_of(16, 16, dtype=torch.float32)
    expected = resample(table, (16, 16), (9, 21), "bicubic_antialias")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(resample(table, (16, 16), (9, 21), "bicubic_antialias"), expected)
    low = table.bfloat16()
    exact = resample(low.double(), (16, 16), (9, 21), "bicubic_antialias").bfloat16()
    assert torch.equal(resample(low, (16, 16), (9, 21), "bicubic_antialias"), exact)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("old_grid", [(16, 16), (27, 27), (6, 10)], ids=str)
def test_agrees_with_torch(old_grid, grid, mode, relative_error):
    table = table_of(*old_grid)
    assert relative_error(resample(table, old_grid, grid, mode), interpolated(table, old_grid, grid, mode)) < 1e-14


@pytest.mark.parametrize("mode", MODES)
def test_the_three_rules_differ(mode, relative_error):
    table = table_of(16, 16)
    for other in set(MODES) - {mode}:
        for grid in [(12, 20), (24, 24)]:
            found = relative_error(resample(table, (16, 16), grid, mode), resample(table, (16, 16), grid, other))
            assert found > 0.05


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grid", [(3, 1), (16, 1), (40, 1), (1, 1), (1, 3), (9, 25)], ids=str)
def test_agrees_with_the_definition_on_narrow_grids(grid, mode, relative_error):
    # torch's antialiased CPU kernel is wrong for grids one column wide, so it cannot be the reference there
    table = table_of(16, 16)
    rows = by_definition(table.reshape(16, 16, -1), grid[0], mode)
    expected = by_definition(rows.transpose(0, 1), grid[1], mode).transpose(0, 1)
    assert relative_error(resample(table, (16, 16), grid, mode), expected.reshape(1, -1, 5)) < 1e-14


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("old", "new"), [(16, 5), (16, 1), (16, 40), (1, 7), (27, 28)])
def test_a_constant_table_stays_constant(old, new, mode):
    matrix = interpolation_matrix(old, new, mode)
    assert matrix.shape == (new, old)
    torch.testing.assert_close(matrix.sum(1), torch.ones(new, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("mode", MODES)
def test_the_table_learns_through_the_resampling(mode):
    table = table_of(4, 4, width=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: resample(t, (4, 4), (3, 6), mode), table)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match=r"'nearest'.*bicubic_antialias, bicubic, bilinear_antialias"):
        interpolation_matrix(16, 8, "nearest")
