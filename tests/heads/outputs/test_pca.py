import pytest
import torch

from heads.outputs.pca import pca_colours


def two_regions(seed=0):
    """A map whose left and right halves differ strongly, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    maps = 0.05 * torch.randn(16, 6, 8, generator=generator)
    maps[:4, :, :4] += 1
    maps[4:8, :, 4:] += 1
    return maps


def contrast(colours):
    return (colours[0, :, :4].mean() - colours[0, :, 4:].mean()).abs()


def test_regions_get_different_colours_in_the_unit_range():
    (colours,) = pca_colours([two_regions()])
    assert colours.shape == (3, 6, 8) and colours.min() >= 0 and colours.max() <= 1
    assert contrast(colours) > 0.8


def test_an_outlier_token_does_not_take_the_first_component():
    maps = two_regions()
    maps[:, 0, 0] = 100 * torch.randn(16, generator=torch.Generator().manual_seed(1))
    tokens = maps.flatten(1).T
    _, _, plain = torch.pca_lowrank(tokens, q=3)
    first = (tokens @ plain[:, 0]).reshape(6, 8)
    scaled = (first - first.min()) / (first.max() - first.min())
    assert (scaled[1:, :4].mean() - scaled[1:, 4:].mean()).abs() < 0.2  # what happens without care
    assert contrast(pca_colours([maps])[0][:, 1:]) > 0.8


def test_components_are_shared_by_all_maps_and_sizes_may_differ():
    small, large = two_regions(0)[:, :3], two_regions(1)
    a, b = pca_colours([small, large])
    assert a.shape == (3, 3, 8) and b.shape == (3, 6, 8)
    assert (a[:, :, :4].mean((1, 2)) - b[:, :, :4].mean((1, 2))).abs().max() < 0.2


def test_colours_do_not_depend_on_the_signs_that_a_solver_gives(monkeypatch):
    expected = pca_colours([two_regions()])[0]
    solve = torch.linalg.eigh

    def flipped(matrix):
        values, vectors = solve(matrix)
        return torch.return_types.linalg_eigh((values, -vectors))

    monkeypatch.setattr(torch.linalg, "eigh", flipped)
    assert torch.equal(pca_colours([two_regions()])[0], expected)


def test_constant_and_bad_maps():
    assert pca_colours([torch.ones(4, 2, 2)])[0].isfinite().all()
    with pytest.raises(ValueError, match="expected at least 3"):
        pca_colours([torch.ones(2, 2, 2)])
    with pytest.raises(ValueError, match="non-finite"):
        pca_colours([torch.full((4, 2, 2), torch.nan)])
