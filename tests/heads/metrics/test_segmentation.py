import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchmetrics.classification import MulticlassJaccardIndex
from torchvision.transforms.v2 import functional as V

from heads.geometry.record import Geometry
from heads.geometry.resample import labels_at, to_pixels
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


def mixed_sizes(classes=6):
    """Logits of 40 x 56 px images at reduction 8, made from originals of other sizes; the last class is never true."""
    torch.manual_seed(0)
    geometries = [V.resize(Geometry.of(size), [40, 56]) for size in ((40, 56), (63, 91), (20, 17))]
    logits = torch.randn(3, classes, 5, 7, dtype=torch.float64)
    logits[:, 1] = -9  # never predicted
    masks = [torch.randint(0, classes - 1, g.original_size) for g in geometries]
    for mask in masks:
        mask[torch.rand(mask.shape) < 0.2] = 255
    return logits, geometries, masks


def test_counts_from_logits_are_those_of_the_predicted_label_maps_of_numpy_and_of_torchmetrics():
    logits, geometries, masks = mixed_sizes()
    from_logits, from_labels = SegmentationMetrics(6), SegmentationMetrics(6)
    theirs = MulticlassJaccardIndex(6, average=None, ignore_index=255)
    matrix = np.zeros((6, 6), int)
    for cells, geometry, mask in zip(logits, geometries, masks, strict=True):
        from_logits.update_logits(cells, 8, geometry, mask)
        from_labels.update(labels_at(cells[None], 8, geometry), mask[None])
        pixels = to_pixels(cells[None], 8, (40, 56))
        scores = F.interpolate(pixels, size=geometry.original_size, mode="bilinear")
        theirs.update(scores, mask[None])
        for truth, predicted in zip(mask.flatten().tolist(), scores[0].argmax(0).flatten().tolist(), strict=True):
            if truth != 255:
                matrix[truth, predicted] += 1
    assert from_logits.compute().tolist() == matrix.tolist() == from_labels.compute().tolist()
    torch.testing.assert_close(from_logits.scores()["IoU"].nan_to_num().float(), theirs.compute())
    assert matrix[:, 1].sum() == matrix[5].sum() == 0 and matrix[1].sum() and matrix[:, 5].sum()


def test_a_class_in_neither_truth_nor_prediction_is_no_part_of_the_mean_as_in_torchmetrics():
    logits, geometries, masks = mixed_sizes()
    logits[:, 3] = -9
    masks = [mask.where(mask != 3, 0) for mask in masks]
    metrics, theirs = SegmentationMetrics(6), MulticlassJaccardIndex(6, ignore_index=255)
    for cells, geometry, mask in zip(logits, geometries, masks, strict=True):
        metrics.update_logits(cells, 8, geometry, mask)
        theirs.update(labels_at(cells[None], 8, geometry), mask[None])
    found = metrics.scores()
    assert found["IoU"][3].isnan() and found["IoU"][1] == found["IoU"][5] == 0
    torch.testing.assert_close(found["mIoU"].float(), theirs.compute())


def test_a_label_of_another_size_is_refused():
    logits, geometries, masks = mixed_sizes()
    with pytest.raises(ValueError, match=r"The label is \(40, 56\) \(height, width\), its original image \(63, 91\)"):
        SegmentationMetrics(6).update_logits(logits[1], 8, geometries[1], masks[0])
