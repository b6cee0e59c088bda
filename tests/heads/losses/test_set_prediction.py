import itertools
import math

import pytest
import torch
from transformers.loss.loss_deformable_detr import DeformableDetrHungarianMatcher, DeformableDetrImageLoss

from heads.losses import set_prediction
from heads.losses.set_prediction import SetPredictionLoss, match

LEFT, RIGHT = [0.2, 0.5, 0.2, 0.4], [0.8, 0.5, 0.2, 0.4]


def target(boxes, labels):
    return {"boxes": torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), "labels": torch.tensor(labels).long()}


def logits(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def random_batch(layers=2, images=3, queries=6, classes=4, objects=(2, 0, 3)):
    torch.manual_seed(0)
    options = {"dtype": torch.float64}
    found = torch.rand(layers, images, queries, 4, **options) * 0.5 + 0.2
    scores = torch.randn(layers, images, queries, classes, **options)
    targets = [
        {"boxes": torch.rand(n, 4, **options) * 0.5 + 0.2, "labels": torch.randint(classes, (n,))} for n in objects
    ]
    return scores.requires_grad_(), found.requires_grad_(), targets


def test_queries_are_given_the_objects_where_they_are():
    queries, objects = match(torch.zeros(3, 2), boxes([0.5, 0.5, 1, 1], RIGHT, LEFT), target([LEFT, RIGHT], [0, 1]))
    assert queries.tolist() == [1, 2] and objects.tolist() == [1, 0]


def test_of_two_queries_in_one_place_the_one_with_the_objects_class_is_given_it():
    queries, _ = match(logits([-2, 2], [2, -2]), boxes(LEFT, LEFT), target([LEFT], [0]))
    assert queries.tolist() == [1]
    queries, _ = match(logits([-2, 2], [2, -2]), boxes(LEFT, LEFT), target([LEFT], [1]))
    assert queries.tolist() == [0]


def test_a_pair_costs_what_the_papers_say():
    """Of all assignments of 4 queries to 3 objects the one whose costs, written out, are the lowest."""
    scores, found, targets = random_batch(1, 1, 4, 3, (3,))
    labels, true = targets[0]["labels"], targets[0]["boxes"]

    def cost(query, thing):
        p = scores[0, 0, query, labels[thing]].sigmoid()
        focal = -0.25 * (1 - p) ** 2 * p.log() + 0.75 * p**2 * (1 - p).log()
        (x, y, w, h), (u, v, a, b) = found[0, 0, query], true[thing]
        across = min(x + w / 2, u + a / 2) - max(x - w / 2, u - a / 2)
        down = min(y + h / 2, v + b / 2) - max(y - h / 2, v - b / 2)
        union = w * h + a * b - across.clamp(min=0) * down.clamp(min=0)
        hull = max(x + w / 2, u + a / 2) - min(x - w / 2, u - a / 2)
        hull = hull * (max(y + h / 2, v + b / 2) - min(y - h / 2, v - b / 2))
        giou = (w * h + a * b - union) / union - (hull - union) / hull
        return (2 * focal + 5 * (found[0, 0, query] - true[thing]).abs().sum() - 2 * giou).item()

    best = min(itertools.permutations(range(4), 3), key=lambda p: sum(cost(q, thing) for thing, q in enumerate(p)))
    queries, objects = match(scores[0, 0], found[0, 0], targets[0])
    assert dict(zip(objects.tolist(), queries.tolist(), strict=True)) == dict(enumerate(best))


def test_each_loss_is_what_it_is_by_hand():
    scores, found = torch.zeros(1, 1, 2, 2, dtype=torch.float64), boxes([0.5, 0.5, 0.4, 0.2], [0.5, 0.5, 0.01, 0.01])
    losses = SetPredictionLoss()(scores, found[None, None], [target([[0.6, 0.5, 0.4, 0.4]], [1])])
    # the first query is given the object; p = 1/2 everywhere, and three of the four (query, class) pairs are negative
    assert losses["classification"].item() == pytest.approx(2 * (0.25 + 3 * 0.75) * 0.25 * math.log(2))
    assert losses["l1"].item() == pytest.approx(5 * (0.1 + 0.2))
    # 0.3 x 0.2 are shared, of 0.08 + 0.16 - 0.06 together, in a hull of 0.5 x 0.4
    assert losses["giou"].item() == pytest.approx(2 * (1 - (0.06 / 0.18 - 0.02 / 0.2)))


def test_losses_and_gradients_are_those_of_deformable_detr():
    scores, found, targets = random_batch()
    ours = SetPredictionLoss()(scores, found, targets)
    peer = DeformableDetrImageLoss(DeformableDetrHungarianMatcher(2, 5, 2), 4, 0.25, ["labels", "boxes"])
    outputs = {"logits": scores[-1], "pred_boxes": found[-1]}
    outputs["auxiliary_outputs"] = [{"logits": scores[0], "pred_boxes": found[0]}]
    theirs = peer(outputs, [{"class_labels": t["labels"], "boxes": t["boxes"]} for t in targets])
    names = {"classification": ("loss_ce", 2), "l1": ("loss_bbox", 5), "giou": ("loss_giou", 2)}
    expected = {n + layer: weight * theirs[name + layer] for n, (name, weight) in names.items() for layer in ("", "_0")}
    assert ours.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(ours[name], expected[name], rtol=1e-9, atol=1e-9)
    pairs = [torch.autograd.grad(sum(losses.values()), (scores, found)) for losses in (ours, expected)]
    torch.testing.assert_close(*pairs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [0.3, 0.004])
def test_the_generalised_iou_of_a_small_object_is_not_rounded_away(size):
    """A box of 4 px in 1000 that is found twice as wide has half the IoU, as a large one has."""
    found = torch.tensor([[[[0.5, 0.5, 2 * size, size]]]])
    losses = SetPredictionLoss()(
        torch.zeros(1, 1, 1, 1),
        found,
        [{k: v.float() if k == "boxes" else v for k, v in target([[0.5, 0.5, size, size]], [0]).items()}],
    )
    assert losses["giou"].item() == pytest.approx(2 * 0.5, rel=1e-4)


def test_the_order_of_the_objects_changes_nothing():
    scores, found, targets = random_batch()
    turned = [{k: v.flip(0) for k, v in t.items()} for t in targets]
    torch.testing.assert_close(SetPredictionLoss()(scores, found, targets), SetPredictionLoss()(scores, found, turned))


def test_without_objects_only_classes_are_trained():
    scores, found, targets = random_batch(objects=(0, 0, 0))
    losses = SetPredictionLoss()(scores, found, targets)
    assert losses["l1"] == 0 and losses["giou"] == 0 and losses["classification"] > 0
    of_scores, of_boxes = torch.autograd.grad(sum(losses.values()), (scores, found))
    assert (of_scores > 0).all() and (of_boxes == 0).all()  # every class of every query is to be found less


def test_more_objects_than_queries_leave_some_without():
    scores, found, targets = random_batch(queries=2)
    losses = SetPredictionLoss()(scores, found, targets)
    assert all(torch.isfinite(loss) for loss in losses.values())
    queries, objects = match(scores[0, 2], found[0, 2], targets[2])
    assert sorted(queries.tolist()) == [0, 1] and len(set(objects.tolist())) == 2


def test_the_number_of_objects_is_a_mean_over_all_processes(monkeypatch):
    scores, found, targets = random_batch()  # five objects here
    alone = SetPredictionLoss()(scores, found, targets)
    monkeypatch.setattr(set_prediction, "average_buffers", lambda counts: counts[0].add_(11).div_(2))  # eleven there
    beside = SetPredictionLoss()(scores, found, targets)
    torch.testing.assert_close(beside, {name: loss * 5 / 8 for name, loss in alone.items()})
    monkeypatch.setattr(set_prediction, "average_buffers", lambda counts: counts[0].zero_())
    nothing = SetPredictionLoss()(scores, found, targets)
    torch.testing.assert_close(nothing, {name: loss * 5 for name, loss in alone.items()})  # at least 1


def test_weights_are_of_costs_and_losses():
    scores, found, targets = random_batch()
    alone, doubled = SetPredictionLoss()(scores, found, targets), SetPredictionLoss({"l1": 1.0, "giou": 4.0})
    assert doubled.weights == {"classification": 2.0, "l1": 1.0, "giou": 4.0}
    # the first query is right about the class, the second about the place
    scene = logits([4.0], [-4.0]), boxes([0.7, 0.5, 0.2, 0.4], RIGHT), target([RIGHT], [0])
    only_class = {"classification": 1.0, "l1": 1e-6, "giou": 1e-6}
    assert match(*scene, only_class)[0].item() == 0
    assert match(*scene, only_class | {"l1": 1e3})[0].item() == 1
    once = SetPredictionLoss({"classification": 4.0, "l1": 10.0, "giou": 4.0})(scores, found, targets)
    torch.testing.assert_close(once, {name: 2 * loss for name, loss in alone.items()})


def test_what_is_no_number_goes_through_the_matching_to_the_loss():
    scores, found, targets = random_batch()
    losses = SetPredictionLoss()(scores * float("nan"), found, targets)
    assert losses["classification"].isnan() and losses["l1"].isfinite()


@pytest.mark.parametrize("weights", [{"dice": 1.0}, {"l1": 0.0}, {"giou": -1.0}, {"l1": float("inf")}])
def test_unknown_weights_and_those_out_of_range_are_refused(weights):
    with pytest.raises(ValueError, match="expected numbers above 0 for some of classification, l1, giou"):
        SetPredictionLoss(weights)
