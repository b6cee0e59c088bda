"""timm's optimiser factory on the tower and on its maps: rates by layer, positions not decayed."""

from itertools import pairwise

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2, param_groups_layer_decay

NAME = "siglip2_tiny_patch8_128"
kinds = pytest.mark.parametrize("kind", ["tower", "maps"])


def model_of(kind):
    torch.manual_seed(0)
    return timm.create_model(NAME, features_only=kind == "maps")


def by_name(model, groups):
    names = {id(p): name.removeprefix("model.") for name, p in model.named_parameters()}
    found = {names[id(p)]: group for group in groups for p in group["params"]}
    assert len(found) == len(names)  # each parameter in exactly one group
    assert sum(len(group["params"]) for group in groups) == len(names)
    return found


def assert_by_layer(found):
    """Half the rate from block to block, the stem below the first; matrices decay and the rest does not."""
    scales = [found[f"blocks.{i}.attn.qkv.weight"]["lr_scale"] for i in range(4)]
    assert [b / a for a, b in pairwise(scales)] == [2, 2, 2]
    assert found["pos_embed"]["lr_scale"] == found["patch_embed.proj.weight"]["lr_scale"] == scales[0] / 2
    assert found["norm.weight"]["lr_scale"] >= scales[-1]
    assert found["pos_embed"]["weight_decay"] == found["blocks.0.norm1.weight"]["weight_decay"] == 0
    assert found["blocks.0.attn.qkv.weight"]["weight_decay"] == found["patch_embed.proj.weight"]["weight_decay"] == 0.1


@kinds
def test_param_groups_layer_decay(kind):
    model = model_of(kind)
    fixed = model.no_weight_decay()
    groups = param_groups_layer_decay(model, weight_decay=0.1, no_weight_decay_list=fixed, layer_decay=0.5)
    assert_by_layer(by_name(model, groups))


@kinds
def test_create_optimizer_steps_at_the_rate_of_the_layer(kind):
    model = model_of(kind)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.1, layer_decay=0.5)
    found = by_name(model, optimizer.param_groups)
    assert_by_layer(found)
    output = model(torch.randn(2, 3, 40, 40))
    sum(o.square().sum() for o in (output if kind == "maps" else [output])).backward()
    assert all(p.grad is not None for p in model.parameters())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())


@kinds
def test_create_optimizer_without_layer_decay_leaves_positions_alone(kind):
    model = model_of(kind)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.1)
    found = by_name(model, optimizer.param_groups)
    assert found["pos_embed"]["weight_decay"] == found["norm.bias"]["weight_decay"] == 0
    assert found["blocks.3.mlp.fc1.weight"]["weight_decay"] == 0.1
