import math

import numpy as np
import pytest

from heads import GeneratedScenes, KITTIEigen
from heads.data.checks import check_count, check_range, check_size


@pytest.mark.parametrize("bad", [0, -1, 2.5, 3.0, True, "3", None])
def test_a_count_is_a_whole_number(bad):
    check_count("stride", 1)
    check_count("stride", np.int64(3))
    check_count("num_workers", 0, least=0)
    with pytest.raises(ValueError, match=rf"^stride is {bad!r}; expected a whole number of at least 1\.$"):
        check_count("stride", bad)
    with pytest.raises(ValueError, match=r"^side is 1; expected a whole number of at least 2 px\.$"):
        check_count("side", 1, least=2, unit="px")


@pytest.mark.parametrize("bad", [(0, 4), (4, -4), (4,), (4, 4, 4), (4.5, 4), (True, 4)])
def test_a_size_is_height_and_width(bad):
    assert check_size("img_size", [1, 2]) == (1, 2)
    with pytest.raises(
        ValueError, match=r"^img_size is \(.*\); expected height and width in whole pixels, at least 1 px"
    ):
        check_size("img_size", bad)


@pytest.mark.parametrize("bad", [(1, 1), (2, 1), (-1, 1), (0, math.inf), (1,), (0, 1, 2), (math.nan, 1), (0, math.nan)])
def test_a_range_has_two_numbers_in_order(bad):
    assert check_range("depth_range", [0, 10], zero=True) == (0.0, 10.0)
    with pytest.raises(
        ValueError, match=r"^depth_range is \[.*\]; expected two distances of at least 0, the smaller one"
    ):
        check_range("depth_range", bad, "distances", zero=True)


def test_a_range_may_exclude_zero_and_may_be_a_point():
    assert check_range("scale", (2, 2), point=True) == (2.0, 2.0)
    for bad in ((0, 1), (2, 1)):
        with pytest.raises(
            ValueError, match=r"^scale is \[., 1\]; expected two factors above 0, the smaller one first"
        ):
            check_range("scale", bad, "factors", point=True)


@pytest.mark.parametrize("made", [GeneratedScenes, KITTIEigen])
@pytest.mark.parametrize("wrong", [{"batch_size": 1.5}, {"num_workers": 0.5}, {"img_size": (48.0, 64)}])
def test_every_data_module_wants_whole_numbers(made, wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"^{name} is .*; expected .* whole"):
        made(**wrong)
