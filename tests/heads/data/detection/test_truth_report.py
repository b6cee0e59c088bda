import pytest

from heads.data.detection.annotations import Annotations
from heads.data.detection.truth_report import doubled, doubts, notes, warn_of_alike


def split(*objects, names=("cat", "dog")):
    """Objects as image, category, box and perhaps iscrowd."""
    rows = [
        {"id": number, "image_id": image, "category_id": category, "bbox": list(box), "iscrowd": sum(crowd)}
        for number, (image, category, box, *crowd) in enumerate(objects, 1)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    return Annotations("a.json", [{"id": 1}, {"id": 2}], categories, rows)


BOX = (10.0, 20.0, 30.0, 40.0)


def test_the_same_object_twice_is_found_up_to_rounding():
    rounded = (10.4, 19.6, 30, 40.6)
    found = doubled(split((1, 1, BOX), (2, 2, BOX), (1, 1, (50, 50, 9, 9)), (1, 1, rounded), (1, 1, BOX)))
    assert sorted({one["id"] for pair in found for one in pair}) == [1, 4, 5] and len(found) == 2
    assert all(one["id"] != other["id"] for one, other in found)


@pytest.mark.parametrize(
    "other",
    [
        (2, 1, BOX),
        (1, 2, BOX),
        (1, 1, (12, 20, 30, 40)),
        (1, 1, (10, 20, 30, 42)),
        (1, 1, BOX, 1),
        (1, 1, (20.0, 10.0, 40.0, 30.0)),
    ],
)
def test_others_are_not_the_same(other):
    assert not doubled(split((1, 1, BOX), other))


def test_small_objects_beside_each_other_are_not_the_same():
    grid = [(1, 1, (x, y, 1, 1)) for x in range(40) for y in range(40)]
    assert not doubled(split(*grid)) and len(doubled(split(*grid, *grid))) == 1600
    assert not doubled(split())


def test_doubled_objects_are_counted_and_one_pair_is_named():
    (line,) = doubts(split((1, 1, BOX), (1, 2, BOX), (1, 1, BOX)))
    assert line.startswith("1 of 3 objects are annotated twice") and "annotations 1 and 3 of image 1" in line
    assert not doubts(split((1, 1, BOX), (1, 2, BOX)))


def test_crowds_are_counted_and_are_doubtful_where_they_are_most():
    crowd, cat, dog = (1, 1, BOX, 1), (2, 1, BOX), (1, 2, BOX)
    (line,) = doubts(split(crowd, crowd, crowd, cat, dog))
    assert line.startswith("3 of 5 annotations have iscrowd 1") and "set iscrowd to 0" in line
    some = split(crowd, cat, dog)
    assert not doubts(some) and notes(some)[0].startswith("1 of 3 annotations have iscrowd 1")


def test_classes_without_an_object_are_named_up_to_ten():
    (line,) = doubts(split((1, 1, BOX), names=["cat", "dog"]))
    assert line.startswith("No object of 'dog' is among its 1 annotations.")
    (line,) = doubts(split((1, 1, BOX), names=["cat", *"abcdefghijkl"]))
    assert "of 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j' and 2 more is among" in line
    assert not doubts(split((1, 1, BOX), (1, 2, BOX)))


def test_a_class_that_has_crowds_alone_is_without_an_object():
    (line,) = doubts(split((1, 1, BOX), (1, 1, (1, 1, 5, 5)), (1, 2, BOX, 1)))
    assert line.startswith("No object of 'dog' is among its 3 annotations.")


@pytest.mark.parametrize(
    "names",
    [["Car", "bus", "car"], ["car", "bus", "car "], ["traffic light", "traffic  light"], ["café", "cafe\u0301"]],
)
def test_names_that_differ_in_case_or_blanks_alone_are_named(names):
    with pytest.warns(UserWarning, match="data has the classes") as said:
        warn_of_alike(names, "data")
    assert f"{names[0]!r} and {names[-1]!r}, which differ" in str(said[0].message)


def test_other_names_are_not():
    warn_of_alike(["car", "cart", "c"], "data")
