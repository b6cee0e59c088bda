import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as V

from heads.geometry import upsampling
from heads.geometry.record import Geometry
from heads.geometry.resample import labels_at, scores_at, to_pixels


def test_cells_times_reduction_then_cut():
    maps = torch.randn(2, 3, 4, 5)
    full = F.interpolate(maps, size=(32, 40), mode="bilinear")
    assert torch.equal(to_pixels(maps, 8, (29, 33)), full[..., :29, :33])


def test_pixels_per_cell_need_not_be_whole():
    maps = torch.randn(1, 2, 4, 8)  # four cells of 3.5 px for each patch of 14 px
    assert torch.equal(to_pixels(maps, 3.5, (14, 28)), F.interpolate(maps, size=(14, 28), mode="bilinear"))


def test_bicubic_on_request():
    maps = torch.randn(1, 2, 4, 8)
    assert torch.equal(to_pixels(maps, 4, (16, 32), "bicubic"), F.interpolate(maps, size=(16, 32), mode="bicubic"))


def test_a_cell_lands_on_its_own_pixels():
    maps = torch.zeros(1, 1, 4, 4)
    maps[..., 1, 2] = 1
    pixels = to_pixels(maps, 8, (32, 32))[0, 0]
    assert (pixels == pixels.max()).nonzero().float().mean(0).tolist() == [11.5, 19.5]  # rows 8 to 15, columns 16 to 23


def test_what_the_cells_do_not_cover_repeats_the_border():
    pixels = to_pixels(torch.randn(1, 2, 27, 27), 14, (384, 384))
    assert pixels.shape[2:] == (384, 384)
    assert torch.equal(pixels[..., 378:, :378], pixels[..., 377:378, :378].expand(-1, -1, 6, -1))


@pytest.mark.parametrize("chunk", [1, 5_000, 2**26])
@pytest.mark.parametrize("output", [(29, 33), (50, 17)])
def test_scores_are_those_of_two_interpolations_and_labels_the_largest_for_any_chunk(monkeypatch, chunk, output):
    monkeypatch.setattr(upsampling, "_CHUNK", chunk)
    logits, geometry = torch.randn(2, 7, 4, 5).double(), V.resize(Geometry.of(output), [29, 33])
    expected = F.interpolate(to_pixels(logits, 8, (29, 33)), size=output, mode="bilinear")
    scores = scores_at(logits, 8, geometry)
    torch.testing.assert_close(scores, expected, atol=1e-12, rtol=0)
    assert torch.equal(labels_at(logits, 8, geometry), scores.argmax(1))


def test_what_was_cropped_away_is_the_first_class():
    geometry = V.horizontal_flip(V.crop(Geometry.of((20, 30)), 5, 6, 12, 16))
    logits = torch.randn(1, 4, 2, 2) - torch.tensor([9.0, 0, 0, 0]).view(-1, 1, 1)
    expected = geometry.to_original(to_pixels(logits, 8, (12, 16)))
    torch.testing.assert_close(scores_at(logits, 8, geometry), expected)
    labels = labels_at(logits, 8, geometry)[0]
    assert (labels[5:17, 6:22] > 0).all()
    labels[5:17, 6:22] = 0
    assert (labels == 0).all()


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3])
def test_ties_go_to_the_first_class(monkeypatch, value):
    monkeypatch.setattr(upsampling, "_CHUNK", 1)
    logits = torch.cat([torch.full((1, 1, 3, 5), value - 1), torch.full((1, 9, 3, 5), value)], dim=1)
    assert labels_at(logits, 4, V.resize(Geometry.of((31, 7)), [12, 20])).eq(1).all()
