"""What timm's own tests ask of every vision transformer, restated for the tiny tower.

Source: huggingface/pytorch-image-models, version 1.0.31, ``tests/test_models.py``. Graphs and scripts: test_tracing.py.
"""

import timm
import torch
from timm.models import FeatureInfo

import siglip2_backbone  # noqa: F401  # registers the names

NAME = "siglip2_tiny_patch8_128"
IMAGE = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))


def tower_of(**args):
    torch.manual_seed(0)
    return timm.create_model(NAME, **args)


def test_every_parameter_learns_with_a_classifier():
    model = tower_of(num_classes=42).train()
    logits = model(IMAGE)
    logits.mean().backward()
    assert logits.shape == (2, 42)
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@torch.no_grad()
def test_the_config_tells_what_the_model_is():
    model = tower_of(num_classes=42).eval()
    state, cfg = model.state_dict(), model.default_cfg
    assert f"{cfg['classifier']}.weight" in state and f"{cfg['first_conv']}.weight" in state
    tokens = model.forward_features(IMAGE)
    pooled = model.forward_head(tokens, pre_logits=True)
    assert tokens.shape == (2, 144, model.num_features) and pooled.shape == (2, model.head_hidden_size)
    model.reset_classifier(0)
    assert model.num_classes == 0 and torch.equal(model(IMAGE), pooled)


@torch.no_grad()
def test_intermediates_are_the_maps_that_the_info_announces():
    model = tower_of().eval()
    info = FeatureInfo(model.feature_info, len(model.feature_info))
    tokens, maps = model.forward_intermediates(IMAGE)
    assert [m.shape[1] for m in maps] == info.channels()
    assert [96 // m.shape[2] for m in maps] == info.reduction() == [8] * 4
    assert torch.equal(tokens, model.forward_features(IMAGE))
    model.set_grad_checkpointing()
    assert torch.equal(model.forward_intermediates(IMAGE)[0], tokens)


@torch.no_grad()
def test_maps_are_asked_for_by_the_getter():
    model = tower_of(features_only=True, feature_cls="getter").eval()
    maps = model(IMAGE)
    info = model.feature_info
    assert [(m.shape[1], 96 // m.shape[2]) for m in maps] == list(zip(info.channels(), info.reduction(), strict=True))
