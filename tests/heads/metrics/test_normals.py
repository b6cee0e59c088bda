import math

import numpy as np
import pytest
import torch

from heads.metrics import NormalsMetrics
from heads.metrics.normals import NORMALS_SCORES


def images(count=5):
    """Predictions of any length within some degrees of unit labels, of which some have no direction."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        target = rng.normal(size=(3, 11, 7 + i))
        target /= np.linalg.norm(target, axis=0)
        prediction = (target + rng.normal(size=target.shape) * 0.3) * rng.uniform(0.1, 9, target.shape[1:])
        target[:, rng.random(target.shape[1:]) < 0.2] = rng.choice([0, np.nan])
        found.append((torch.tensor(prediction), torch.tensor(target)))
    return found


def numpy_angles(prediction, target):
    valid = np.isfinite(target).all(axis=0) & (target != 0).any(axis=0)
    p, t = prediction[:, valid], target[:, valid]
    cosine = (p * t).sum(axis=0) / np.linalg.norm(p, axis=0) / np.linalg.norm(t, axis=0)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def numpy_scores(angles):
    within = [np.mean(angles < limit) for limit in (11.25, 22.5, 30)]
    return [np.mean(angles), np.median(angles), math.sqrt(np.mean(angles**2)), *within]


def scores(pairs):
    metric = NormalsMetrics()
    for pair in pairs:
        metric.update(*pair)
    return {name: value.item() for name, value in metric.compute().items()}


def test_scores_are_what_their_definitions_say_for_images_and_for_pixels():
    pairs = images()
    found, each = scores(pairs), [numpy_angles(p.numpy(), t.numpy()) for p, t in pairs]
    expected = np.mean([numpy_scores(angles) for angles in each], axis=0)
    np.testing.assert_allclose([found[name] for name in NORMALS_SCORES], expected, rtol=1e-9)
    pooled = [found[f"pooled_{name}"] for name in NORMALS_SCORES]
    np.testing.assert_allclose(pooled, numpy_scores(np.concatenate(each)), rtol=1e-9, atol=4e-4)  # for the median
    assert abs(expected - pooled).max() > 0.1  # the two ways are not the same number


def vectors(*degrees):
    """Vectors at these angles from (0, 0, 1), as a row of pixels."""
    radians = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([radians.sin(), torch.zeros_like(radians), radians.cos()])[:, None]


def test_scores_by_hand():
    ahead = vectors(0, 0, 0, 0)
    found = scores([(vectors(0, 20, 40, 180) * 3, ahead)])
    expected = {"mean": 60, "median": 30, "RMSE": math.sqrt((400 + 1600 + 32400) / 4)}
    expected |= {"within_11.25": 0.25, "within_22.5": 0.5, "within_30": 0.5}
    assert {name: found[name] for name in NORMALS_SCORES} == pytest.approx(expected)
    assert found["pooled_median"] == pytest.approx(30, abs=4e-4)


def test_a_perfect_prediction_has_no_error():
    for factor in (1, 5):
        found = scores([(t.nan_to_num() * factor, t) for _, t in images()])
        assert max(found[name] for name in ("mean", "median", "RMSE")) < 1e-12 and found["within_11.25"] == 1
        assert found["pooled_median"] < 4e-4


def test_images_count_the_same_however_many_pixels_they_have():
    small, large = (vectors(10), vectors(0)), (vectors(40, 40, 40), vectors(0, 0, 0))
    found = scores([small, large])
    assert found["mean"] == pytest.approx(25) and found["pooled_mean"] == pytest.approx(32.5)
    assert found["median"] == pytest.approx(25) and found["pooled_median"] == pytest.approx(40, abs=4e-4)


@pytest.mark.parametrize("nothing", [0.0, math.nan, math.inf])
def test_a_prediction_without_a_direction_is_not_taken_for_a_perfect_one(nothing):
    assert scores([(torch.full((3, 1, 1), nothing), vectors(0))])["mean"] == 90


def test_images_without_a_valid_pixel_are_counted_apart():
    pairs = images(2)
    nothing = (torch.ones(3, 2, 2), torch.zeros(3, 2, 2))
    assert scores([nothing, *pairs]) == scores(pairs) | {"excluded": 1}
    alone = scores([nothing])
    assert alone["images"] == 0 and math.isnan(alone["RMSE"]) and math.isnan(alone["pooled_median"])


def test_the_order_of_the_images_changes_no_bit():
    pairs = images(40)
    assert scores(pairs) == scores(pairs[::-1])


def test_another_size_is_refused():
    with pytest.raises(
        ValueError, match=r"The prediction is \(4, 2, 2\), its label \(4, 2, 2\); expected equal sizes, \(3, H"
    ):
        NormalsMetrics().update(torch.ones(4, 2, 2), torch.ones(4, 2, 2))
