import pytest

from heads.data.layouts import first_folder, listed


@pytest.fixture
def files(tmp_path):
    for name in ("a.jpg", "a.png", "b.jpg", "b.png"):
        (tmp_path / name).touch()
    return tmp_path


def test_a_list_names_pairs_and_blank_lines_are_nothing(files):
    (files / "list.txt").write_text("b\n\n a \r\n")
    assert [image.name for image, _ in listed(files / "list.txt", files, files)] == ["b.jpg", "a.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nc\n", r"list\.txt names 2 images, but 2 of their files are missing, first .*c\.jpg"),
        ("\n", r"list\.txt names no image"),
        ("a\n../b\n", r"list\.txt names '\.\./b'; expected names without folders"),
        ("/etc/b\n", r"list\.txt names '/etc/b'"),
        ("..\\b\n", r"list\.txt names .*expected names without folders"),
    ],
)
def test_bad_lists_are_refused(files, text, message):
    (files / "list.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        listed(files / "list.txt", files, files)


def test_no_list_is_refused(files):
    with pytest.raises(ValueError, match=r"No file .*gone\.txt; expected a list"):
        listed(files / "gone.txt", files, files)


def test_the_first_folder_that_is_there(tmp_path):
    (tmp_path / "b").mkdir()
    assert first_folder(tmp_path, ["a", "b"]).name == "b"
    assert first_folder(tmp_path, ["a", "c"]).name == "a"
