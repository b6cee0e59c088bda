from pathlib import Path

import pytest

from heads.data.segmentation.ade20k import CLASSES

INFO = Path(__file__).parents[5] / "shared" / "data" / "ade20k_sample" / "ADEChallengeData2016" / "objectInfo150.txt"


def test_150_classes_each_with_a_colour_of_its_own_but_for_two():
    assert len(CLASSES) == 150 and [*CLASSES][:2] == ["wall", "building"] and [*CLASSES][-1] == "flag"
    assert len({tuple(colour) for colour in CLASSES.values()}) == 149  # road and skyscraper share one
    assert CLASSES["sky"] == [6, 230, 230]


@pytest.mark.skipif(not INFO.is_file(), reason="needs ../shared/data/ade20k_sample")
def test_names_are_the_first_ones_of_the_data_sets_own_list():
    rows = [line.split("\t") for line in INFO.read_text().splitlines()[1:]]
    assert [int(row[0]) for row in rows] == list(range(1, 151))
    assert [row[4].split(",")[0].strip() for row in rows] == list(CLASSES)
