import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from heads.data.images import read_image, read_labels

PICTURE = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write(path, *chunks, last=False, array=PICTURE, **options):
    """A PNG with chunks of one's own, behind its header or at its end."""
    Image.fromarray(array).save(path, **options)
    whole = path.read_bytes()
    place = len(whole) - 12 if last else 33
    path.write_bytes(whole[:place] + b"".join(chunks) + whole[place:])
    return path


EXTRAS = {
    "a text that unpacks to 2 MiB": [chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 21)))],
    "an international text that unpacks to 2 MiB": [chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(1 << 21)))],
    "66 texts of 1 MiB": [chunk(b"tEXt", b"%d\0" % i + bytes(1 << 20)) for i in range(66)],
    "a profile that unpacks to 2 MiB": [chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 21)))],
    "a profile packed in an unknown way": [chunk(b"iCCP", b"a\0\7abc")],
    "a text with a wrong checksum": [chunk(b"tEXt", b"a\0b")[:-1] + b"?"],
}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("extra", EXTRAS)
def test_extras_that_pillow_refuses_are_read_past(tmp_path, extra, last):
    found = read_image(write(tmp_path / "a.png", *EXTRAS[extra], last=last))
    np.testing.assert_array_equal(found.permute(1, 2, 0), PICTURE)


def test_pillow_does_refuse_them_and_its_limits_stay(tmp_path):
    limits = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    path = write(tmp_path / "a.png", *EXTRAS["a text that unpacks to 2 MiB"])
    with pytest.raises(ValueError, match="MAX_TEXT_CHUNK"):
        Image.open(path)
    read_image(path)
    assert limits == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)


def test_labels_and_orientation_are_read_past_them_too(tmp_path):
    text = EXTRAS["a text that unpacks to 2 MiB"]
    labels = write(tmp_path / "l.png", *text, array=PICTURE[..., 0])
    np.testing.assert_array_equal(read_labels(labels), PICTURE[..., 0])
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = read_image(write(tmp_path / "a.png", *text, exif=exif)).permute(1, 2, 0)
    np.testing.assert_array_equal(turned, np.rot90(PICTURE, -1))
    data = exif.tobytes()
    raw = chunk(b"tEXt", b"Raw profile type exif\0" + f"\nexif\n{len(data):8}\n{data.hex()}\n".encode())
    turned = read_image(write(tmp_path / "b.png", *text, raw)).permute(1, 2, 0)
    np.testing.assert_array_equal(turned, np.rot90(PICTURE, -1))


def test_what_is_cut_off_or_lies_about_its_length_stays_damaged(tmp_path):
    path = write(tmp_path / "a.png", *EXTRAS["a text that unpacks to 2 MiB"])
    whole = path.read_bytes()
    place = whole.index(b"IDAT")
    for damaged in (whole[: place + 20], whole[: place - 4] + b"\xff\xff\xff\xff" + whole[place : place + 20]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.png is damaged or truncated"):
            read_image(path)
