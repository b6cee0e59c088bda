import torch
from PIL import Image

from heads.outputs.contact_sheet import picture, sheet


def test_a_row_for_each_image_at_the_size_of_its_first_picture():
    wide, flat, cells = Image.new("RGB", (20, 10)), Image.new("RGB", (500, 1)), picture(torch.rand(3, 2, 2))
    assert sheet([[wide, cells], [flat, cells]], height=32).size == (2 * 4 * 32 + 4, 2 * 32 + 4)


def test_cells_are_enlarged_as_they_are_and_photographs_smoothed():
    cells = picture(torch.tensor([[0.0, 1.0]]).expand(3, 1, 2))
    drawn = sheet([[Image.new("RGB", (8, 8)), cells]], height=8)
    assert [drawn.getpixel((12 + i, 4)) for i in range(8)] == [(0, 0, 0)] * 4 + [(255, 255, 255)] * 4
    stripes = Image.new("RGB", (64, 64))
    stripes.paste("white", (0, 0, 33, 64))
    assert len(set(sheet([[stripes]], height=8).convert("L").tobytes())) > 2


def test_titles_and_legend_stand_above_and_below():
    rows = [[Image.new("RGB", (64, 64))] * 2]
    drawn = sheet(rows, height=64, titles=("a", "b"), legend={"sky": [0, 0, 255]})
    assert drawn.size == (132, 64 + 48)
    assert drawn.getpixel((9, drawn.height - 10)) == (0, 0, 255)
    for column in (0, 68):
        assert min(drawn.crop((column, 0, column + 30, 24)).convert("L").tobytes()) < 100


def test_bytes_and_floats_are_the_same_picture():
    pixels = torch.randint(0, 256, (3, 4, 5), dtype=torch.uint8)
    assert picture(pixels).tobytes() == picture(pixels / 255).tobytes()
    assert picture(pixels).size == (5, 4)
