import pytest
import torch
import torch.nn.functional as F

from heads.decoders import LinearDecoder


def test_is_batchnorm_then_1x1_convolution():
    decoder = LinearDecoder([6], [16], 4).eval()
    x = torch.randn(2, 6, 3, 5)
    x0 = (x - decoder.norm.running_mean.view(-1, 1, 1)) / (decoder.norm.running_var.view(-1, 1, 1) + 1e-5).sqrt()
    expected = torch.einsum("oi,bihw->bohw", decoder.classifier.weight[:, :, 0, 0], x0)
    torch.testing.assert_close(decoder([x]), expected + decoder.classifier.bias.view(-1, 1, 1))
    assert decoder.reduction == 16


def test_several_layers_are_concatenated():
    decoder = LinearDecoder([6, 5], [16, 16], 4).eval()
    maps = [torch.randn(2, c, 3, 5) for c in (6, 5)]
    alone = LinearDecoder([11], [16], 4).eval()
    alone.load_state_dict(decoder.state_dict())
    assert torch.equal(decoder(maps), alone([torch.cat(maps, dim=1)]))


def test_features_are_upsampled_before_the_convolution():
    decoder = LinearDecoder([6], [14], 4, batch_norm=False, upsample=4)
    assert decoder.reduction == 3.5 and isinstance(LinearDecoder([6], [16], 4, upsample=4).reduction, int)
    x = torch.randn(2, 6, 3, 5)
    torch.testing.assert_close(decoder([x]), decoder.classifier(F.interpolate(x, scale_factor=4, mode="bilinear")))


def test_layers_of_different_reductions_and_factors_below_1_are_refused():
    with pytest.raises(ValueError, match=r"layers of one reduction, got \[8, 16\]; choose other layers"):
        LinearDecoder([6, 6], [8, 16], 4)
    with pytest.raises(ValueError, match="upsample is 0; expected a whole factor of at least 1"):
        LinearDecoder([6], [16], 4, upsample=0)


def test_dropout_comes_first_and_is_for_training():
    decoder = LinearDecoder([64], [16], 4, dropout=0.5, batch_norm=False)
    x = torch.ones(1, 64, 2, 2)
    torch.manual_seed(0)
    dropped = torch.nn.Dropout2d(0.5)(x)
    torch.manual_seed(0)
    torch.testing.assert_close(decoder([x]), decoder.classifier(dropped))
    torch.testing.assert_close(decoder.eval()([x]), decoder.classifier(x))
    with pytest.raises(ValueError, match="dropout is 1; expected 0 to below 1"):
        LinearDecoder([6], [16], 4, dropout=1)
