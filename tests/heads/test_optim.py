import pytest
import torch
from torch import nn

from heads.optim import parameter_groups, warmup_cosine


def test_norms_and_biases_do_not_decay():
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    decayed, kept = parameter_groups(module, 0.1)
    assert decayed["weight_decay"] == 0.1 and [p.ndim for p in decayed["params"]] == [4]
    assert kept["weight_decay"] == 0 and [p.ndim for p in kept["params"]] == [1, 1, 1]


def test_frozen_parameters_are_left_out():
    module = nn.Linear(2, 2).requires_grad_(False)
    assert all(not group["params"] for group in parameter_groups(module, 0.1))


def rates(warmup, total):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, warmup, lambda: total)
    found = []
    for _ in range(total + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_rises_linearly_then_falls_as_half_a_cosine_to_zero():
    found = rates(warmup=4, total=12)
    assert found[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert found[8] == pytest.approx(1.0) and found[12] == pytest.approx(0.0)


def test_long_warmup_takes_half_of_a_short_run():
    found = rates(warmup=1000, total=8)
    assert max(found) == found[4] == pytest.approx(2.0) and found[8] == pytest.approx(0.0)


def test_length_of_the_run_is_not_asked_for_before_it_starts():
    def total():
        raise AssertionError("asked too early")

    warmup_cosine(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), 10, total)
