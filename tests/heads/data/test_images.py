import numpy as np
import pytest
import torch
from PIL import Image

from heads.data.images import read_image, read_labels, to_rgb

GREY = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)
RGB = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)


def written(image, path, **kwargs):
    image.save(path, **kwargs)
    return path


def expected(array):
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "1", "P"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    image = Image.fromarray(GREY).convert(mode)
    found = read_image(written(image, tmp_path / "a.png"))
    assert found.dtype == torch.uint8
    assert torch.equal(found, expected(np.array(image.convert("RGBA").convert("RGB"))))


def test_palette_with_transparency_keeps_its_colours(tmp_path):
    image = Image.fromarray(RGB).quantize(8)
    path = written(image, tmp_path / "a.png", transparency=0)
    assert torch.equal(read_image(path), expected(np.array(image.convert("RGB"))))


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    path = written(Image.fromarray(GREY.astype(np.uint16) * 257), tmp_path / "a.png")
    assert torch.equal(read_image(path), expected(np.stack([GREY] * 3, axis=-1)))


def test_float_grey_in_unit_range(tmp_path):
    path = written(Image.fromarray(GREY.astype(np.float32) / 255), tmp_path / "a.tif")
    assert torch.equal(read_image(path)[0], torch.from_numpy(GREY))


def test_float_grey_out_of_range_is_refused(tmp_path):
    path = written(Image.fromarray(GREY.astype(np.float32)), tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif.*\[0, 1\]"):
        read_image(path)


def test_cmyk_jpeg(tmp_path):
    path = written(Image.fromarray(RGB).convert("CMYK"), tmp_path / "a.jpg")
    assert read_image(path).shape == (3, 12, 10)


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    path = written(Image.fromarray(RGB), tmp_path / "a.png", exif=exif)
    assert torch.equal(read_image(path), expected(np.rot90(RGB, -1)))


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_damaged_exif_is_passed_over_in_silence(tmp_path, exif):
    path = written(Image.fromarray(RGB), tmp_path / "a.jpg", exif=exif)
    plain = written(Image.fromarray(RGB), tmp_path / "b.jpg")
    assert torch.equal(read_image(path), read_image(plain))


def test_12_bit_in_32_is_refused_and_a_mode_without_way_to_rgb_too(tmp_path):
    path = written(Image.fromarray(GREY.astype(np.int32) * 2**12), tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif has values from 0 to 487424; expected 16 bits at most"):
        read_image(path)
    with pytest.raises(ValueError, match=r"image has mode La.*Save it as RGB"):
        to_rgb(Image.new("La", (2, 2)))


@pytest.mark.parametrize("size", [(1, 1), (20_000, 40)])
def test_extreme_sizes(tmp_path, size):
    path = written(Image.new("RGB", size, (1, 2, 3)), tmp_path / "a.png")
    assert read_image(path).shape == (3, size[1], size[0])


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncated_file_is_refused(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = written(Image.fromarray(noise), tmp_path / f"cut{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"cut\{suffix} is damaged or truncated.*again"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_what_is_no_image_is_refused(tmp_path, content):
    path = tmp_path / "text.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"text\.png is not an image"):
        read_image(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"No file .*gone"):
        read_image(tmp_path / "gone.png")


def test_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = written(Image.new("L", (100, 100)), tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    with pytest.raises(ValueError, match=r"bomb\.png.*pixels.*shrink"):
        read_image(path)


@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_labels_keep_their_indices(tmp_path, mode):
    values = GREY % 2 if mode == "1" else GREY
    image = Image.fromarray(values.astype(bool)) if mode == "1" else Image.fromarray(values)
    if mode == "P":
        image.putpalette([255 - i // 3 for i in range(768)])
    assert torch.equal(read_labels(written(image, tmp_path / "a.png")), torch.from_numpy(values))


def test_16_bit_labels_that_fit_are_read_and_others_refused(tmp_path):
    fits, large = GREY.astype(np.uint16), GREY.astype(np.uint16) + 200
    assert torch.equal(read_labels(written(Image.fromarray(fits), tmp_path / "a.png")), torch.from_numpy(GREY))
    with pytest.raises(
        ValueError, match=r"b\.png has label values from 200 to 319; expected class indices .*Map its values"
    ):
        read_labels(written(Image.fromarray(large), tmp_path / "b.png"))


def test_colour_labels_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"c\.png has mode RGB; expected one channel"):
        read_labels(written(Image.fromarray(RGB), tmp_path / "c.png"))


def test_32_bit_grey_that_fits_8_bits_is_taken_as_it_is(tmp_path):
    path = written(Image.fromarray(GREY.astype(np.int32)), tmp_path / "a.tif")
    assert torch.equal(read_image(path)[0], torch.from_numpy(GREY))
