"""PNG files without their metadata, for those whose texts or profile Pillow refuses."""

import struct
from io import BytesIO
from pathlib import Path

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_KEPT = (*_CRITICAL, b"tRNS", b"eXIf")  # chunks that define the pixels and their orientation
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_EXIF_AS_TEXT = b"Raw profile type exif\0"  # ImageMagick's format
_LONGEST_EXIF = 1 << 17  # [bytes], 64 KiB in hexadecimal


def png_pixels(path: Path) -> BytesIO | None:
    """A PNG without its texts, profiles and other extras; ``None`` if the file is not a PNG.

    Pillow refuses a PNG with more text than its limits allow, or with a profile that it cannot unpack, although the
    pixels are good. The limits stay in force: oversized chunks are not read. A truncated file stays truncated.
    """
    left = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            return None
        kept = BytesIO()
        kept.write(_SIGNATURE)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            content = b""
            if kind in _KEPT or (kind in _TEXTS and length <= _LONGEST_EXIF):
                content = file.read(min(length + 4, left))  # 4: checksum; a false length reads no further
            else:
                file.seek(length + 4, 1)
            if kind in _KEPT or content.startswith(_EXIF_AS_TEXT):
                kept.write(head + content)
            if kind == b"IEND":
                break
    kept.seek(0)
    return kept
