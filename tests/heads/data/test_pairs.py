import numpy as np
import pytest
from PIL import Image

from heads.data.pairs import pair_folders, read_list, read_pair_list


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(path)
    return path


@pytest.fixture
def scene(tmp_path):
    for name in ("sync/kitchen/rgb_1.jpg", "sync/kitchen/depth_1.png"):
        touch(tmp_path / name)
    return tmp_path


def listed(root, text):
    (root / "list.txt").write_text(text)
    roots = (root / "sync", root)
    return read_pair_list(root / "list.txt", roots, roots)


@pytest.mark.parametrize("slash", ["", "/", "sync/", "/sync/"])
def test_leading_slashes_are_dropped_and_further_columns_not_read(scene, slash):
    found = listed(scene, f"{slash}kitchen/rgb_1.jpg {slash}kitchen/depth_1.png 518.8579\n\n")
    assert found == [(scene / "sync/kitchen/rgb_1.jpg", scene / "sync/kitchen/depth_1.png")]


def test_a_label_that_was_never_made_is_left_out(scene):
    assert len(listed(scene, "kitchen/rgb_1.jpg kitchen/depth_1.png 5\nkitchen/rgb_2.jpg None 5\n")) == 1


def test_missing_files_are_counted_and_the_first_is_named(scene):
    with pytest.raises(ValueError, match=r"3 files that .*list\.txt names are missing, first .*kitchen.rgb_2\.jpg"):
        listed(scene, "kitchen/rgb_2.jpg kitchen/depth_1.png\nkitchen/a.jpg kitchen/b.png\n")


@pytest.mark.parametrize("name", ["../secret.png", "/../secret.png", "kitchen/../../secret.png"])
def test_a_list_that_leads_out_of_the_folder(scene, name):
    touch(scene.parent / "secret.png")
    with pytest.raises(ValueError, match=r"list\.txt, line 1, names .*secret\.png, which leads out"):
        listed(scene, f"kitchen/rgb_1.jpg {name}")


def test_lists_that_are_none(scene):
    with pytest.raises(ValueError, match=r"No file .*gone\.txt; expected a list"):
        read_pair_list(scene / "gone.txt", (scene,), (scene,))
    with pytest.raises(ValueError, match=r"list\.txt holds no pair"):
        listed(scene, "\n")
    with pytest.raises(ValueError, match=r"list\.txt, line 2, is 'b'; expected an image and its label"):
        listed(scene, "kitchen/rgb_1.jpg kitchen/depth_1.png\nb\n")
    (scene / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"binary\.txt is not UTF-8 text; expected a list"):
        read_pair_list(scene / "binary.txt", (scene,), (scene,))


def test_folders_pair_by_stem_and_the_first_suffix_wins(tmp_path):
    image = touch(tmp_path / "images" / "a.jpg")
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth" / "a.npy").touch()
    suffixes = (".png", ".npy")
    assert pair_folders(tmp_path / "images", tmp_path / "depth", suffixes) == [(image, tmp_path / "depth" / "a.npy")]
    touch(tmp_path / "depth" / "a.png")
    assert pair_folders(tmp_path / "images", tmp_path / "depth", suffixes)[0][1].suffix == ".png"


def test_what_is_left_of_labels_is_said_once(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "depth"
    touch(images / "a.jpg")
    for name in ("a.png", "a.npy", "b.npy", "c.png", "d.png", ".hidden.png", "old/a.png", "notes.txt"):
        (labels / name).parent.mkdir(parents=True, exist_ok=True)
        (labels / name).touch()
    with pytest.warns(UserWarning) as said:
        assert pair_folders(images, labels, (".png", ".npy")) == [(images / "a.jpg", labels / "a.png")]
    alone, others = (str(warning.message) for warning in said)
    assert f"{labels}: labels without an image in {images} are not read: 1 .npy (b.npy), 2 .png (c.png, ...)" in alone
    assert f"{labels}: read 1 labels, skipped 1 .txt (notes.txt), 1 sub-folder (old)" in others


def test_images_and_labels_in_one_folder_are_no_leftovers_of_each_other(tmp_path):
    image = touch(tmp_path / "a.png")
    (tmp_path / "a.npy").touch()
    assert pair_folders(tmp_path, tmp_path, (".npy",)) == [(image, tmp_path / "a.npy")]
    (tmp_path / "b.npy").touch()
    with pytest.warns(UserWarning, match=r"labels without an image .*: 1 \.npy \(b\.npy\)"):
        pair_folders(tmp_path, tmp_path, (".npy",))


def test_folders_that_do_not_pair_up(tmp_path):
    touch(tmp_path / "images" / "a.jpg")
    with pytest.raises(ValueError, match=r"No folder .*depth; expected the label PNGs or NPYs"):
        pair_folders(tmp_path / "images", tmp_path / "depth", (".png", ".npy"))
    (tmp_path / "depth").mkdir()
    with pytest.raises(ValueError, match=r"1 of 1 images .* first a\.jpg: expected .*a\.png or .*a\.npy"):
        pair_folders(tmp_path / "images", tmp_path / "depth", (".png", ".npy"))


def test_a_list_is_read_past_a_byte_order_mark_and_only_as_text(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa\nb\n")
    assert read_list(path, "names") == ["a", "b"]
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"list\.txt is not UTF-8 text; expected a list with names"):
        read_list(path, "names")


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "x/" * 3000, "kitchen/a\0b.jpg", "~nobody/a.jpg"])
def test_a_name_that_no_file_can_have_is_missing(scene, name):
    with pytest.raises(ValueError, match=r"1 files that .*list\.txt names are missing"):
        listed(scene, f"{name} kitchen/depth_1.png\n")


def test_a_list_that_cannot_be_read(scene, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    (scene / "list.txt").touch()
    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    with pytest.raises(ValueError, match=r"list\.txt cannot be read .*Permission denied.*; expected a list"):
        read_list(scene / "list.txt", "names")
