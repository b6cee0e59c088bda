import math

import numpy as np
import pytest
import torch

from heads.losses import GradientLoss, ScaleShiftInvariantLoss, SigLoss, valid_depth

LOSSES = {
    "sig": lambda: SigLoss(warmup_steps=0),
    "sig in its warm-up": lambda: SigLoss(warmup_steps=1),
    "gradient": GradientLoss,
    "least squares": lambda: ScaleShiftInvariantLoss("least_squares"),
    "median": lambda: ScaleShiftInvariantLoss("median"),
}
WRONG = [0.0, -1.0, math.nan, math.inf, -math.inf]


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]()


def maps(batch=2, size=(16, 19), dtype=torch.float64):
    """Predicted and true depth, of which about a third has no reading in one of the five ways."""
    generator = torch.Generator().manual_seed(batch)
    depth, target, lot = (torch.rand(batch, 1, *size, generator=generator, dtype=dtype) for _ in range(3))
    target = target * 9 + 0.5
    kinds = torch.tensor(WRONG, dtype=dtype)[(lot * 1e6).long() % 5]
    return depth * 9 + 0.5, torch.where(lot < 0.35, kinds, target)


# Plain numpy, written from the definitions.


def numpy_sig(depth, target):
    valid = np.isfinite(target) & (target > 0)
    g = np.log(depth[valid] + 1e-3) - np.log(target[valid] + 1e-3)
    return math.sqrt(g.var(ddof=1) + 0.15 * g.mean() ** 2)


def numpy_gradient(depth, target):
    total = 0.0
    for stride in (1, 2, 4, 6):
        p, t = depth[:, 0, ::stride, ::stride], target[:, 0, ::stride, ::stride]
        good = np.isfinite(t) & (t > 0)
        part = 0.0
        for b, i, j in np.argwhere(good):
            for k, m in ((i + 2, j), (i, j + 2)):
                if k < p.shape[1] and m < p.shape[2] and good[b, k, m]:
                    here = math.log(p[b, i, j] + 1e-3) - math.log(t[b, i, j] + 1e-3)
                    part += abs(here - (math.log(p[b, k, m] + 1e-3) - math.log(t[b, k, m] + 1e-3)))
        total += part / good.sum()
    return total


def numpy_relative(depth, target, alignment):
    losses = []
    for p, t in zip(depth, target, strict=True):
        valid = np.isfinite(t) & (t > 0)
        p, t = p[valid], 1 / t[valid]
        if alignment == "least_squares":
            design = np.stack([p, np.ones_like(p)], axis=1)
            fitted = design @ np.linalg.lstsq(design, t, rcond=None)[0]
            losses.append(((fitted - t) ** 2).mean() / 2)
        else:
            middle = [np.sort(v)[(len(v) - 1) // 2] for v in (p, t)]  # of an even number the lower one, as torch
            p, t = ((v - m) / np.abs(v - m).mean() for v, m in zip((p, t), middle, strict=True))
            losses.append(np.abs(p - t).mean() / 2)
    return np.mean(losses)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_losses_are_what_their_definitions_say(batch):
    depth, target = maps(batch)
    arrays = depth.numpy(), target.numpy()
    assert SigLoss(warmup_steps=0)(depth, target).item() == pytest.approx(numpy_sig(*arrays), rel=1e-12)
    assert GradientLoss()(depth, target).item() == pytest.approx(numpy_gradient(*arrays), rel=1e-12)
    for alignment in ("least_squares", "median"):
        found = ScaleShiftInvariantLoss(alignment)(depth, target).item()
        assert found == pytest.approx(numpy_relative(*arrays, alignment), rel=1e-10)


def test_sig_loss_by_hand():
    target = torch.tensor([0.999, 0.999, 0.0]).view(1, 1, 1, 3)  # log(0.999 + 0.001) is 0
    depth = torch.tensor([math.e, math.exp(3), 7.0]).view(1, 1, 1, 3) - 1e-3  # g is 1 and 3, the last one is not valid
    assert SigLoss(warmup_steps=0)(depth, target).item() == pytest.approx(math.sqrt(2 + 0.15 * 4), rel=1e-5)
    assert SigLoss(warmup_steps=1)(depth, target).item() == pytest.approx(math.sqrt(0.15) * 2, rel=1e-5)
    assert SigLoss(0.5, warmup_steps=0)(depth, target) == 0  # all readings are farther away


def test_gradient_loss_by_hand():
    target = torch.full((1, 1, 3, 3), 0.999)
    depth = target.clone()
    depth[0, 0, 0, 0] = math.e**2 - 1e-3  # e is 2 there and 0 elsewhere
    # stride 1: |2 - 0| down and across, by 9 pixels; larger strides leave no pair
    assert GradientLoss()(depth, target).item() == pytest.approx(4 / 9, rel=1e-5)
    target[0, 0, 2, 0] = 0
    assert GradientLoss()(depth, target).item() == pytest.approx(2 / 8, rel=1e-5)


def test_gradient_loss_compares_pixels_of_one_image_not_images():
    flat = torch.tensor([1.0, 2.0, 5.0, 9.0]).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    assert GradientLoss()(flat, torch.ones(4, 1, 8, 8)) == 0  # DINOv2's slicing gives more than 0 here
    steep = torch.arange(1.0, 65).view(1, 1, 8, 8)
    assert GradientLoss()(steep, torch.ones(1, 1, 8, 8)) > 1  # and 0 here


@pytest.mark.parametrize("alignment", ["least_squares", "median"])
def test_relative_loss_ignores_scale_and_shift(alignment):
    depth, target = maps()
    loss = ScaleShiftInvariantLoss(alignment)
    torch.testing.assert_close(loss(depth * 7 + 3, target), loss(depth, target))
    exact = torch.where(valid_depth(target), 4 / target + 1, 0)
    assert loss(exact, target) < 1e-12


def test_an_image_without_a_reading_leaves_the_mean_over_the_others():
    depth, target = maps()
    target[1] = 0
    loss = ScaleShiftInvariantLoss()
    torch.testing.assert_close(loss(depth, target), loss(depth[:1], target[:1]))


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_what_stands_at_invalid_pixels_changes_nothing(loss, batch):
    depth, target = maps(batch, dtype=torch.float32)
    valid = valid_depth(target)
    found = []
    for elsewhere in (1.0, 1e9, math.nan, -5.0):
        predicted = torch.where(valid, depth, elsewhere).requires_grad_()
        value = loss(predicted, torch.where(valid, target, WRONG[len(found)]))
        value.backward()
        assert (predicted.grad[~valid] == 0).all()
        found.append((value, predicted.grad))
    assert found[0][0] > 0 and found[0][1].abs().sum() > 0
    for value, gradient in found[1:]:
        assert torch.equal(value, found[0][0]) and torch.equal(gradient, found[0][1])


def test_without_a_valid_pixel_loss_and_gradient_are_zero(loss):
    for wrong in WRONG:
        depth = torch.rand(2, 1, 8, 8, requires_grad=True)
        value = loss(depth, torch.full_like(depth, wrong))
        value.backward()
        assert value == 0 and (depth.grad == 0).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2)])
def test_tiny_maps_and_single_pixels_give_finite_gradients(loss, size):
    for target in (torch.ones(1, 1, *size), torch.ones(1, 1, *size).index_fill(3, torch.tensor([0]), 2)):
        depth = torch.full((1, 1, *size), 3.0, requires_grad=True)
        loss(depth, target).backward()
        assert depth.grad is None or depth.grad.isfinite().all()


def test_a_perfect_prediction_has_no_error_and_no_gradient(loss):
    _, target = maps()
    valid = valid_depth(target)
    perfect = 1 / target if isinstance(loss, ScaleShiftInvariantLoss) else target
    depth = torch.where(valid, perfect, 1).requires_grad_()
    value = loss(depth, target)
    value.backward()
    assert value < 1e-12 and depth.grad.abs().max() < 1e-9


def test_gradients_are_those_of_the_value(loss):
    depth, target = maps(2, (4, 5))
    torch.autograd.gradcheck(lambda d: loss(d, target), depth.requires_grad_())


def test_the_warm_up_is_counted_by_steps_and_kept_in_the_state():
    depth, target = maps()
    loss, after = SigLoss(warmup_steps=2), SigLoss(warmup_steps=0)(depth, target)
    values = []
    for _ in range(3):
        values.append(loss(depth, target))
        assert loss(depth, target) == values[-1]  # another head in the same step
        loss.step()
    assert values[0] == values[1] < values[2] == after
    resumed = SigLoss(warmup_steps=2)
    resumed.load_state_dict(loss.state_dict())
    assert resumed(depth, target) == after


def test_an_unknown_alignment_is_refused():
    with pytest.raises(ValueError, match="alignment is 'mean'; expected least_squares or median"):
        ScaleShiftInvariantLoss("mean")
