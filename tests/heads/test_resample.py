import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as V

from heads import resample
from heads.data.geometry import Geometry
from heads.resample import labels_at, scores_at, to_pixels


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
def test_labels_are_the_largest_scores_for_any_chunk(monkeypatch, chunk, output):
    monkeypatch.setattr(resample, "_CHUNK", chunk)
    logits, geometry = torch.randn(2, 7, 4, 5), V.resize(Geometry.of(output), [29, 33])
    assert torch.equal(labels_at(logits, 8, geometry), scores_at(logits, 8, geometry).argmax(1))


def test_ties_go_to_the_first_class(monkeypatch):
    monkeypatch.setattr(resample, "_CHUNK", 1)
    assert labels_at(torch.zeros(1, 3, 2, 2), 4, Geometry.of((8, 8))).eq(0).all()
