import math

import numpy as np
import pytest
import torch

from heads.losses import AngularLoss, UncertaintyLoss, valid_normals

LOSSES = {AngularLoss: 3, UncertaintyLoss: 4}
WRONG = [0.0, math.nan, math.inf]


@pytest.fixture(params=LOSSES)
def loss(request):
    return request.param()


def maps(loss, batch=2, size=(9, 11), dtype=torch.float64):
    """A head's output, and unit normals of which about a third has no direction in one of three ways."""
    generator = torch.Generator().manual_seed(batch)
    output = torch.randn(batch, LOSSES[type(loss)], *size, generator=generator, dtype=dtype)
    target = torch.nn.functional.normalize(torch.randn(batch, 3, *size, generator=generator, dtype=dtype), dim=1)
    lot = torch.rand(batch, 1, *size, generator=generator)
    kinds = torch.tensor(WRONG, dtype=dtype)[(lot * 1e6).long() % 3]
    return output, torch.where(lot < 0.35, kinds, target)


def numpy_loss(output, target):
    """Written from the definition, pixel by pixel."""
    losses = []
    for b, i, j in np.ndindex(output.shape[0], *output.shape[2:]):
        n, t = output[b, :3, i, j], target[b, :, i, j]
        if not np.isfinite(t).all() or not t.any():
            continue
        cosine = n @ t / np.linalg.norm(n) / np.linalg.norm(t)
        angle = math.acos(min(max(cosine, -1 + 1e-4), 1 - 1e-4))
        if output.shape[1] == 3:
            losses.append(angle)
        else:
            x = output[b, 3, i, j]
            kappa = (x if x > 0 else math.exp(x) - 1) + 1.01
            losses.append(math.log(1 + math.exp(-kappa * math.pi)) - math.log(kappa**2 + 1) + kappa * angle)
    return np.mean(losses)


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_losses_are_what_their_definitions_say(loss, batch):
    output, target = maps(loss, batch)
    assert loss(output, target).item() == pytest.approx(numpy_loss(output.numpy(), target.numpy()), rel=1e-12)


def test_angular_loss_by_hand():
    ahead = torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1)
    for predicted, angle in (([0, 0, -7], math.acos(1 - 1e-4)), ([2, 0, 0], math.pi / 2), ([0, 3, -3], math.pi / 4)):
        found = AngularLoss()(torch.tensor(predicted, dtype=torch.float32).view(1, 3, 1, 1), ahead)
        assert found.item() == pytest.approx(angle, rel=1e-4)


def test_uncertainty_loss_by_hand():
    ahead = torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1)
    output = torch.tensor([1.0, 0.0, 0.0, 0.99]).view(1, 4, 1, 1)  # kappa is 2, the angle pi / 2
    expected = math.log(1 + math.exp(-2 * math.pi)) - math.log(5) + math.pi
    assert UncertaintyLoss()(output, ahead).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_what_stands_at_invalid_pixels_changes_nothing(loss, batch):
    output, target = maps(loss, batch, dtype=torch.float32)
    valid = valid_normals(target).unsqueeze(1)
    found = []
    for elsewhere in (1.0, math.nan, 0.0):
        predicted = torch.where(valid, output, elsewhere).requires_grad_()
        value = loss(predicted, torch.where(valid, target, WRONG[len(found)]))
        value.backward()
        assert (predicted.grad[~valid.expand_as(predicted)] == 0).all()
        found.append((value, predicted.grad))
    assert found[0][1].abs().sum() > 0
    for value, gradient in found[1:]:
        assert torch.equal(value, found[0][0]) and torch.equal(gradient, found[0][1])


def test_without_a_valid_pixel_loss_and_gradient_are_zero(loss):
    for wrong in WRONG:
        output = torch.rand(2, LOSSES[type(loss)], 8, 8, requires_grad=True)
        value = loss(output, torch.full((2, 3, 8, 8), wrong))
        value.backward()
        assert value == 0 and (output.grad == 0).all()


def test_gradients_are_those_of_the_value(loss):
    output, target = maps(loss, 2, (3, 4))
    torch.autograd.gradcheck(lambda o: loss(o, target), output.requires_grad_())


def test_opposite_and_equal_directions_have_finite_gradients(loss):
    target = torch.tensor([0.0, 0.6, 0.8]).view(1, 3, 1, 1)
    for sign in (1, -1):
        output = torch.cat([sign * target, target[:, :1]], dim=1)[:, : LOSSES[type(loss)]].requires_grad_()
        loss(output, target).backward()
        assert output.grad.isfinite().all()
