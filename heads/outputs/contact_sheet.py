"""Pictures side by side on one sheet: images next to their predictions."""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_GAP = 4  # between pictures [px]
_TITLE = 24  # height of the line of titles, and of the legend [px]


def picture(pixels: Tensor) -> Image.Image:
    """Convert a tensor ``(3, H, W)``, uint8 or in [0, 1], to an image."""
    bytes_ = pixels if pixels.dtype.is_floating_point is False else (pixels * 255).round().byte()
    return Image.fromarray(bytes_.permute(1, 2, 0).cpu().numpy())


def sheet(
    rows: Sequence[Sequence[Image.Image]],
    *,
    height: int = 256,
    titles: Sequence[str] = (),
    legend: Mapping[str, list[int]] | None = None,
) -> Image.Image:
    """One row per image; all its pictures have the size of the first one when that is ``height`` high.

    Smaller pictures are enlarged with nearest-neighbour sampling, larger ones are reduced with smoothing.

    Args:
        rows: Pictures of each row.
        height: Height of each row [px].
        titles: Titles of the columns, which are as wide as the first row's pictures.
        legend: Class names with colours, below the rows.
    """
    drawn = [_row(row, height) for row in rows]
    top, bottom = _TITLE if titles else 0, _TITLE if legend else 0
    whole = Image.new("RGB", (max(r.width for r in drawn), top + (height + _GAP) * len(drawn) - _GAP + bottom), "white")
    for i, row in enumerate(drawn):
        whole.paste(row, (0, top + i * (height + _GAP)))
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(_TITLE - 10)
    for i, title in enumerate(titles):
        pen.text((i * (drawn[0].width + _GAP) / len(rows[0]) + 2, 4), title, fill="black", font=font)
    x = 2.0
    for name, colour in (legend or {}).items():
        pen.rectangle((x, whole.height - 18, x + 14, whole.height - 4), fill=tuple(colour), outline="grey")
        pen.text((x + 19, whole.height - 20), name, fill="black", font=font)
        x += 19 + pen.textlength(name, font=font) + 14
    return whole


def _row(pictures: Sequence[Image.Image], height: int) -> Image.Image:
    first = pictures[0]
    width = min(4 * height, max(1, round(height * first.width / first.height)))
    row = Image.new("RGB", ((width + _GAP) * len(pictures) - _GAP, height), "white")
    for i, one in enumerate(pictures):
        smooth = one.width > width or one.height > height
        scaled = one.resize((width, height), Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST)
        row.paste(scaled, (i * (width + _GAP), 0))
    return row
