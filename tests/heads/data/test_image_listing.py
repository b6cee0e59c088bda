import random

import pytest
from PIL import Image

from heads.data.image_listing import IMAGE_FORMATS, IMAGE_SUFFIXES, list_images, what_they_are
from heads.data.images import read_image


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_list_is_sorted_and_skips_hidden_files_in_silence(tmp_path):
    touch(tmp_path, "b.PNG", "a.jpg", ".hidden.png", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints/a.png")
    assert [p.name for p in list_images(tmp_path)] == ["a.jpg", "b.PNG"]


def test_missing_and_empty_folders_and_twins_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"No folder .*gone"):
        list_images(tmp_path / "gone")
    with pytest.raises(ValueError, match="holds no image; expected"):
        list_images(tmp_path)
    touch(tmp_path, "a.heic", "b.heic")
    with pytest.raises(ValueError, match=r"holds no image; it has 2 \.heic \(a\.heic, \.\.\.\); expected"):
        list_images(tmp_path)
    touch(tmp_path, "a.png", "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png differ only"):
        list_images(tmp_path)


def test_what_is_passed_over_is_said_once_by_ending(tmp_path):
    touch(tmp_path, "a.jpg", "d.HEIC", "c.heic", "notes.txt", "LICENSE", "sub/f.jpg", "tub/g.jpg")
    (tmp_path / "dead.jpg").symlink_to(tmp_path / "nothing.jpg")
    (tmp_path / "alive.jpg").symlink_to(tmp_path / "a.jpg")
    with pytest.warns(UserWarning) as said:
        assert [p.name for p in list_images(tmp_path)] == ["a.jpg", "alive.jpg"]
    assert len(said) == 1
    for part in ("read 2 images, skipped", "2 .heic (c.heic, ...)", "1 .txt (notes.txt)", "1 without suffix (LICENSE)"):
        assert part in str(said[0].message)
    assert "1 dead link (dead.jpg), 2 sub-folders (sub, ...)" in str(said[0].message)


def test_files_that_are_read_as_something_else_go_unsaid(tmp_path):
    touch(tmp_path, "a.jpg", "a.npy")
    assert [p.name for p in list_images(tmp_path, others=(".npy",))] == ["a.jpg"]
    assert what_they_are([tmp_path / ".DS_Store"]) == ""


SAVED = {
    ".jfif": "JPEG",
    ".jpe": "JPEG",
    ".gif": "GIF",
    ".avif": "AVIF",
    ".webp": "WEBP",
    ".tiff": "TIFF",
    ".dib": "DIB",
    ".jp2": "JPEG2000",
    ".ppm": "PPM",
    ".tga": "TGA",
    ".qoi": "QOI",
}


@pytest.mark.parametrize("suffix", SAVED)
def test_every_ending_of_photographs_is_read(tmp_path, suffix):
    if suffix not in IMAGE_SUFFIXES or SAVED[suffix] not in Image.SAVE:
        pytest.skip(f"this Pillow has no {SAVED[suffix]}")
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (9, 7), (200, 100, 50)).save(path, SAVED[suffix])
    assert list_images(tmp_path) == [path]
    assert (read_image(path).float().mean(dim=(1, 2)).round() - read_image(path)[:, 0, 0]).abs().max() <= 8
    assert read_image(path)[0].float().mean() == pytest.approx(200, abs=12)


@pytest.mark.parametrize("suffix", SAVED)
def test_a_damaged_file_of_every_ending_is_refused_by_name_or_read(tmp_path, suffix):
    if suffix not in IMAGE_SUFFIXES or SAVED[suffix] not in Image.SAVE:
        pytest.skip(f"this Pillow has no {SAVED[suffix]}")
    path, rng = tmp_path / f"a{suffix}", random.Random(0)
    Image.effect_noise((20, 30), 90).convert("RGB").save(path, SAVED[suffix])
    whole, refused = path.read_bytes(), 0
    for trial in range(40):
        damaged = bytearray(whole if trial % 4 else whole[: rng.randrange(len(whole))])
        for _ in range(min(5, len(damaged))):
            damaged[rng.randrange(min(len(damaged), 200))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            assert read_image(path).shape[0] == 3
        except ValueError as error:
            assert path.name in str(error)
            refused += 1
    assert refused


def test_the_first_frame_of_a_gif_is_read(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif")[:, 0, 0].tolist() == [255, 0, 0]


def test_no_decoder_that_runs_or_passes_on_what_it_is_given_is_asked(tmp_path, monkeypatch):
    assert not {"EPS", "WMF", "IPTC", "HDF5", "GRIB", "BUFR"} & set(IMAGE_FORMATS)
    assert not {".eps", ".ps", ".pdf", ".wmf", ".pfm"} & IMAGE_SUFFIXES
    monkeypatch.setattr("PIL.EpsImagePlugin.EpsImageFile._open", lambda self: pytest.fail("EPS was opened"))
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(ValueError, match=r"a\.jpg is not an image"):
        read_image(tmp_path / "a.jpg")
