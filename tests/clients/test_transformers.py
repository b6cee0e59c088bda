import pytest
import torch
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    TimmBackbone,
    TimmBackboneConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

import siglip2_backbone  # noqa: F401  # registers the names

pyramids = pytest.mark.parametrize(
    "name", ["siglip2_tiny_patch8_128_pyramid", "siglip2_tiny_patch8_128_sfp"], ids=["pyramid", "sfp"]
)
IMAGE = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def backbone_config(name, out_indices=(0, 1, 2, 3)):
    return TimmBackboneConfig(backbone=name, out_indices=list(out_indices), features_only=True, num_channels=3)


def without_gradient(backbone):
    return [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]


@pyramids
def test_timm_backbone(name):
    model = TimmBackbone(backbone_config(name, [0, 2]))
    channels = 96 if name.endswith("_pyramid") else 256
    assert model.channels == [channels] * 2 and model.out_features == ["levels.0", "levels.2"]
    assert [m.shape for m in model(IMAGE).feature_maps] == [(2, channels, 16, 24), (2, channels, 4, 6)]


@pyramids
def test_hidden_states_are_all_levels(name):
    model = TimmBackbone(backbone_config(name)).eval()
    output = model(IMAGE, output_hidden_states=True)
    assert all(torch.equal(a, b) for a, b in zip(output.hidden_states, output.feature_maps, strict=True))


@pyramids
def test_upernet_trains_on_a_pyramid(name):
    torch.manual_seed(0)
    config = UperNetConfig(
        backbone_config=backbone_config(name),
        hidden_size=16,
        num_labels=5,
        use_auxiliary_head=True,
        auxiliary_in_channels=96 if name.endswith("_pyramid") else 256,
        auxiliary_channels=8,
    )
    model = UperNetForSemanticSegmentation(config).train()
    output = model(IMAGE, labels=torch.randint(5, (2, 64, 96)))
    output.loss.backward()
    assert output.logits.shape == (2, 5, 64, 96)
    assert without_gradient(model.backbone) == []


@pyramids
def test_mask2former_trains_on_a_pyramid(name):
    torch.manual_seed(0)
    config = Mask2FormerConfig(
        backbone_config=backbone_config(name),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=4,
        num_queries=6,
        num_labels=5,
        train_num_points=64,
    )
    model = Mask2FormerForUniversalSegmentation(config).train()
    masks = torch.zeros(2, 64, 96)
    masks[0, 10:40], masks[1, :, 30:] = 1, 1
    output = model(IMAGE, mask_labels=list(masks[:, None]), class_labels=[torch.tensor([1])] * 2)
    output.loss.backward()
    assert output.masks_queries_logits.shape == (2, 6, 16, 24)  # 4 px, where the tower alone would give 8
    assert output.class_queries_logits.shape == (2, 6, 6)
    assert without_gradient(model.model.pixel_level_module.encoder) == []
