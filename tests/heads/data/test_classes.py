import pytest

from heads.data.classes import class_colours


def test_number_names_and_colours():
    assert list(class_colours(2)) == ["class 0", "class 1"]
    assert list(class_colours(["a", "b"])) == ["a", "b"]
    assert class_colours({"a": [1, 2, 3]}) == {"a": [1, 2, 3]}


def test_made_up_colours_differ():
    colours = list(class_colours(150).values())
    assert len({tuple(c) for c in colours}) == 150
    assert all(0 <= v <= 255 for c in colours for v in c)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (None, "classes is None; expected their number"),
        (0, "0 classes; expected 1 to 255"),
        (256, "256 classes; expected 1 to 255.*ignore"),
        (["a", "b", "a"], "'a' twice"),
        ({"a": [1, 2]}, r"class 'a' is \[1, 2\]; expected three integers"),
        ({"a": [1, 2, 256]}, "class 'a'"),
        ({"a": "red"}, "class 'a' is 'red'"),
    ],
)
def test_bad_class_lists_are_refused(classes, message):
    with pytest.raises(ValueError, match=message):
        class_colours(classes)


def test_where_labels_are_no_pixels_there_may_be_any_number():
    assert len(class_colours(1203, most=None)) == 1203 and len(class_colours(300, most=300)) == 300
    with pytest.raises(ValueError, match="0 classes; expected at least 1"):
        class_colours([], most=None)
