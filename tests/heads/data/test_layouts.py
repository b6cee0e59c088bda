import pytest

from heads.data.layouts import base_folder, data_root, warn_of_count


def test_another_number_of_images_is_warned_about():
    warn_of_count("NYU test", 654, "list.txt", 654)
    message = r"NYU test has 653 images in list\.txt; expected 654, 1 are missing\. Scores on it are not comparable"
    with pytest.warns(UserWarning, match=message):
        warn_of_count("NYU test", 653, "list.txt", 654)


def test_a_root_is_a_folder_that_exists(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root(str(tmp_path)) == data_root("~") == tmp_path
    with pytest.raises(
        ValueError, match=r"^data\.root is not set; expected the folder of the dataset, or data\.classes\.$"
    ):
        data_root(None, instead="data.classes")
    (tmp_path / "file").touch()
    for name in ("gone", "file"):
        message = rf"^No folder .*{name}; expected data\.root to be the folder A/B\.$"
        with pytest.raises(ValueError, match=message):
            data_root(str(tmp_path / name), "the folder A/B")
        with pytest.raises(ValueError, match=message):
            base_folder(str(tmp_path / name), "A/B", ["images"])


@pytest.mark.parametrize("below", ["", "A", "A/B"])
def test_a_published_folder_is_found_from_any_of_its_folders(tmp_path, below):
    (tmp_path / "A" / "B" / "images").mkdir(parents=True)
    assert base_folder(str(tmp_path / below), "A/B", ["pictures", "images"]) == tmp_path / "A" / "B"
    with pytest.raises(ValueError, match=r"^No folder pictures in .*; expected data\.root to be the folder A/B\.$"):
        base_folder(str(tmp_path / below), "A/B", ["pictures"])
