import copy
import pickle

import pytest
import torch

from heads.detectors import build_detector
from heads.detectors.base import Limits
from heads.detectors.set_prediction import SetPrediction

SIZE = (48, 96)  # 6 x 12 cells of 8 px
TARGET = {"boxes": torch.tensor([[8.0, 4.0, 40.0, 20.0], [50.0, 10.0, 90.0, 46.0]]), "labels": torch.tensor([0, 2])}


def detector(limits=None, *, channels=(6,), **args):
    torch.manual_seed(0)
    options = {"queries": 7, "dim": 16, "layers": 2, "heads": 2, "mlp_dim": 16} | args
    made = SetPrediction(channels, [8] * len(channels), 3, limits, **options)
    with torch.no_grad():  # queries that differ, in boxes that move: what a trained one is
        for output in made.outputs:
            output.mover.weight.normal_(std=0.2)
            output.classifier.weight.normal_(std=0.5)
    return made.eval()


def untrained(boxes, **args):
    """It finds these boxes: centre and size in [0, 1] of the image."""
    torch.manual_seed(0)
    made = SetPrediction([6], [8], 3, queries=len(boxes), dim=16, layers=1, heads=2, mlp_dim=16, **args).eval()
    made.anchors.data = torch.tensor(boxes).logit()
    return made


def maps(size=SIZE, batch=1, channels=6):
    return [torch.randn(batch, channels, -(-size[0] // 8), -(-size[1] // 8))]


def test_boxes_are_left_top_right_bottom_in_pixels_of_the_image():
    found = untrained([[0.5, 0.25, 0.5, 0.5]]).detect(maps(), SIZE, [SIZE])[0]
    torch.testing.assert_close(found["boxes"], torch.tensor([[24.0, 0.0, 72.0, 24.0]]).expand(3, -1))
    assert sorted(found["labels"].tolist()) == [0, 1, 2]


def test_boxes_are_of_the_image_without_its_padding_and_end_at_its_edges():
    first, second = untrained([[0.9, 0.5, 0.4, 0.5]]).detect(maps(batch=2), SIZE, [SIZE, (32, 40)])
    torch.testing.assert_close(first["boxes"][0], torch.tensor([67.2, 12.0, 96.0, 36.0]))
    torch.testing.assert_close(second["boxes"][0], torch.tensor([28.0, 8.0, 40.0, 24.0]))


def test_objects_are_learned_as_centre_and_size_of_the_image():
    made = detector()
    seen = {}
    made.criterion.forward = lambda logits, boxes, targets: seen.update(targets=targets) or {}
    made.losses(maps(), (64, 128), [SIZE], [TARGET])
    expected = torch.tensor([[24 / 96, 12 / 48, 32 / 96, 16 / 48], [70 / 96, 28 / 48, 40 / 96, 36 / 48]])
    torch.testing.assert_close(seen["targets"][0]["boxes"], expected)


@pytest.mark.parametrize("encoder_layers", [0, 1])
def test_an_image_finds_the_same_alone_and_padded_in_a_batch(encoder_layers):
    made = detector(encoder_layers=encoder_layers)
    image, size = maps((40, 52))[0], (40, 52)  # its last column of cells reaches over its edge
    batch = 9 * torch.randn(2, 6, 8, 9)
    batch[1, :, :5, :7] = image
    with torch.no_grad():
        alone = made.detect([image], size, [size])[0]
        padded = made.detect([batch], (64, 72), [(64, 72), size])[1]
    for key in alone:
        torch.testing.assert_close(padded[key], alone[key], atol=1e-5, rtol=1e-5)


def test_every_cell_that_begins_in_the_image_is_seen_and_no_other():
    made, size = detector(), (33, 48)
    grid = torch.randn(1, 6, 6, 8, requires_grad=True)
    logits, boxes = made.every_layer([grid], [size])
    (gradient,) = torch.autograd.grad(logits.sum() + boxes.sum(), grid)
    seen = gradient.abs().sum(dim=1)[0] > 0
    assert seen[:5, :6].all() and seen.sum() == 30  # row 4 begins at 32 px, column 6 at 48


def test_a_layer_moves_the_boxes_of_the_one_before_it_and_does_not_train_them():
    made = detector()
    (_, boxes), (first, _) = made.every_layer(maps(), [SIZE]), made.outputs
    assert (boxes[1] - boxes[0]).abs().max() > 1e-3
    made.outputs[1].mover.weight.data.zero_()
    _, boxes = made.every_layer(maps(), [SIZE])
    torch.testing.assert_close(boxes[1], boxes[0])
    (gradient,) = torch.autograd.grad(boxes[1].sum(), first.mover.weight, allow_unused=True, materialize_grads=True)
    assert (gradient == 0).all()


def test_the_last_layer_is_what_is_found():
    made, grid = detector(Limits(max_detections=1)), maps()
    logits, boxes = made.every_layer(grid, [SIZE])
    found = made.detect(grid, SIZE, [SIZE])[0]
    torch.testing.assert_close(found["scores"][0], logits[-1].max().sigmoid())
    x, _, width, _ = boxes[-1, 0, logits[-1, 0].amax(dim=1).argmax()]
    torch.testing.assert_close(found["boxes"][0, 0], ((x - width / 2) * 96).clamp(min=0))


def test_rows_are_told_from_columns():
    made = detector()
    grid = maps((40, 40))[0]
    straight, turned = made.every_layer([grid], [(40, 40)])[1], made.every_layer([grid.mT], [(40, 40)])[1]
    assert (straight - turned).abs().max() > 1e-3
    wide = torch.cat([grid, grid], dim=-1)
    assert made.every_layer([wide], [(40, 80)])[0].shape == (2, 1, 7, 3)


def test_objects_in_another_order_give_the_same_losses():
    made = detector()
    grid = maps()
    turned = {key: value.flip(0) for key, value in TARGET.items()}
    losses = [made.losses(grid, SIZE, [SIZE], [target]) for target in (TARGET, turned)]
    torch.testing.assert_close(*losses)
    assert set(losses[0]) == {"classification", "l1", "giou", "classification_0", "l1_0", "giou_0"}


def test_a_gradient_reaches_every_parameter_also_where_there_is_no_object():
    made = detector(encoder_layers=1, channels=(4, 2)).train()
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    grids = [maps(batch=2, channels=c)[0] for c in (4, 2)]
    sum(made.losses(grids, SIZE, [SIZE, SIZE], [TARGET, empty]).values()).backward()
    assert [name for name, p in made.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []
    made.zero_grad()
    losses = made.losses(grids, SIZE, [SIZE, SIZE], [empty, empty])
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values()) and losses["l1"] == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())
    assert all(p.grad.abs().sum() == 0 for p in made.outputs[-1].mover.parameters())


def test_a_few_steps_find_the_objects_of_an_image():
    """As a whole: a rectangular image, where x and y, corners and centres, and the first label cannot be confused."""
    torch.manual_seed(0)
    made = SetPrediction([6], [8], 3, queries=8, dim=32, layers=2, heads=2, mlp_dim=32)
    grid, optimizer = maps(), torch.optim.AdamW(made.parameters(), lr=3e-3)
    history = []
    for _ in range(80):
        loss = sum(made.losses(grid, SIZE, [SIZE], [TARGET]).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.2 * history[0]
    found = made.eval().detect(grid, SIZE, [SIZE])[0]
    order = found["labels"][:2].argsort()
    assert found["labels"][:2][order].tolist() == [0, 2]
    torch.testing.assert_close(found["boxes"][:2][order], TARGET["boxes"], atol=3.0, rtol=0)


def test_the_highest_scores_of_query_and_class_are_kept():
    made = untrained([[0.3, 0.5, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2]])
    made.every_layer = lambda maps, sizes: (
        torch.tensor([[[[3.0, -1, 2], [0, -3, 4]]]]),
        made.anchors.sigmoid()[None, None],
    )
    found = made.detect(maps(), SIZE, [SIZE])[0]
    assert found["labels"].tolist() == [2, 0, 2, 0, 1, 1]
    torch.testing.assert_close(found["scores"], torch.tensor([4.0, 3, 2, 0, -1, -3]).sigmoid())
    torch.testing.assert_close(found["boxes"][:3, 0], torch.tensor([0.5, 0.2, 0.2]) * 96)
    made.limits = Limits(max_detections=2)
    fewer = made.detect(maps(), SIZE, [SIZE])[0]
    assert all(torch.equal(fewer[key], found[key][:2]) for key in found)
    made.limits = Limits(score_threshold=0.6)
    assert len(made.detect(maps(), SIZE, [SIZE])[0]["scores"]) == 3


def test_suppression_is_of_one_class_only_where_it_is_asked_for_and_before_the_limit():
    made = untrained([[0.3, 0.5, 0.2, 0.2], [0.3, 0.5, 0.2, 0.22], [0.7, 0.5, 0.2, 0.2]])
    logits = torch.tensor([[[[3.0, -1, -9], [2, 1, -9], [0.5, -9, -9]]]])
    made.every_layer = lambda maps, sizes: (logits, made.anchors.sigmoid()[None, None])

    def labels(**limits):
        made.limits = Limits(**limits)
        return made.detect(maps(), SIZE, [SIZE])[0]["labels"].tolist()

    assert labels(max_detections=3) == [0, 0, 1]
    assert labels(max_detections=3, nms_threshold=0.5) == [0, 1, 0]
    assert labels(max_detections=3, nms_threshold=1.0) == [0, 0, 1]


def test_more_detections_are_asked_for_than_there_are():
    assert len(detector(Limits(max_detections=1000)).detect(maps(), SIZE, [SIZE])[0]["scores"]) == 7 * 3
    assert detector(Limits(score_threshold=0.999999)).detect(maps(), SIZE, [SIZE])[0]["boxes"].shape == (0, 4)


class EveryLayer(torch.nn.Module):
    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, maps, sizes):
        return self.made.every_layer(maps, sizes)


def test_it_is_copied_stored_and_exported():
    made, grid = detector(), maps()
    found = made.detect(grid, SIZE, [SIZE])
    for copied in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):  # noqa: S301
        torch.testing.assert_close(copied.detect(grid, SIZE, [SIZE]), found)
    exported = torch.export.export(EveryLayer(made), (grid, [SIZE])).module()
    torch.testing.assert_close(exported(grid, [SIZE]), made.every_layer(grid, [SIZE]))


def test_layers_are_concatenated():
    made = detector(channels=(4, 2))
    grids = [maps(channels=c)[0] for c in (4, 2)]
    torch.testing.assert_close(
        made.detect(grids, SIZE, [SIZE]), detector(channels=(6,)).detect([torch.cat(grids, dim=1)], SIZE, [SIZE])
    )


def test_untrained_queries_are_spread_over_the_image_and_find_next_to_nothing():
    made = SetPrediction([6], [8], 3, queries=100, dim=16, layers=1, heads=2, mlp_dim=16).eval()
    boxes = made.anchors.sigmoid()
    counts = torch.histogramdd(boxes[:, :2].detach(), bins=[2, 2], range=[0.0, 1.0, 0.0, 1.0]).hist
    assert counts.min() >= 20
    assert made.detect(maps(), SIZE, [SIZE])[0]["scores"].max() < 0.1


def test_labels_that_are_no_class_are_refused():
    bad = TARGET | {"labels": torch.tensor([1, 3])}
    with pytest.raises(ValueError, match=r"Labels run from 1 to 3; expected 0 to 2. Number the classes from 0"):
        detector().losses(maps(), SIZE, [SIZE], [bad])
    with pytest.raises(ValueError, match="Labels run from -1"):
        detector().losses(maps(), SIZE, [SIZE], [TARGET | {"labels": torch.tensor([-1, 0])}])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"reductions": [4, 8]}, r"reads layers of one reduction, got \[4, 8\]; choose other layers, and no pyramid"),
        ({"queries": 0}, "queries 0"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"encoder_layers": -1}, "encoder_layers -1"),
        ({"dim": 30, "heads": 4}, "dim is 30; expected a multiple of 4, and of the 4 heads"),
        ({"dim": 10, "heads": 5}, "dim is 10"),
        ({"losses": {"l2": 1.0}}, "for some of classification, l1, giou"),
        ({"limits": {}}, "detector_args .*do not fit the detector 'set_prediction'"),
        ({"querys": 5}, "detector_args .*do not fit the detector 'set_prediction'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(args, message):
    arguments = {"channels": [6, 6], "reductions": [8, 8], "num_classes": 3} | args
    own = [arguments.pop(name) for name in ("channels", "reductions", "num_classes")]
    with pytest.raises(ValueError, match=message):
        build_detector("set_prediction", *own, **arguments)


def test_is_built_by_name():
    made = build_detector("set_prediction", [6], [8], 3, Limits(max_detections=5), queries=4, dim=16, heads=2)
    assert isinstance(made, SetPrediction) and len(made.queries) == 4 and not made.has_masks
    assert len(made.detect(maps(), SIZE, [SIZE])[0]["scores"]) == 5
    with pytest.raises(ValueError, match=r"detector is 'detr'; expected one of .*set_prediction"):
        build_detector("detr", [6], [8], 3)
