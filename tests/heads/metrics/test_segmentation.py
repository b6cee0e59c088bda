import pytest
import torch

from heads.metrics import SegmentationMetrics


def scores(pairs, classes=3):
    metrics = SegmentationMetrics(classes)
    for predicted, truth in pairs:
        metrics.update(torch.tensor([predicted]), torch.tensor([truth]))
    return metrics.scores()


def test_hand_worked():
    # truth 0 0 1 1, predicted 0 1 1 1: IoU 1/2 and 2/3; class 2 never occurs and does not count
    found = scores([([0, 1, 1, 1], [0, 0, 1, 1])])
    assert found["mIoU"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["mAcc"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["pixel_acc"] == pytest.approx(3 / 4)
    assert found["IoU"][2].isnan() and found["acc"][2].isnan()


def test_a_class_that_is_only_predicted_counts_as_zero():
    assert scores([([0, 2], [0, 0])])["mIoU"] == pytest.approx((1 / 2 + 0) / 2)


def test_ignored_pixels_do_not_count():
    assert scores([([0, 1, 2], [0, 1, 255])])["mIoU"] == 1


def test_one_matrix_over_the_split_not_the_mean_of_images():
    images = [([0, 0, 0, 0], [0, 0, 0, 1]), ([1, 1, 1, 1], [1, 1, 1, 1])]
    whole = scores(images, 2)["mIoU"]
    mean = sum(scores([image], 2)["mIoU"] for image in images) / 2
    assert whole == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert abs(whole - mean) > 0.05
