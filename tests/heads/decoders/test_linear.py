import pytest
import torch

from heads.decoders import LinearDecoder, build_decoder


def test_is_batchnorm_then_1x1_convolution():
    decoder = LinearDecoder([6], [16], 4).eval()
    x = torch.randn(2, 6, 3, 5)
    x0 = (x - decoder.norm.running_mean.view(-1, 1, 1)) / (decoder.norm.running_var.view(-1, 1, 1) + 1e-5).sqrt()
    expected = torch.einsum("oi,bihw->bohw", decoder.classifier.weight[:, :, 0, 0], x0)
    torch.testing.assert_close(decoder([x]), expected + decoder.classifier.bias.view(-1, 1, 1))
    assert decoder.reduction == 16


def test_reads_one_map():
    with pytest.raises(ValueError, match=r"one layer, got 2; set layers"):
        LinearDecoder([6, 6], [16, 16], 4)


def test_unknown_names_and_arguments_are_refused():
    with pytest.raises(ValueError, match="decoder is 'lineal'; expected one of linear"):
        build_decoder("lineal", [6], [16], 4)
    with pytest.raises(ValueError, match=r"dropout.*do not fit the decoder 'linear'"):
        build_decoder("linear", [6], [16], 4, dropout=0.1)
