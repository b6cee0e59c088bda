from copy import deepcopy

import pytest
import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.roi_heads import project_masks_on_boxes
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from heads.detectors import DETECTORS, Limits, build_detector
from heads.detectors.torchvision_detectors import between_pixels
from heads.geometry.boxes import pasted

NAMES = ["faster_rcnn", "mask_rcnn", "retinanet", "fcos"]
RCNNS = NAMES[:2]
CHANNELS, REDUCTIONS = [6, 7, 8, 9], [4, 8, 16, 32]
CLASSES = 3
ALL = Limits(score_threshold=0.0, max_detections=5)  # untrained scores are low


def build(name, channels=CHANNELS, reductions=REDUCTIONS, limits=ALL, **args):
    torch.manual_seed(0)
    features = 32 if name == "fcos" else 8  # which has group norms
    return build_detector(name, channels, reductions, CLASSES, limits, features=features, **args)


def maps(padded, channels=CHANNELS, reductions=REDUCTIONS, dtype=None):
    torch.manual_seed(1)
    cells = [(-(-padded[0] // r), -(-padded[1] // r)) for r in reductions]
    return [torch.randn(2, c, *size, dtype=dtype) for c, size in zip(channels, cells, strict=True)]


def target(size, boxes, labels, dtype=torch.float32):
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[int(top) : int(bottom), int(left) : int(right)] = True
    boxes = torch.tensor(boxes, dtype=dtype).reshape(-1, 4)
    return {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64), "masks": masks}


def targets(sizes, dtype=torch.float32):
    first = target(sizes[0], [[2, 3, 40, 30], [10, 20, 60, 58]], [0, 2], dtype)
    return [first, target(sizes[1], [[5, 5, 35, 50]], [1], dtype)]


class Given(nn.Module):
    """A backbone that has seen the images already."""

    def __init__(self, levels):
        super().__init__()
        self.levels = levels

    def forward(self, images):
        return self.levels


def read_between_pixels(roi_heads, args):
    """The one thing that differs in the losses of masks."""
    *others, truth = args
    return *others, truth and [t | {"masks": between_pixels(t["masks"])} for t in truth]


def original(detector, name, levels):
    """torchvision's own detector with the same weights, its own transform, anchors and region pooling."""
    model = deepcopy(detector.model)
    model.backbone = Given(levels)
    model.transform = GeneralizedRCNNTransform(64, 128, [0.0] * 3, [1.0] * 3, size_divisible=1)
    ratios = ((0.5, 1.0, 2.0),) * 5
    if name in RCNNS:
        sides = ((32,), (64,), (128,), (256,), (512,))
        model.rpn.anchor_generator = AnchorGenerator(sides, ratios)
        model.roi_heads.box_roi_pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
        if name == "mask_rcnn":
            model.roi_heads.register_forward_pre_hook(read_between_pixels)
            model.roi_heads.mask_roi_pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 14, 2)
    elif name == "fcos":
        model.anchor_generator = AnchorGenerator(((8,), (16,), (32,), (64,), (128,)), ((1.0,),) * 5)
    else:
        sides = tuple((s, int(s * 2 ** (1 / 3)), int(s * 2 ** (2 / 3))) for s in (32, 64, 128, 256, 512))
        model.anchor_generator = AnchorGenerator(sides, ratios)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_losses_and_boxes_are_those_of_torchvision(name):
    detector = build(name).double()
    sizes, padded = [(64, 128), (128, 64)], (128, 128)
    given = maps(padded, dtype=torch.float64)
    truth = targets(sizes, torch.float64)
    shift = 1 if name in RCNNS else 0
    numbered = [t | {"labels": t["labels"] + shift} for t in truth]
    images = [torch.rand(3, *size, dtype=torch.float64) for size in sizes]
    reference = original(detector, name, detector.model.backbone(given))
    reference.transform.eval()  # in training it draws a size, and so moves the samplers' random numbers

    torch.manual_seed(2)
    expected = reference(images, numbered)
    torch.manual_seed(2)
    losses = detector.losses(given, padded, sizes, truth)
    assert set(losses) == set(expected) and all(loss > 0 for loss in losses.values())
    torch.testing.assert_close(losses, dict(expected), rtol=1e-12, atol=0)

    found = detector.eval().detect(given, padded, sizes)
    reference = reference.eval()
    reference.backbone.levels = detector.model.backbone(given)
    if name == "mask_rcnn":  # before torchvision pastes them into the image
        reference.transform.postprocess = lambda result, *_: result
    expected = reference(images)
    assert [len(f["scores"]) for f in found] == [5, 5]
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e | {"labels": e["labels"] - shift}, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reductions", [[16], [14], [8, 16], [4, 8, 16, 32]])
def test_any_levels_of_odd_sizes_train_and_detect(name, reductions):
    channels = CHANNELS[: len(reductions)]
    detector = build(name, channels, reductions)
    padded, sizes = (75, 100), [(75, 61), (60, 100)]
    given = maps(padded, channels, reductions)
    losses = detector.losses(given, padded, sizes, targets(sizes))
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert not [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    with torch.no_grad():
        found = detector.eval().detect(given, padded, sizes)
    for f, (height, width) in zip(found, sizes, strict=True):  # within the image, not the batch
        assert len(f["boxes"]) == 5 and (f["boxes"] >= 0).all()
        assert (f["boxes"] <= torch.tensor([width, height, width, height])).all()
        assert f["scores"].tolist() == sorted(f["scores"].tolist(), reverse=True)
        assert 0 <= f["labels"].min() and f["labels"].max() < CLASSES
        assert set(f) == {"boxes", "scores", "labels"} | ({"masks"} if detector.has_masks else set())
        if detector.has_masks:
            assert f["masks"].shape == (5, 1, 28, 28) and 0 <= f["masks"].min() and f["masks"].max() <= 1
    assert detector.has_masks == (name == "mask_rcnn")


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_a_box_has_finite_losses_and_gradients(name):
    detector = build(name)
    sizes = [(64, 64), (50, 60)]
    losses = detector.losses(maps((64, 64)), (64, 64), sizes, [target(size, [], []) for size in sizes])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert not [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


def prefer(detector, label):
    """Make the detector name one class, whatever it sees."""
    if hasattr(detector.model, "roi_heads"):
        layer = detector.model.roi_heads.box_predictor.cls_score
        place = label + 1  # after the background
    else:
        layer = detector.model.head.classification_head.cls_logits
        place = slice(label, None, CLASSES)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, -5)
    layer.bias.data[place] = 5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("label", [0, CLASSES - 1])
def test_the_first_and_the_last_class_keep_their_labels(name, label):
    detector = build(name)
    prefer(detector, label)
    size = (64, 64)
    given = maps(size)

    def loss(truth):
        torch.manual_seed(0)
        boxes = [target(size, [[2, 2, 40, 40]], [truth])] * 2
        with torch.no_grad():
            losses = detector.losses(given, size, [size] * 2, boxes)
        return losses.get("loss_classifier", losses.get("classification")).item()

    assert min(range(CLASSES), key=loss) == label
    with torch.no_grad():
        found = detector.eval().detect(given, size, [size] * 2)
    assert {n for f in found for n in f["labels"].tolist()} == {label}


@pytest.mark.parametrize("name", NAMES)
def test_limits_say_what_is_kept(name):
    size = (64, 64)
    given = maps(size)
    kept = {}
    for label, limits in {"few": Limits(0.0, max_detections=2), "sure": Limits(0.999)}.items():
        detector = build(name, limits=limits).eval()
        with torch.no_grad():
            kept[label] = [len(f["boxes"]) for f in detector.detect(given, size, [size] * 2)]
    assert kept == {"few": [2, 2], "sure": [0, 0]}


@pytest.mark.parametrize(
    ("name", "score", "nms"), [("mask_rcnn", 0.05, 0.5), ("retinanet", 0.05, 0.5), ("fcos", 0.2, 0.6)]
)
def test_limits_that_are_not_given_are_torchvisions(name, score, nms):
    model = build(name, limits=None).model
    holder = getattr(model, "roi_heads", model)
    assert (holder.score_thresh, holder.nms_thresh, holder.detections_per_img) == (score, nms, 100)
    holder = build(name, limits=Limits(0.3, 1.0)).model
    holder = getattr(holder, "roi_heads", holder)
    assert (holder.score_thresh, holder.nms_thresh) == (0.3, 1.0)


def test_the_heads_of_vitdet_have_its_layers():
    detector = build("mask_rcnn", heads="vitdet")
    model = detector.model
    kinds = [type(m).__name__ for m in model.roi_heads.box_head.modules()]
    assert (kinds.count("Conv2d"), kinds.count("LayerNorm2d"), kinds.count("Linear")) == (4, 4, 1)
    assert len([m for m in model.rpn.head.conv.modules() if isinstance(m, nn.Conv2d)]) == 2
    assert [type(m).__name__ for m in model.roi_heads.mask_head.modules()].count("LayerNorm2d") == 4
    size = (64, 64)
    losses = detector.losses(maps(size), size, [size] * 2, targets([size] * 2))
    sum(losses.values()).backward()
    assert not [n for n, p in detector.named_parameters() if p.grad is None]


@pytest.mark.parametrize("name", NAMES)
def test_a_box_without_width_is_refused_with_its_place(name):
    size = (64, 64)
    flat = [target(size, [], []), target(size, [[2, 2, 9, 9], [5, 5, 5, 9]], [0, 1])]
    with pytest.raises(ValueError, match=r"Box 1 of image 1 in the batch is \[5.0, 5.0, 5.0, 9.0\]; expected left"):
        build(name).losses(maps(size), size, [size] * 2, flat)


@pytest.mark.parametrize("name", RCNNS)
def test_an_rcnn_in_the_wrong_mode_says_so(name):
    size = (64, 64)
    detector = build(name)
    with pytest.raises(ValueError, match=r"in training mode. Call train\(\) for losses, eval\(\) to detect"):
        detector.detect(maps(size), size, [size] * 2)
    with pytest.raises(ValueError, match="in evaluation mode"):
        detector.eval().losses(maps(size), size, [size] * 2, targets([size] * 2))


@pytest.mark.parametrize("box", [[10.0, 8, 22, 17], [0.0, 0, 9, 11], [48.0, 30, 60, 40], [10.3, 8.3, 22.3, 17.3]])
def test_a_mask_is_learned_where_it_is_and_comes_back_from_there(box):
    boxes = torch.tensor([box])
    y, x = torch.arange(40)[:, None] + 0.5, torch.arange(60) + 0.5
    middle, half = (boxes[0, :2] + boxes[0, 2:]) / 2, (boxes[0, 2:] - boxes[0, :2]) / 2
    ellipse = ((x - middle[0]) / half[0]) ** 2 + ((y - middle[1]) / half[1]) ** 2 < 1
    overlap = []
    for masks in (between_pixels(ellipse[None]), ellipse[None]):
        cells = project_masks_on_boxes(masks, boxes, torch.tensor([0]), 28)[0].float()
        found = pasted(cells, boxes[0], (40, 60))
        overlap.append(float((found & ellipse).sum() / (found | ellipse).sum()))
    assert overlap[0] > 0.97 and overlap[0] > overlap[1] + 0.02


def test_losses_read_masks_between_pixels(monkeypatch):
    detector, sizes = build("mask_rcnn"), [(64, 128), (128, 64)]
    seen = []
    forward = detector.model.roi_heads.forward
    monkeypatch.setattr(
        detector.model.roi_heads, "forward", lambda *args: seen.append(args[3][0]["masks"]) or forward(*args)
    )
    truth = targets(sizes)
    detector.losses(maps((128, 128)), (128, 128), sizes, truth)
    assert torch.equal(seen[0], between_pixels(truth[0]["masks"])) and truth[0]["masks"].dtype == torch.bool


def test_masks_are_asked_of_those_who_train_on_them():
    size = (64, 64)
    truth = [{k: v for k, v in t.items() if k != "masks"} for t in targets([size] * 2)]
    with pytest.raises(ValueError, match="masks key"):
        build("mask_rcnn").losses(maps(size), size, [size] * 2, truth)
    build("faster_rcnn").losses(maps(size), size, [size] * 2, truth)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="detector is 'yolo'; expected one of faster_rcnn, mask_rcnn, retinanet, fcos"):
        build_detector("yolo", CHANNELS, REDUCTIONS, CLASSES)
    with pytest.raises(ValueError, match=r"detector_args \{'heads': 'vitdet'\} do not fit the detector 'retinanet'"):
        build_detector("retinanet", CHANNELS, REDUCTIONS, CLASSES, heads="vitdet")
    with pytest.raises(ValueError, match="heads is 'vit'; expected one of default, vitdet"):
        build("faster_rcnn", heads="vit")
    with pytest.raises(ValueError, match=r"each twice as coarse as the one before, got the reductions \[8, 32\]"):
        build("fcos", [6, 6], [8, 32])
    with pytest.raises(ValueError, match="features is 48; expected a multiple of 32"):
        build_detector("fcos", CHANNELS, REDUCTIONS, CLASSES, features=48)
    with pytest.raises(ValueError, match="from fine to coarse"):
        build("mask_rcnn", [6, 6], [16, 16])
    assert list(DETECTORS)[:4] == NAMES
