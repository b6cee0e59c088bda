"""The same picture in files of 16 bits that hold 8, 10, 12, 14 and 16."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from heads.data.images import read_image, read_labels
from heads.data.wide_pixels import to_8_bits

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 7, 4), np.uint8)
PICTURE[0, 0] = 255
BITS = pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(values, colour, extra=b""):
    """A PNG of 16 bits a channel, which Pillow does not write in colour."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values, order, compressed):
    """A TIFF of 16 bits a channel in RGB."""
    height, width = values.shape[:2]
    pixels = values.astype(f"{order}u2").tobytes()
    pixels = zlib.compress(pixels) if compressed else pixels
    after = 8 + 2 + 12 * 9 + 4
    longs = {256: width, 257: height, 258: after, 273: after + 6, 278: height, 279: len(pixels)}
    shorts = {259: 8 if compressed else 1, 262: 2, 277: 3}
    file = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 9)
    for tag in sorted(longs | shorts):
        if tag in longs:
            file += struct.pack(f"{order}HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, longs[tag])
        else:
            file += struct.pack(f"{order}HHIHH", tag, 3, 1, shorts[tag], 0)
    return file + struct.pack(f"{order}IHHH", 0, 16, 16, 16) + pixels


def files(values):
    """Every way to store colours of 16 bits that Pillow reads, and whether grey is left of them."""
    rgb = values[..., :3]
    yield "rgb.png", png(rgb, 2), False
    yield "rgba.png", png(values, 6), False
    yield "key.png", png(rgb, 2, chunk(b"tRNS", struct.pack(">HHH", 65535, 1, 2))), False
    yield "la.png", png(values[..., :2], 4), True
    for order in "<>":
        for compressed in (False, True):
            yield f"{ord(order)}{compressed}.tif", tiff(rgb, order, compressed), False


@BITS
def test_colours_are_scaled_by_the_range_that_they_use(tmp_path, bits):
    for name, content, grey in files(PICTURE.astype(np.uint16) << (bits - 8)):
        (tmp_path / name).write_bytes(content)
        expected = PICTURE[..., [0, 0, 0]] if grey else PICTURE[..., :3]
        np.testing.assert_array_equal(read_image(tmp_path / name).permute(1, 2, 0), expected, err_msg=name)


@BITS
def test_ppm_is_scaled_as_well(tmp_path, bits):
    values = (PICTURE[..., :3].astype(np.uint16) << (bits - 8)).astype(">u2")
    (tmp_path / "a.ppm").write_bytes(b"P6 7 6 65535\n" + values.tobytes())
    found = read_image(tmp_path / "a.ppm").permute(1, 2, 0).numpy().astype(int)
    assert np.abs(found - PICTURE[..., :3]).max() <= 1  # Pillow rounds what uses all 16 bits


@BITS
@pytest.mark.parametrize("kind", ["png", "tif", "big.tif", "32.tif"])
def test_grey_does_not_depend_on_how_pillow_calls_it(tmp_path, bits, kind):
    values = PICTURE[..., 0].astype(np.uint16) << (bits - 8)
    array = {"big.tif": values.astype(">u2"), "32.tif": values.astype(np.int32)}.get(kind, values)
    Image.fromarray(array).save(tmp_path / f"a.{kind}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{kind}")[0], PICTURE[..., 0])


def test_the_orientation_of_what_is_scaled_is_kept(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.png").write_bytes(png(PICTURE[..., :3].astype(np.uint16), 2, chunk(b"eXIf", exif.tobytes()[6:])))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").permute(1, 2, 0), np.rot90(PICTURE[..., :3], -1))


def test_labels_of_16_bits_keep_their_values(tmp_path):
    values = np.array([[0, 1], [2, 3]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_labels(tmp_path / "a.png").tolist() == values.tolist()


def test_a_black_picture_stays_black():
    assert to_8_bits(np.zeros((2, 2), np.uint16)).max() == 0
