import pytest
import torch

import siglip2_backbone  # noqa: F401  # registers the names

smp = pytest.importorskip("segmentation_models_pytorch")

TINY = "tu-siglip2_tiny_patch8_128"
# what makes each decoder small; the defaults are 256 channels and more
NARROW = {
    "Unet": {"decoder_channels": (16, 16, 8, 8, 8)},
    "UnetPlusPlus": {"decoder_channels": (16, 16, 8, 8, 8)},
    "FPN": {"decoder_pyramid_channels": 16, "decoder_segmentation_channels": 32},
    "UPerNet": {"decoder_channels": 16},
    "Segformer": {"decoder_segmentation_channels": 16},
    "PSPNet": {"psp_out_channels": 16},
    "Linknet": {},
    "MAnet": {"decoder_channels": (16, 16, 8, 8, 8), "decoder_pab_channels": 8},
    "PAN": {"decoder_channels": 8, "encoder_output_stride": 32},
}


def image_of(*size):
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))


def step(model, size):
    """One forward and one backward step; the logits, and the parameters that got no gradient."""
    torch.manual_seed(0)
    logits = model.train()(image_of(*size))
    torch.nn.functional.cross_entropy(logits, torch.randint(5, (2, *size))).backward()
    return logits, {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}


@pytest.mark.parametrize("suffix", ["_pyramid", "_sfp"])
@pytest.mark.parametrize("decoder", NARROW)
def test_a_decoder_trains_on_a_pyramid(decoder, suffix):
    size = (256, 256) if decoder == "PAN" else (64, 96)  # PAN pools its last map three times
    neck = {"out_channels": 16} if suffix == "_sfp" else {}
    model = getattr(smp, decoder)(TINY + suffix, encoder_weights=None, classes=5, **NARROW[decoder], **neck)
    assert model.encoder._is_transformer_style
    logits, without = step(model, size)
    assert logits.shape == (2, 5, *size)
    unread = "encoder.model.levels.0." if decoder == "PSPNet" else ()  # it asks for two levels and reads the last
    assert not {name for name in without if name.startswith("encoder.") and not name.startswith(unread)}
    assert any(name.startswith("decoder.") for name in dict(model.named_parameters()).keys() - without)


def test_fewer_levels_are_taken_as_asked():
    model = smp.PSPNet(TINY + "_pyramid", encoder_weights=None, encoder_depth=3)
    assert model.encoder.model.out_indices == [0, 1] and len(model.encoder.model.model.blocks) == 2


@pytest.mark.parametrize("decoder", ["PAN", "DeepLabV3", "DeepLabV3Plus"])
def test_a_decoder_that_wants_a_dilated_encoder_gets_a_clear_error(decoder):
    with pytest.raises(
        ValueError, match=r"output_stride is (8|16); .* always at 4, 8, 16, 32 px.*encoder_output_stride=32"
    ):
        getattr(smp, decoder)(TINY + "_pyramid", encoder_weights=None)


def test_one_channel_and_arguments_of_the_tower_are_passed_on():
    model = smp.FPN(TINY + "_pyramid", encoder_weights=None, in_channels=1, drop_path_rate=0.1, layers=[3, 2, 1, 0])
    assert model(torch.rand(1, 1, 64, 64)).shape == (1, 1, 64, 64)
    assert model.encoder.model.layers == [3, 2, 1, 0]


def test_dpt_trains_on_the_tower():
    model = smp.DPT(
        TINY,
        encoder_weights=None,
        decoder_readout="ignore",
        classes=5,
        decoder_intermediate_channels=(16, 16, 32, 32),
        decoder_fusion_channels=16,
        dynamic_img_size=True,
    )
    logits, without = step(model, (64, 96))
    assert logits.shape == (2, 5, 64, 96)
    encoder = {name for name in without if name.startswith("encoder.")}
    assert all(name.startswith(("encoder.model.attn_pool.", "encoder.model.norm.")) for name in encoder)  # raw blocks


@pytest.mark.parametrize("suffix", ["", "_pyramid", "_sfp"])
def test_preprocessing_is_that_of_the_weights(suffix):
    params = smp.encoders.get_preprocessing_params(f"tu-siglip2_base_patch16_256{suffix}")
    assert params["mean"] == params["std"] == [0.5, 0.5, 0.5] and params["input_range"] == [0, 1]
