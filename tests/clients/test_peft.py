"""peft's LoRA on the tower and on its maps: only the adapters learn."""

import pytest
import timm
import torch
from peft import LoraConfig, get_peft_model

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
