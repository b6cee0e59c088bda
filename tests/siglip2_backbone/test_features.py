from itertools import pairwise

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay

from siglip2_backbone import FeatureMaps
from siglip2_backbone.indices import absolute_indices

NAME = "siglip2_tiny_patch8_128"


def tower_of(**args):
    torch.manual_seed(0)
    return timm.create_model(NAME, **args).eval()


def maps_of(*args, **kwargs):
    return FeatureMaps(tower_of(), *args, **kwargs).eval()


def image_of(*size):
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("out_indices", [[3, 0, 2], [1], [-1, 1], 2], ids=str)
def test_maps_come_in_the_order_asked_for(out_indices, norm):
    image = image_of(40, 72)
    everything = tower_of().forward_intermediates(image, norm=norm, intermediates_only=True)
    maps = maps_of(out_indices, norm=norm)(image)
    indices = absolute_indices(4, out_indices)
    assert len(maps) == len(indices)
    assert all(torch.equal(found, everything[i]) for found, i in zip(maps, indices, strict=True))


@torch.no_grad()
def test_the_final_norm_is_applied_unless_told_otherwise():
    image = image_of(128, 128)
    last = tower_of().forward_features(image).transpose(1, 2).reshape(1, 96, 16, 16)
    assert torch.equal(maps_of()(image)[-1], last)
    assert not torch.equal(maps_of(norm=False)(image)[-1], last)


def test_only_what_is_used_is_kept():
    names = {name for name, _ in maps_of([1, 0], norm=False).named_parameters()}
    assert names == {f"model.{name}" for name, _ in tower_of().named_parameters() if _stem_or_block(name, 2)}
    assert {name.split(".")[1] for name, _ in maps_of([1]).named_parameters()} == {
        "pos_embed",
        "patch_embed",
        "blocks",
        "norm",
    }


def _stem_or_block(name, blocks):
    return name.startswith(("pos_embed", "patch_embed", *(f"blocks.{i}." for i in range(blocks))))


@torch.no_grad()
def test_pooled_output_beside_the_maps():
    image, tower = image_of(50, 72), tower_of()
    features = maps_of([2, 0], pooled=True)
    maps, pooled = features.forward_pooled(image)
    assert torch.equal(pooled, tower(image))
    assert all(torch.equal(a, b) for a, b in zip(maps, features(image), strict=True))
    assert features.state_dict().keys() == {f"model.{name}" for name in tower.state_dict()}


def test_pooled_output_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="pooled=True"):
        maps_of().forward_pooled(image_of(64, 64))
    with pytest.raises(ValueError, match=r"MAP head.*global_pool"):
        FeatureMaps(tower_of(global_pool="avg"), pooled=True)


def test_feature_info_follows_the_order():
    features = maps_of([3, 1])
    assert features.feature_info.channels() == [96, 96]
    assert features.feature_info.reduction() == [8, 8]
    assert features.feature_info.module_name() == ["blocks.3", "blocks.1"]
    assert features.out_indices == [3, 1]
    assert features.num_features == 96


@pytest.mark.parametrize("pooled", [False, True])
def test_gradient_checkpointing_changes_no_gradient(pooled):
    gradients = []
    for enable in (False, True):
        features = maps_of(pooled=pooled).train()
        features.set_grad_checkpointing(enable)
        assert features.model.grad_checkpointing is enable
        sum(m.square().sum() for m in features(image_of(64, 40))).backward()
        gradients.append({name: p.grad for name, p in features.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 4 * 12
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-6)


def scales(model):
    """Learning rate scale and weight decay of each parameter under timm's layer-wise decay."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = param_groups_layer_decay(
        model, weight_decay=0.1, no_weight_decay_list=model.no_weight_decay(), layer_decay=0.5
    )
    return {names[id(p)]: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}


@pytest.mark.parametrize("pooled", [False, True])
def test_layer_decay_is_that_of_the_tower(pooled):
    tower = tower_of(global_pool="map" if pooled else "")
    wrapped = scales(maps_of(pooled=pooled))
    assert wrapped == {f"model.{name}": value for name, value in scales(tower).items()}


def test_layer_decay_halves_from_block_to_block():
    found = scales(maps_of())
    by_block = [found[f"model.blocks.{i}.mlp.fc1.weight"][0] for i in range(4)]
    assert [later / earlier for earlier, later in pairwise(by_block)] == [2, 2, 2]
    assert found["model.patch_embed.proj.weight"][0] == by_block[0] / 2
    assert found["model.norm.weight"][0] == by_block[-1] == 1
    assert found["model.pos_embed"] == (by_block[0] / 2, 0)  # not decayed
    assert found["model.blocks.0.mlp.fc1.weight"][1] == 0.1


def test_no_weight_decay_carries_the_prefix():
    features = maps_of()
    assert features.no_weight_decay() == {f"model.{name}" for name in features.model.no_weight_decay()}
    assert "model.pos_embed" in features.no_weight_decay()


def test_the_announced_size_is_passed_on():
    features = maps_of()
    features.set_input_size((64, 96))
    assert features.model.patch_embed.grid_size == (8, 12)
