import pytest
import torch
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from heads import Extractor
from heads.training.optim import FACTORS, WarmupSchedule, backbone_groups, head_groups


def test_norms_and_biases_of_a_head_do_not_decay():
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    decayed, kept = head_groups(module, 0.5, 0.1)
    assert decayed["weight_decay"] == 0.1 and [p.ndim for p in decayed["params"]] == [4]
    assert kept["weight_decay"] == 0 and [p.ndim for p in kept["params"]] == [1, 1, 1]
    assert decayed["lr"] == kept["lr"] == 0.5


def test_frozen_parameters_are_left_out():
    module = nn.Linear(2, 2).requires_grad_(False)
    assert all(not group["params"] for group in head_groups(module, 1.0, 0.1))


def by_name(model, groups, rate):
    names = {p: name for name, p in model.named_parameters()}
    return {names[p]: (rate(g), g["weight_decay"]) for g in groups for p in g["params"]}


@pytest.fixture
def tower(checkpoint):
    return Extractor(str(checkpoint), layers=[1, 3], tune="full").timm_model


def test_layer_decay_is_timms(tower):
    ours = by_name(tower, backbone_groups(tower, 0.01, 0.05, 0.5), lambda g: g["lr"])
    timms = param_groups_layer_decay(tower, 0.05, tower.no_weight_decay(), layer_decay=0.5)
    assert ours == by_name(tower, timms, lambda g: 0.01 * g["lr_scale"])
    assert ours.keys() == dict(tower.named_parameters()).keys()


def test_rates_fall_from_block_to_block_and_positions_norms_and_biases_do_not_decay(tower):
    found = by_name(tower, backbone_groups(tower, 1.0, 0.05, 0.5), lambda g: g["lr"])
    assert found["norm.weight"] == (1.0, 0.0)
    assert [found[f"blocks.{i}.attn.qkv.weight"] for i in (3, 2, 1, 0)] == [(r, 0.05) for r in (1, 0.5, 0.25, 0.125)]
    assert found["patch_embed.proj.weight"] == (0.0625, 0.05)
    assert found["pos_embed"] == (0.0625, 0.0)
    assert found["blocks.0.attn.qkv.bias"][1] == found["blocks.0.norm1.weight"][1] == 0


def test_a_model_that_does_not_tell_its_layers_is_refused():
    with pytest.raises(ValueError, match="does not define its layers"):
        backbone_groups(nn.Linear(2, 2), 1.0, 0.0, 0.5)


def rates(name, warmup, total, betas=False):
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = WarmupSchedule(optimizer, name, warmup, lambda: total)
    found = []
    for _ in range(total + 1):
        group = optimizer.param_groups[0]
        found.append(group["betas"][0] if betas else group["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_cosine_rises_linearly_then_falls_as_half_a_cosine_to_zero():
    found = rates("cosine", warmup=4, total=12)
    assert found[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert found[8] == pytest.approx(1.0) and found[12] == pytest.approx(0.0)


def test_poly_falls_in_a_straight_line():
    found = rates("poly", warmup=2, total=6)
    assert found == pytest.approx([2 / 3, 4 / 3, 2.0, 1.5, 1.0, 0.5, 0.0])


def test_steps_drop_to_a_tenth_where_vitdets_run_does():
    found = rates("steps", warmup=2, total=54)
    assert found[:3] == pytest.approx([2 / 3, 4 / 3, 2.0])
    assert [found[i] for i in (47, 48, 51, 52)] == pytest.approx([2.0, 0.2, 0.2, 0.02])
    assert [round(184_375 * part) for part in (8 / 9, 26 / 27)] == pytest.approx([163_889, 177_546], abs=1)


@pytest.mark.parametrize("warmup", [2, 5, 30])
def test_onecycle_is_torchs(warmup):
    total = 60
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = OneCycleLR(optimizer, 2.0, total, pct_start=warmup / total, final_div_factor=1000)
    expected = []
    for _ in range(total):
        expected.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"][0]))
        optimizer.step()
        if len(expected) < total:
            schedule.step()
    assert rates("onecycle", warmup, total)[:total] == pytest.approx([lr for lr, _ in expected])
    assert rates("onecycle", warmup, total, betas=True)[:total] == pytest.approx([beta for _, beta in expected])


@pytest.mark.parametrize("name", FACTORS)
def test_long_warmup_takes_half_of_a_short_run(name):
    found = rates(name, warmup=1000, total=8)
    assert max(found[1:]) == pytest.approx(2.0) and found[8] <= (0.021 if name == "steps" else 1e-3)


@pytest.mark.parametrize("name", FACTORS)
def test_a_schedule_goes_on_from_its_state(name):
    def new():
        optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=2.0)
        return optimizer, WarmupSchedule(optimizer, name, 3, lambda: 9)

    optimizer, schedule = new()
    for _ in range(4):
        optimizer.step()
        schedule.step()
    resumed, other = new()
    resumed.load_state_dict(optimizer.state_dict())
    other.load_state_dict(schedule.state_dict())
    for _ in range(3):
        for o, s in ((optimizer, schedule), (resumed, other)):
            o.step()
            s.step()
        assert resumed.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
        assert resumed.param_groups[0]["betas"] == optimizer.param_groups[0]["betas"]


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="schedule is 'step'; expected one of cosine, poly, steps, onecycle"):
        rates("step", 1, 2)


def test_length_of_the_run_is_not_asked_for_before_it_starts():
    def total():
        raise AssertionError("asked too early")

    WarmupSchedule(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), "cosine", 10, total)
