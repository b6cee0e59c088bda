import pytest

from siglip2_backbone import tap_indices
from siglip2_backbone.indices import absolute_indices


@pytest.mark.parametrize("depth", [4, 12, 24, 27, 40])
@pytest.mark.parametrize("n", [1, 3, 4])
def test_taps_are_spread_and_end_on_the_last_block(depth, n):
    taps = tap_indices(depth, n)
    gaps = [b - a for a, b in zip([-1, *taps[:-1]], taps, strict=True)]
    assert len(taps) == n and taps[-1] == depth - 1
    assert max(gaps) - min(gaps) <= 1


def test_taps_of_published_depths():
    assert [tap_indices(depth) for depth in (12, 24, 27, 40)] == [
        [2, 5, 8, 11],
        [5, 11, 17, 23],
        [5, 12, 19, 26],
        [9, 19, 29, 39],
    ]


@pytest.mark.parametrize("n", [0, 13, -1])
def test_taps_out_of_range_are_refused(n):
    with pytest.raises(ValueError, match=rf"n is {n}; expected 1 to 12"):
        tap_indices(12, n)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, [0, 1, 2, 3]),
        (1, [3]),
        (2, [2, 3]),
        ([-1], [3]),
        ((2, 0), [2, 0]),
        ([-1, 0, -3], [3, 0, 1]),
        (range(1, 3), [1, 2]),
    ],
    ids=str,
)
def test_indices_as_asked_for(asked, expected):
    assert absolute_indices(4, asked) == expected


@pytest.mark.parametrize("asked", [0, 5, -1, True, [], [4], [-5], [0, 4], [1.0], ["1"], "1", [True], {1}], ids=str)
def test_what_is_no_block_index_is_refused(asked):
    with pytest.raises(
        ValueError, match=r"out_indices is .*; expected block indices from -4 to 3, each an int, in a list"
    ):
        absolute_indices(4, asked)


@pytest.mark.parametrize(("asked", "twice"), [([0, 0], 0), ([3, -1], 3), ([0, -2, 2], 2)], ids=str)
def test_a_block_named_twice_is_refused_by_its_number(asked, twice):
    with pytest.raises(ValueError, match=f"names block {twice} twice"):
        absolute_indices(4, asked)
