"""peft's LoRA on the tower and on its maps: only the adapters learn."""

import pytest
import timm
import torch
from peft import LoraConfig, get_peft_model
from timm.layers import set_reentrant_ckpt, use_reentrant_ckpt

from siglip2_backbone.huggingface import Siglip2Backbone, Siglip2BackboneConfig

NAME = "siglip2_tiny_patch8_128"
IMAGE = torch.randn(2, 3, 40, 72, generator=torch.Generator().manual_seed(1))


def model_of(kind):
    torch.manual_seed(0)
    return timm.create_model(NAME, features_only=kind == "maps")


def summed(output):
    return sum(o.square().sum() for o in (output if isinstance(output, list) else [output]))


@pytest.mark.parametrize("kind", ["tower", "maps"])
def test_only_adapters_learn(kind):
    model = get_peft_model(model_of(kind), LoraConfig(r=2, target_modules=["qkv"], init_lora_weights=False))
    output = model(IMAGE)
    if kind == "maps":
        assert [m.shape for m in output] == [(2, 96, 5, 9)] * 4
    summed(output).backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learning == {name for name, p in model.named_parameters() if "lora_" in name}
    assert len(learning) == 4 * 2
    assert all(p.grad.abs().sum() > 0 for _, p in model.named_parameters() if p.grad is not None)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["tower", "maps"])
def test_new_adapters_change_nothing_and_merge(kind):
    plain, adapted = model_of(kind).eval(), get_peft_model(model_of(kind), LoraConfig(r=2, target_modules=["qkv"]))
    assert torch.equal(summed(adapted.eval()(IMAGE)), summed(plain(IMAGE)))
    for name, p in adapted.named_parameters():
        if "lora_B" in name:
            p.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    expected = summed(adapted(IMAGE))
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(summed(merged(IMAGE)), expected, rtol=1e-4, atol=0)
    assert {n for n, _ in merged.named_parameters()} == {n for n, _ in plain.named_parameters()}


def test_what_timm_clients_read_passes_through():
    model = get_peft_model(model_of("tower"), LoraConfig(r=2, target_modules=["qkv"]))
    assert len(model.forward_intermediates(IMAGE, indices=[1, 3], intermediates_only=True)) == 2
    assert model.feature_info[0]["reduction"] == 8
    assert get_peft_model(model_of("maps"), LoraConfig(target_modules=["qkv"])).feature_info.channels() == [96] * 4


@pytest.fixture
def reentrant():
    before = use_reentrant_ckpt()
    set_reentrant_ckpt(True)
    yield
    set_reentrant_ckpt(before)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*deprecated:FutureWarning")  # the names that peft calls
@pytest.mark.usefixtures("reentrant")
def test_adapters_of_a_transformers_backbone_learn_with_reentrant_checkpointing():
    torch.manual_seed(0)
    backbone = Siglip2Backbone(Siglip2BackboneConfig(NAME)).train()
    assert backbone.get_input_embeddings() is backbone.tower.patch_embed
    model = get_peft_model(backbone, LoraConfig(r=2, target_modules=["qkv"], init_lora_weights=False))
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            # a reentrant checkpoint gives no gradient where no input has one, and the frozen embedding gives none
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable()
        model.zero_grad()
        summed(list(model(IMAGE).feature_maps)).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[1]) == 4 * 2
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-6)


def test_another_embedding_takes_the_place_of_the_first():
    backbone = Siglip2Backbone(Siglip2BackboneConfig(NAME))
    other = Siglip2Backbone(Siglip2BackboneConfig(NAME)).tower.patch_embed
    backbone.set_input_embeddings(other)
    assert backbone.get_input_embeddings() is backbone.tower.patch_embed is other
