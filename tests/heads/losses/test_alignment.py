import numpy as np
import torch

from heads.losses.alignment import scale_and_shift


def test_it_is_the_least_squares_solution():
    rng = np.random.default_rng(0)
    prediction, target = rng.random(50), rng.random(50) + 3
    for shift, columns in ((True, [prediction, np.ones(50)]), (False, [prediction])):
        expected = np.linalg.lstsq(np.stack(columns, axis=1), target, rcond=None)[0]
        found = scale_and_shift(torch.tensor(prediction), torch.tensor(target), shift=shift)
        np.testing.assert_allclose([v.item() for v in found], [*expected, 0][:2], rtol=1e-12)


def test_equal_predictions_are_shifted_to_the_mean():
    for count in (1, 3):
        prediction = torch.full((count,), 2.0, requires_grad=True)
        scale, shift = scale_and_shift(prediction, torch.arange(count) + 4.0)
        assert (scale.item(), shift.item()) == (0, 4 + (count - 1) / 2)
        (scale + shift).backward()
        assert prediction.grad.isfinite().all()


def test_all_zero_predictions_have_no_scale():
    assert [v.item() for v in scale_and_shift(torch.zeros(4), torch.ones(4), shift=False)] == [0, 0]
