import pytest
import torch
import torch.nn.functional as F

from heads.decoders import FPNDecoder, SegformerDecoder, UPerNetDecoder

STRIDES = (4, 8, 16, 32)
CHANNELS = [6, 7, 8, 9]


def pyramid(height, width):
    torch.manual_seed(0)
    return [torch.randn(2, c, -(-height // s), -(-width // s)) for c, s in zip(CHANNELS, STRIDES, strict=True)]


@pytest.mark.parametrize(
    "decoder",
    [
        UPerNetDecoder(CHANNELS, STRIDES, 3, features=8),
        SegformerDecoder(CHANNELS, STRIDES, 3, features=8),
        FPNDecoder(CHANNELS, STRIDES, 3, features=32),
    ],
)
def test_a_pyramid_goes_to_the_library_as_it_is(decoder):
    maps = pyramid(64, 96)
    decoder.eval()
    image = torch.zeros(2, 3, 64, 96)
    expected = decoder.classifier(decoder.trunk([image, image[:, :0], *maps]))
    torch.testing.assert_close(decoder(maps), expected)
    assert decoder.reduction == 4 and decoder(maps).shape == (2, 3, 16, 24)


def test_levels_end_together_where_32_does_not_divide_the_size():
    decoder = FPNDecoder(CHANNELS, STRIDES, 3, features=32)
    maps = pyramid(37, 61)
    levels = decoder._levels(maps)
    assert [tuple(level.shape[-2:]) for level in levels] == [(16, 16), (8, 8), (4, 4), (2, 2)]
    for m, level in zip(maps, levels, strict=True):
        rows, columns = m.shape[-2:]
        padded = F.pad(m, (0, level.shape[3] - columns, 0, level.shape[2] - rows), mode="replicate")
        torch.testing.assert_close(level, padded)


def test_cells_keep_their_place_when_patches_of_14_become_a_pyramid():
    decoder = SegformerDecoder([1] * 4, [14] * 4, 3, features=8)
    middles = (torch.arange(16.0) + 0.5) * 14  # of the cells [px]
    maps = [middles.expand(1, 1, 16, 16)] * 4
    for stride, level in zip(STRIDES, decoder._levels(maps), strict=True):
        found = (torch.arange(level.shape[3]) + 0.5) * stride
        inside = (found > 28) & (found < 196)
        torch.testing.assert_close(level[0, 0, 0][inside], found[inside])


def test_dropout_is_for_training():
    decoder = SegformerDecoder(CHANNELS, STRIDES, 3, features=8, dropout=0.5)
    maps = pyramid(64, 64)
    assert not torch.equal(decoder(maps), decoder(maps))
    decoder.eval()
    assert torch.equal(decoder(maps), decoder(maps))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"reads four layers, or one; got 2\. Choose other layers"):
        FPNDecoder([6, 6], [16, 16], 3)
    with pytest.raises(ValueError, match="features is 0; expected at least 1"):
        UPerNetDecoder([6], [16], 3, features=0)
    with pytest.raises(ValueError, match="pyramid_channels is 8 and features 33; expected at least 1, and a multiple"):
        FPNDecoder([6], [16], 3, pyramid_channels=8, features=33)
    with pytest.raises(ValueError, match="dropout is 1; expected 0 to below 1"):
        SegformerDecoder([6], [16], 3, dropout=1)


def test_upernet_does_not_train_on_one_image():
    decoder = UPerNetDecoder([6], [16], 3, features=8)
    with pytest.raises(ValueError, match="Train with a batch_size of at least 2"):
        decoder([torch.randn(1, 6, 4, 4)])
