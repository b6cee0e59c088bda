import pytest
import torch
import torch.nn.functional as F

from heads.geometry.resample import to_pixels
from heads.losses import SegmentationLoss


@pytest.fixture
def sample():
    torch.manual_seed(0)
    target = torch.randint(0, 3, (2, 15, 22))
    target[torch.rand(target.shape) < 0.3] = 255
    return torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True), target


def dice(logits, target):
    """By hand: 1 - 2 |p t| / (|p| + |t|) of each class over the batch, of the pixels that are not ignored."""
    valid = target != 255
    p, t = logits.softmax(1).movedim(1, -1)[valid], F.one_hot(target[valid], 3)
    return (1 - 2 * (p * t).sum(0) / (p.sum(0) + t.sum(0))).mean()


def focal(logits, target, gamma=2.0):
    valid = target != 255
    x, t = logits.movedim(1, -1)[valid], F.one_hot(target[valid], 3).double()
    p = torch.where(t == 1, x.sigmoid(), 1 - x.sigmoid())
    return -((1 - p) ** gamma * p.log()).mean()


def test_terms_are_weighted_and_leave_ignored_pixels_out(sample):
    logits, target = sample
    pixels = to_pixels(logits, 8, (15, 22))
    found = SegmentationLoss(3, {"cross_entropy": 1.0, "dice": 0.5, "focal": 2.0})(logits, target, 8)
    expected = F.cross_entropy(pixels, target, ignore_index=255)
    expected = expected + 0.5 * dice(pixels, target) + 2 * focal(pixels, target)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_is_cross_entropy_by_default_and_takes_its_options(sample):
    logits, target = sample
    pixels, weights = to_pixels(logits, 8, (15, 22)), [0.2, 1.0, 3.0]
    torch.testing.assert_close(
        SegmentationLoss(3)(logits, target, 8), F.cross_entropy(pixels, target, ignore_index=255)
    )
    expected = F.cross_entropy(pixels, target, torch.tensor(weights).double(), ignore_index=255, label_smoothing=0.1)
    found = SegmentationLoss(3, class_weights=weights, label_smoothing=0.1)(logits, target, 8)
    torch.testing.assert_close(found, expected)
    found = SegmentationLoss(3, {"focal": 1.0}, focal_gamma=0.5)(logits, target, 8)
    torch.testing.assert_close(found, focal(pixels, target, 0.5))


@pytest.mark.parametrize("terms", [{"dice": 1.0}, {"focal": 1.0}, {"cross_entropy": 1.0, "dice": 1.0}])
def test_ignored_pixels_alone_give_zero_with_a_gradient(sample, terms):
    logits, target = sample
    loss = SegmentationLoss(3, terms)(logits, torch.full_like(target, 255), 8)
    assert loss == 0 and (torch.autograd.grad(loss, logits)[0] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"terms": {"dise": 1.0}}, r"terms \['dise'\]; expected some of cross_entropy, dice, focal"),
        ({"terms": {}}, r"terms \[\]"),
        ({"terms": {"dice": 0.0}}, "expected numbers above 0"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"focal_gamma": -1.0}, "focal_gamma -1"),
        ({"focal_gamma": 3.0}, r"focal_gamma has no effect: the loss has the terms \['cross_entropy'\]"),
        ({"terms": {"dice": 1.0}, "class_weights": [1.0, 1.0, 2.0]}, "class_weights has no effect"),
        ({"terms": {"focal": 1.0}, "label_smoothing": 0.1}, "label_smoothing has no effect"),
        ({"class_weights": [1.0]}, r"class_weights are \[1.0\]; expected 3 numbers"),
    ],
)
def test_unknown_terms_and_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SegmentationLoss(3, **arguments)
