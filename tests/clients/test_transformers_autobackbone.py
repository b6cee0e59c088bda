"""transformers' own models on our AutoBackbone: one forward and one backward pass each."""

import pytest
import torch
from transformers import (
    AutoBackbone,
    AutoConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DPTConfig,
    DPTForDepthEstimation,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)
from transformers.utils.logging import disable_progress_bar

from siglip2_backbone.huggingface import Siglip2Backbone, Siglip2BackboneConfig

disable_progress_bar()

NAME = "siglip2_tiny_patch8_128"
NECK = {"neck_hidden_sizes": [4, 8, 8, 8], "fusion_hidden_size": 8}
# the first fusion layer of DPT and Depth Anything has a branch for an input that it never gets
NEVER_USED = "neck.fusion_stage.layers.0.residual_layer1"


def config_of(**options):
    return Siglip2BackboneConfig(NAME, **options)


def images(height=64, width=48):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def assert_all_learn(model):
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert [name for name in without if not name.startswith(NEVER_USED)] == []


def test_auto_classes_know_the_model_type():
    config = AutoConfig.for_model("siglip2_backbone", architecture=NAME)
    assert type(AutoBackbone.from_config(config)) is Siglip2Backbone


@pytest.mark.parametrize("readout", ["project", "add", "ignore"])
def test_dpt_learns_depth_from_tokens(readout):
    config = DPTConfig(backbone_config=config_of(reshape_hidden_states=False), readout_type=readout, **NECK)
    model = DPTForDepthEstimation(config).train()
    depth = model(images()).predicted_depth
    assert depth.shape == (2, 128, 96)  # transformers' head doubles the patch of 8 px to 16
    depth.square().mean().backward()
    assert_all_learn(model)
    read = any(p.grad.any() for p in model.backbone.tower.attn_pool.parameters())
    assert read is (readout != "ignore")  # then nobody reads the token, and its gradient is zero


def test_dpt_takes_pretrained_weights_by_its_backbone(tmp_path):
    backbone = Siglip2Backbone(config_of(reshape_hidden_states=False))
    model = DPTForDepthEstimation(DPTConfig(backbone_config=backbone.config, **NECK))
    model.backbone = backbone
    model.save_pretrained(tmp_path)
    loaded = DPTForDepthEstimation.from_pretrained(tmp_path)
    assert type(loaded.backbone) is Siglip2Backbone
    assert loaded.backbone.config.prefix_token == "pooled"
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(loaded.backbone.state_dict()[name], tensor), name


def test_dpt_turns_gradient_checkpointing_on_in_the_backbone():
    model = DPTForDepthEstimation(DPTConfig(backbone_config=config_of(reshape_hidden_states=False), **NECK)).train()
    model.activation_checkpointing_enable()
    assert model.backbone.tower.grad_checkpointing
    model(images()).predicted_depth.sum().backward()
    assert_all_learn(model)
    model.activation_checkpointing_disable()
    assert not model.backbone.tower.grad_checkpointing


@pytest.mark.parametrize("prefix", ["pooled", "zeros"])
def test_depth_anything_learns_from_tokens(prefix):
    backbone = config_of(reshape_hidden_states=False, prefix_token=prefix)
    sizes = {"reassemble_hidden_size": 96, "head_hidden_size": 4}
    config = DepthAnythingConfig(backbone_config=backbone, patch_size=8, **sizes, **NECK)
    model = DepthAnythingForDepthEstimation(config).train()
    depth = model(images()).predicted_depth
    assert depth.shape == (2, 64, 48)
    depth.square().mean().backward()
    assert_all_learn(model)


def test_depth_anything_drops_no_patch():
    backbone = config_of(reshape_hidden_states=False, prefix_token="none")
    sizes = {"reassemble_hidden_size": 96, "head_hidden_size": 4}
    model = DepthAnythingForDepthEstimation(
        DepthAnythingConfig(backbone_config=backbone, patch_size=8, **sizes, **NECK)
    )
    with pytest.raises(RuntimeError, match="invalid for input of size"):  # it takes token 0 away, whatever it is
        model(images())


def test_upernet_learns_from_maps():
    sizes = {"hidden_size": 8, "auxiliary_in_channels": 96, "auxiliary_channels": 4, "pool_scales": [1, 2]}
    model = UperNetForSemanticSegmentation(UperNetConfig(backbone_config=config_of(), num_labels=3, **sizes)).train()
    output = model(images(), labels=torch.randint(0, 3, (2, 64, 48)))
    assert output.logits.shape == (2, 3, 64, 48)
    output.loss.backward()
    assert_all_learn(model)


def test_mask2former_learns_from_maps():
    sizes = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "num_attention_heads": 2}
    sizes |= {"encoder_feedforward_dim": 8, "dim_feedforward": 8, "encoder_layers": 1, "decoder_layers": 2}
    config = Mask2FormerConfig(backbone_config=config_of(), num_labels=3, num_queries=4, train_num_points=64, **sizes)
    model = Mask2FormerForUniversalSegmentation(config).train()
    masks, classes = torch.zeros(2, 64, 48), torch.tensor([0, 2])
    masks[0, :32], masks[1, 32:] = 1, 1
    output = model(images(), mask_labels=[masks, masks], class_labels=[classes, classes])
    assert output.masks_queries_logits.shape == (2, 4, 8, 6)  # the grid of the patches; the pyramid gives a finer one
    output.loss.backward()
    assert_all_learn(model)
