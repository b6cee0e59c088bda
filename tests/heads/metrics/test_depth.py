import math

import numpy as np
import pytest
import torch

from heads.metrics import DepthMetrics
from heads.metrics.depth import DEPTH_SCORES, crop_slices


def images(count=5, size=(12, 17)):
    """Predictions from -1 to 12 m with numbers that are none, and labels with holes and values out of range."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        prediction, target, lot = rng.uniform(-1, 12, size), rng.uniform(0.5, 9.5, size), rng.random(size)
        prediction[lot > 0.97], prediction[lot < 0.03] = np.nan, np.inf
        target[lot < 0.3] = rng.choice([0, 1e-3, 10, 11, np.nan, np.inf, -2], (lot < 0.3).sum())
        found.append((torch.tensor(prediction), torch.tensor(target)))
    return found


def numpy_scores(prediction, target, alignment="none", low=1e-3, high=10.0):
    """Scores of one image, written from the definitions."""
    valid = (target > low) & (target < high)
    d, t = prediction[valid], target[valid]
    d = np.where(np.isnan(d), 0 if alignment.startswith("inverse") else low, d)
    if alignment == "none":
        d = np.clip(d, low, high)
    else:
        d = np.where(np.isinf(d), 0 if alignment.startswith("inverse") else high, d)
        design = d[:, None] if alignment == "scale" else np.stack([d, np.ones_like(d)], axis=1)
        aim = 1 / t if alignment.startswith("inverse") else t
        d = design @ np.linalg.lstsq(design, aim, rcond=None)[0]
        d = np.clip(1 / np.clip(d, 1 / high, None) if alignment.startswith("inverse") else d, low, high)
    e = np.log(d) - np.log(t)
    within = [np.mean(np.maximum(d / t, t / d) < 1.25**k) for k in (1, 2, 3)]
    relative = [np.mean(np.abs(d - t) / t), np.mean((d - t) ** 2 / t), math.sqrt(np.mean((d - t) ** 2))]
    log10 = np.mean(np.abs(np.log10(d) - np.log10(t)))
    return [*relative, math.sqrt(np.mean(e**2)), log10, 100 * np.std(e), *within]


def scores(metric, pairs):
    for pair in pairs:
        metric.update(*pair)
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.mark.parametrize("alignment", ["none", "scale", "scale_and_shift", "inverse_scale_and_shift"])
def test_scores_are_means_over_images_of_what_the_definitions_say(alignment):
    pairs = images()
    found = scores(DepthMetrics(alignment=alignment), pairs)
    expected = np.mean([numpy_scores(p.numpy(), t.numpy(), alignment) for p, t in pairs], axis=0)
    np.testing.assert_allclose([found[name] for name in DEPTH_SCORES], expected, rtol=1e-9)


def test_scores_by_hand():
    found = scores(DepthMetrics(), [(torch.tensor([[2.0, 4.0, 9.0]]), torch.tensor([[1.0, 5.0, 0.0]]))])
    logs = [math.log(2), math.log(0.8)]
    mean, square = sum(logs) / 2, (logs[0] ** 2 + logs[1] ** 2) / 2
    expected = {
        "AbsRel": (1 + 0.2) / 2,
        "SqRel": (1 + 0.2) / 2,
        "RMSE": 1.0,
        "RMSElog": math.sqrt(square),
        "log10": (math.log10(2) - math.log10(0.8)) / 2,
        "SILog": 100 * math.sqrt(square - mean**2),
        "delta1": 0.0,  # 5 / 4 is not below 1.25
        "delta2": 0.5,
        "delta3": 0.5,  # 2 is not below 1.953
    }
    assert found == pytest.approx(expected | {"images": 1, "excluded": 0})


def test_a_perfect_prediction_has_no_error():
    pairs = [(t.nan_to_num(), t) for _, t in images()]
    found = scores(DepthMetrics(), pairs)
    assert [found[name] for name in DEPTH_SCORES] == [0, 0, 0, 0, 0, 0, 1, 1, 1]


def test_images_count_the_same_however_many_pixels_they_have():
    one = (torch.full((1, 1), 2.0), torch.full((1, 1), 1.0))
    many = (torch.full((9, 9), 4.0), torch.full((9, 9), 1.0))
    assert scores(DepthMetrics(), [one, many])["RMSE"] == 2  # of all pixels together it would be 2.98


def test_the_range_is_open_and_the_prediction_is_held_within_it():
    target = torch.tensor([[0.1, 0.2, 5.0, 5.5]])
    found = scores(DepthMetrics((0.1, 5.0)), [(torch.tensor([[9.0, -7.0, 9.0, 9.0]]), target)])
    assert found["RMSE"] == pytest.approx(0.1, rel=1e-6)  # one pixel counts, whose prediction becomes 0.1


def test_images_without_a_valid_pixel_are_counted_apart():
    pairs = images(2)
    nothing = (torch.ones(3, 3), torch.zeros(3, 3))
    without = scores(DepthMetrics(), pairs)
    assert scores(DepthMetrics(), [nothing, *pairs, nothing]) == without | {"excluded": 2}
    alone = scores(DepthMetrics(), [nothing])
    assert alone["images"] == 0 and math.isnan(alone["RMSE"])


def test_the_order_of_the_images_changes_no_bit():
    pairs = images(40, (3, 4))
    assert scores(DepthMetrics(), pairs) == scores(DepthMetrics(), pairs[::-1])


@pytest.mark.parametrize("alignment", ["scale", "scale_and_shift", "inverse_scale_and_shift"])
def test_alignment_takes_away_what_it_names(alignment):
    target = torch.rand(6, 6, dtype=torch.float64) * 5 + 1
    relative = 1 / target if alignment.startswith("inverse") else target
    prediction = relative * 3 + (0 if alignment == "scale" else 7)
    assert scores(DepthMetrics(alignment=alignment), [(prediction, target)])["RMSE"] < 1e-9
    assert scores(DepthMetrics(), [(prediction, target)])["RMSE"] > 1


def test_crops_are_the_published_ones():
    assert crop_slices("nyu_eigen", (480, 640)) == (slice(45, 471), slice(41, 601))
    # the size of most KITTI images, and another one
    assert crop_slices("kitti_garg", (375, 1242)) == (slice(153, 371), slice(44, 1197))
    assert crop_slices("kitti_eigen", (375, 1242)) == (slice(124, 342), slice(44, 1197))
    assert crop_slices("kitti_garg", (370, 1226)) == (slice(151, 366), slice(44, 1181))  # 366.99


@pytest.mark.parametrize(("crop", "size"), [("nyu_eigen", (480, 640)), ("kitti_eigen", (370, 1226))])
def test_what_the_crop_leaves_out_does_not_count(crop, size):
    rows, columns = crop_slices(crop, size)
    target, prediction = torch.ones(size), torch.full(size, 5.0)
    prediction[rows, columns] = 1
    assert scores(DepthMetrics(crop=crop), [(prediction, target)])["RMSE"] == 0
    prediction[rows.start, columns.start] = 2
    assert scores(DepthMetrics(crop=crop), [(prediction, target)])["RMSE"] > 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"A label is \(4, 4\) .*; the crop nyu_eigen is for \(480, 640\)"):
        DepthMetrics(crop="nyu_eigen").update(torch.ones(4, 4), torch.ones(4, 4))
    with pytest.raises(ValueError, match=r"The prediction is \(4, 5\), its label \(4, 4\)"):
        DepthMetrics().update(torch.ones(4, 5), torch.ones(4, 4))
    with pytest.raises(ValueError, match="crop is 'garg'; expected one of none, nyu_eigen"):
        DepthMetrics(crop="garg")
    with pytest.raises(ValueError, match="alignment is 'shift'"):
        DepthMetrics(alignment="shift")
    for wrong in ((0, 10), (5, 5), (10, 1), (1, math.inf), (math.nan, 1)):
        with pytest.raises(ValueError, match="two distances above 0, the smaller one first"):
            DepthMetrics(wrong)
