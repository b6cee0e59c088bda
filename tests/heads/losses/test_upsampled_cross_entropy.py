import pytest
import torch
import torch.nn.functional as F

from heads.geometry import upsampling
from heads.geometry.resample import to_pixels
from heads.losses import upsampled_cross_entropy

SHAPES = {
    "cut": (7, (4, 5), 8, (29, 33)),
    "border repeated": (5, (3, 3), 14, (45, 40)),
    "one class, one cell": (1, (1, 1), 4, (4, 3)),
}


def sample(classes=4, cells=(3, 4), size=(23, 30), dtype=torch.float64):
    torch.manual_seed(0)
    logits = (3 * torch.randn(2, classes, *cells, dtype=dtype)).requires_grad_()
    target = torch.randint(0, classes, (2, *size))
    target[torch.rand(target.shape) < 0.3] = 255
    return logits, target


def reference(logits, target, reduction, weight=None, label_smoothing=0.0):
    pixels = to_pixels(logits, reduction, target.shape[1:])
    return F.cross_entropy(pixels, target, weight=weight, label_smoothing=label_smoothing, ignore_index=255)


def gradient(loss, logits):
    return torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("chunk", [1, 500, 2**20])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("classes", "cells", "reduction", "size"), SHAPES.values(), ids=SHAPES)
def test_value_and_gradient_are_those_of_the_full_size(
    monkeypatch, classes, cells, reduction, size, weighted, label_smoothing, chunk
):
    monkeypatch.setattr(upsampling, "_CHUNK", chunk)
    logits, target = sample(classes, cells, size)
    weights = torch.rand(classes, dtype=torch.float64) if weighted else None
    found = upsampled_cross_entropy(logits, target, reduction, class_weights=weights, label_smoothing=label_smoothing)
    expected = reference(logits, target, reduction, weights, label_smoothing)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(gradient(found, logits), gradient(expected, logits), atol=1e-10, rtol=0)


def test_gradcheck():
    logits, target = sample(2, (1, 2), (4, 7))
    assert torch.autograd.gradcheck(lambda x: upsampled_cross_entropy(x, target, 4, label_smoothing=0.1), logits)


def test_is_finite_where_a_probability_underflows():
    logits = torch.zeros(1, 2, 2, 2).index_fill(1, torch.tensor([0]), 500.0).requires_grad_()
    loss = upsampled_cross_entropy(logits, torch.ones(1, 8, 8, dtype=torch.int64), 4)
    assert loss == 500
    torch.testing.assert_close(gradient(loss, logits).sum(dim=(0, 2, 3)), torch.tensor([1.0, -1.0]))


def test_ignored_pixels_alone_give_zero():
    logits, target = sample()
    loss = upsampled_cross_entropy(logits, torch.full_like(target, 255), 8)
    assert loss == 0 and (gradient(loss, logits) == 0).all()


def test_computes_in_float32_under_autocast_and_for_bfloat16():
    logits, target = sample(dtype=torch.float32)
    low = logits.detach().bfloat16().requires_grad_()
    exact = low.detach().float().requires_grad_()
    expected = upsampled_cross_entropy(exact, target, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = upsampled_cross_entropy(exact, target, 8)
        of_low = upsampled_cross_entropy(low, target, 8)
    assert found == expected == of_low and of_low.dtype == torch.float32
    of_expected = gradient(expected, exact)
    assert torch.equal(gradient(found, exact), of_expected)
    assert torch.equal(gradient(of_low, low), of_expected.bfloat16())


def test_the_same_logits_can_be_used_twice_and_the_graph_kept():
    logits, target = sample()
    once = gradient(upsampled_cross_entropy(logits, target, 8), logits)
    twice = upsampled_cross_entropy(logits, target, 8) + 2 * upsampled_cross_entropy(logits, target, 8)
    for _ in range(2):
        torch.testing.assert_close(torch.autograd.grad(twice, logits, retain_graph=True)[0], 3 * once)


@torch.no_grad()
def test_needs_no_gradient():
    logits, target = sample()
    loss = upsampled_cross_entropy(logits, target.byte(), 8)
    torch.testing.assert_close(loss, reference(logits, target, 8))
    assert not loss.requires_grad


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo looks at it, and hides its own warning
def test_works_in_a_compiled_function():
    logits, target = sample()
    compiled = torch.compile(lambda x: upsampled_cross_entropy(x * 2, target, 8) + 1, backend="eager")
    expected = upsampled_cross_entropy(logits * 2, target, 8) + 1
    torch.testing.assert_close(gradient(compiled(logits), logits), gradient(expected, logits))


@pytest.mark.parametrize("wrong", [4, 254, -1, 300])
def test_a_target_that_is_no_class_is_refused(wrong):
    logits, target = sample()
    target[1, 2, 3] = wrong
    with pytest.raises(ValueError, match=rf"target holds \[{wrong}\]; expected classes 0 to 3, or 255"):
        upsampled_cross_entropy(logits, target, 8)


def test_what_does_not_fit_is_refused():
    logits, target = sample()
    with pytest.raises(ValueError, match=r"logits are \(2, 4, 3, 4\) and target \(1, 23, 30\)"):
        upsampled_cross_entropy(logits, target[:1], 8)
    with pytest.raises(ValueError, match=r"target torch.float32; expected floats and integers"):
        upsampled_cross_entropy(logits, target.float(), 8)
    with pytest.raises(ValueError, match=r"class_weights are \(3,\); expected \(4,\)"):
        upsampled_cross_entropy(logits, target, 8, class_weights=torch.ones(3))
    with pytest.raises(ValueError, match=r"label_smoothing is 2; expected 0 to 1"):
        upsampled_cross_entropy(logits, target, 8, label_smoothing=2)
