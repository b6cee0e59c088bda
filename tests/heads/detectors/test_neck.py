import pytest
import torch

from heads.detectors.neck import LevelNeck


def maps(channels, reductions, size=(100, 75)):
    torch.manual_seed(0)
    return [torch.randn(2, c, *(-(-s // r) for s in size)) for c, r in zip(channels, reductions, strict=True)]


@pytest.mark.parametrize("reductions", [[8], [14], [4, 16], [8, 16, 32], [4, 8, 16, 32]])
@pytest.mark.parametrize("extra", ["pool", "convs"])
def test_every_level_has_the_cells_that_cover_the_image(reductions, extra):
    channels = [5 + i for i in range(len(reductions))]
    neck = LevelNeck(channels, reductions, features=8, extra=extra)
    levels = neck(maps(channels, reductions))
    coarse = [2 * reductions[-1]] if extra == "pool" else [2 * reductions[-1], 4 * reductions[-1]]
    assert neck.reductions == reductions + coarse
    assert list(levels)[: len(reductions)] == neck.names
    for level, r in zip(levels.values(), neck.reductions, strict=True):
        assert level.shape == (2, 8, -(-100 // r), -(-75 // r))


def test_a_pyramid_of_the_width_is_taken_as_it_is():
    given = maps([8, 8], [8, 16])
    neck = LevelNeck([8, 8], [8, 16], features=8)
    levels = list(neck(given).values())
    assert not list(neck.parameters())
    assert [torch.equal(a, b) for a, b in zip(given, levels, strict=False)] == [True, True]
    torch.testing.assert_close(levels[2], given[1][..., ::2, ::2])
    assert list(LevelNeck([8], [8], features=8).parameters())  # one map is no pyramid


def test_maps_of_another_width_are_projected_and_see_coarser_ones():
    given = maps([5, 6], [8, 16])
    neck = LevelNeck([5, 6], [8, 16], features=8)
    before = next(iter(neck(given).values()))
    given[1] = given[1] + torch.randn_like(given[1])
    assert not torch.allclose(before, next(iter(neck(given).values())))


def test_what_all_cells_have_in_common_does_not_drown_what_differs():
    given = [20 * torch.randn(1, c, 1, 1) + m for c, m in zip([5, 6], maps([5, 6], [8, 16]), strict=True)]
    levels = list(LevelNeck([5, 6], [8, 16], features=8)(given).values())[:2]
    for level in levels:  # 0.1 with layer norms
        assert level.std(dim=(0, 2, 3)).mean() > 0.9


def test_finer_maps_are_left_out_but_for_the_last():
    channels, reductions = [5, 6, 7, 8], [4, 8, 16, 32]
    neck = LevelNeck(channels, reductions, features=8, extra="convs", min_reduction=8)
    assert neck.reductions == [8, 16, 32, 64, 128] and neck.names == ["0", "1", "2"]
    assert neck(maps(channels, reductions))["0"].shape[-2:] == (13, 10)
    assert LevelNeck([5], [4], features=8, min_reduction=8).reductions == [4, 8]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"fine to coarse, got the reductions \[16, 16\]. Read one layer, or a pyr"):
        LevelNeck([5, 5], [16, 16])
    with pytest.raises(ValueError, match=r"got the reductions \[16, 8\]"):
        LevelNeck([5, 5], [16, 8])
    with pytest.raises(ValueError, match="features is 0, extra 'pool'; expected at least 1"):
        LevelNeck([5], [16], features=0)
    with pytest.raises(ValueError, match="extra 'p6'; expected at least 1, and pool or convs"):
        LevelNeck([5], [16], extra="p6")
