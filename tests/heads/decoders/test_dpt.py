import pytest
import torch
import torch.nn.functional as F
from transformers import DPTConfig
from transformers.models.dpt.modeling_dpt import DPTNeck

from heads.decoders import DPTDecoder, build_decoder

WIDTHS = [3, 6, 12, 24]


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return DPTDecoder([24] * 4, [16] * 4, 5, features=10).double()


def maps(rows, columns, count=4):
    return [torch.randn(2, 24, rows, columns, dtype=torch.float64) for _ in range(count)]


def reference(decoder):
    """The neck of transformers with the same weights."""
    config = DPTConfig(
        hidden_size=24, num_attention_heads=2, neck_hidden_sizes=WIDTHS, reassemble_factors=[4, 2, 1, 0.5],
        fusion_hidden_size=10, use_bias_in_fusion_residual=False, readout_type="ignore", is_hybrid=False,
        backbone_out_indices=[0, 1, 2, 3],
    )  # fmt: skip
    neck = DPTNeck(config).double().eval()
    parts = neck.reassemble_stage.layers
    for own, theirs in zip(decoder.reassemble, parts, strict=True):
        theirs.projection.load_state_dict(own[0].state_dict())
        theirs.resize.load_state_dict(own[1].state_dict())
    neck.convs.load_state_dict(decoder.convs.state_dict())
    for own, theirs in zip(list(decoder.fusion)[::-1], neck.fusion_stage.layers, strict=True):
        theirs.projection.load_state_dict(own.project.state_dict())
        for unit, layer in ((own.of_level, theirs.residual_layer1), (own.of_sum, theirs.residual_layer2)):
            if unit is not None:
                layer.convolution1.load_state_dict(unit.first.state_dict())
                layer.convolution2.load_state_dict(unit.second.state_dict())
    return neck


def test_the_trunk_is_that_of_transformers(decoder):
    inputs = maps(6, 4)
    tokens = [F.pad(m.flatten(2).transpose(1, 2), (0, 0, 1, 0)) for m in inputs]  # theirs begin with a class token
    fused = reference(decoder)(tokens, 6, 4)[-1]
    expected = decoder.classifier(F.relu(decoder.project(fused)))
    torch.testing.assert_close(decoder(inputs), expected, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 5), (4, 7), (6, 4)])
def test_there_are_eight_rows_for_each_row_of_the_maps(decoder, rows, columns):
    assert decoder(maps(rows, columns)).shape == (2, 5, 8 * rows, 8 * columns)
    assert decoder.reduction == 2


def test_pixels_per_cell_of_the_output():
    assert DPTDecoder([24], [14], 1, features=4).reduction == 1.75
    assert DPTDecoder([24], [8], 1, features=4).reduction == 1


def test_a_single_layer_is_read_four_times(decoder):
    (one,) = maps(2, 3, count=1)
    single = DPTDecoder([24], [16], 5, features=10).double()
    single.load_state_dict(decoder.state_dict())
    assert torch.equal(single([one]), decoder([one] * 4))


def test_every_parameter_learns(decoder):
    decoder(maps(4, 6)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in decoder.parameters())


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"four layers of one reduction, or one; got 2 with the reductions \[16, 16\]"):
        DPTDecoder([24] * 2, [16] * 2, 5)
    with pytest.raises(ValueError, match=r"got 4 with the reductions \[4, 8, 16, 32\]"):
        DPTDecoder([24] * 4, [4, 8, 16, 32], 5)
    with pytest.raises(ValueError, match=r"widths are \[1, 2\] and features 8; expected four widths"):
        build_decoder("dpt", [24], [16], 5, features=8, widths=[1, 2])
