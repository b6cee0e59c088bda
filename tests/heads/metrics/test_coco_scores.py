import io
import math
import sys
from contextlib import redirect_stdout
from copy import deepcopy

import numpy as np
import pytest
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from heads.data.detection.annotations import Annotations
from heads.metrics import coco_scores

SCORERS = ("pycocotools", "faster_coco_eval")
STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")  # pycocotools' order


def outline(box, corner):
    """A box without a part of its corners, as a polygon."""
    x, y, w, h = box
    a, b = corner * w, corner * h
    return [
        x + a,
        y,
        x + w - a,
        y,
        x + w,
        y + b,
        x + w,
        y + h - b,
        x + w - a,
        y + h,
        x + a,
        y + h,
        x,
        y + h - b,
        x,
        y + b,
    ]


def rle(box, size, corner=0.0):
    """Its run lengths, within an image of this height and width."""
    (found,) = run_lengths.frPyObjects([outline(box, corner)], *size)
    return {"size": list(size), "counts": found["counts"].decode()}


def as_numbers(box, size):
    """A box's run lengths as COCO writes those of crowds, not as text."""
    x, y, w, h = map(int, box)
    pixels = np.zeros(size, bool)
    pixels[y : y + h + 1, x : x + w + 1] = True
    pixels = pixels.flatten(order="F")
    limits = np.concatenate([[0], np.flatnonzero(np.diff(pixels)) + 1, [pixels.size]])
    return {"size": list(size), "counts": [0] * int(pixels[0]) + np.diff(limits).tolist()}


def split(boxes, size=(100, 100), classes=1, **extra):
    """A truth of ``{image: [(class, box), ...]}``; categories are called by their ids."""
    images = [{"id": i, "file_name": f"{i}.jpg", "height": size[0], "width": size[1]} for i in boxes]
    entries = [(image, *found) for image, objects in boxes.items() for found in objects]
    annotations = [
        {"id": n, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        | {"segmentation": rle(box, size)}
        for n, (image, category, box) in enumerate(entries, start=1)
    ]
    categories = [{"id": c, "name": str(c)} for c in range(1, classes + 1)]
    return Annotations("truth.json", images, categories, annotations)


def result(image, category, box, score, size=(100, 100)):
    found = {"image_id": image, "category_id": category, "bbox": box, "score": score}
    return found | {"segmentation": rle(box, size)}


def perfect(truth):
    """What is not a crowd, as it is."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth.images}
    found = []
    for a in truth.annotations:
        if not a["iscrowd"]:
            mask = a["segmentation"]
            if isinstance(mask, list):
                (mask,) = run_lengths.frPyObjects(mask, *sizes[a["image_id"]])
                mask = mask | {"counts": mask["counts"].decode()}
            found.append({key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.5})
            found[-1]["segmentation"] = mask
    return found


def random_split(images, classes, seed=0):
    """Crowds, sides of 32 and 96 px, classes and images without truth, equal scores, over 100 detections of a class.

    Masks of the truth are polygons or run lengths as text, those of crowds run lengths as numbers.
    """
    rng = np.random.default_rng(seed)
    truth = Annotations("random.json", [], [{"id": 3 * c + 1, "name": f"class {c}"} for c in range(classes)], [])
    results = []
    for image_id in rng.permutation(10 * images)[:images].tolist():
        size = tuple(rng.integers(20, 200, 2).tolist())
        truth.images.append({"id": image_id, "file_name": "", "height": size[0], "width": size[1]})
        objects = []
        for _ in range(rng.integers(0, 9)):
            category, box, corner = 3 * int(rng.integers(classes - 2)) + 1, random_box(rng, size), rng.uniform(0, 0.4)
            mask, crowd = rle(box, size, corner), int(rng.random() < 0.1)
            area = float(run_lengths.area(mask)) if rng.random() < 0.5 else box[2] * box[3]
            truth.annotations.append(
                {"id": len(truth.annotations) + 1, "image_id": image_id, "category_id": category, "bbox": box}
                | {"area": area, "iscrowd": crowd}
                | {"segmentation": as_numbers(box, size) if crowd else [mask, [outline(box, corner)]][rng.integers(2)]}
            )
            objects.append((category, box))
        many = 200 if rng.random() < 0.02 else int(rng.integers(0, 25))
        for _ in range(many):
            if objects and rng.random() < 0.7:
                category, box = objects[0 if many == 200 else rng.integers(len(objects))]
                box = near(rng, box, size)
            else:
                category, box = 3 * int(rng.integers(classes)) + 1, random_box(rng, size)
            entry = {"image_id": image_id, "category_id": category, "bbox": box}
            score = float(np.float32(rng.random())) if rng.random() < 0.5 else round(rng.random(), 1)
            results.append(entry | {"score": score, "segmentation": rle(box, size, rng.uniform(0, 0.4))})
    return truth, results


def random_box(rng, size):
    """Whole numbers where the side is 32 or 96, so that areas lie on the limits as well."""
    sides = [min(float(rng.choice([32, 96, rng.uniform(1, 120)])), s) for s in (size[1], size[0])]
    left, top = rng.uniform(0, size[1] - sides[0]), rng.uniform(0, size[0] - sides[1])
    return [left, top, *sides]


def near(rng, box, size):
    left, top = (max(0.0, b + rng.normal(0, 0.06) * s) for b, s in zip(box[:2], box[2:], strict=True))
    sides = [s * (1 if rng.random() < 0.3 else rng.uniform(0.85, 1.15)) for s in box[2:]]
    return [left, top, max(0.0, min(sides[0], size[1] - left)), max(0.0, min(sides[1], size[0] - top))]


def by_hand(truth, results, kind, image_ids=None):
    """pycocotools called as its demo does."""
    results = deepcopy(results)
    for entry in results:
        entry.pop("bbox" if kind == "segm" else "segmentation")
    with redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = deepcopy(truth.coco())
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(results), kind)
        if image_ids is not None:
            run.params.imgIds = image_ids
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats


def all_ids(truth):
    return [image["id"] for image in truth.images]


@pytest.fixture(scope="module")
def random():
    return random_split(500, 40)


@pytest.fixture(scope="module")
def fewer():
    return random_split(120, 40)


@pytest.fixture(scope="module", params=["bbox", "segm"])
def kind(request):
    return request.param


def test_both_scorers_give_the_same_numbers_to_the_last_digit_and_those_of_pycocotools(random, kind):
    truth, results = random
    ours, faster = (coco_scores(truth, results, all_ids(truth), kinds=(kind,), scorer=s) for s in SCORERS)
    prefix = "mask_" if kind == "segm" else ""
    assert list(ours.values) == [prefix + name for name in STATS]
    assert list(faster.values.items()) == list(ours.values.items())
    assert min(ours.values.values()) > 0.02 and len(set(ours.values.values())) == 12  # no two agree by being empty
    np.testing.assert_allclose(list(ours.values.values()), by_hand(truth, results, kind), rtol=0, atol=1e-15)
    assert list(ours.classes) == truth.names == list(faster.classes)
    for name, row in ours.classes.items():
        np.testing.assert_array_equal(list(faster.classes[name].values()), list(row.values()), err_msg=name)


@pytest.mark.parametrize("scorer", SCORERS)
def test_the_mean_over_classes_is_the_score_and_classes_that_do_not_occur_are_left_out(fewer, scorer):
    truth, results = fewer
    scores = coco_scores(truth, results, all_ids(truth), scorer=scorer)
    for name in ("AP", "AP50", "AR100"):
        rows = np.array([row[name] for row in scores.classes.values()])
        assert np.isnan(rows).tolist() == [False] * 38 + [True] * 2  # detections of these two there are
        assert np.nanmean(rows) == pytest.approx(scores.values[name], abs=1e-12)


@pytest.mark.parametrize("scorer", SCORERS)
def test_only_the_images_that_were_looked_at_are_counted(fewer, scorer):
    truth, results = fewer
    seen = all_ids(truth)[:50]
    found = coco_scores(truth, results, seen, scorer=scorer).values
    np.testing.assert_allclose(list(found.values()), by_hand(truth, results, "bbox", seen), rtol=0, atol=1e-15)
    only = [entry for entry in results if entry["image_id"] in seen]
    assert coco_scores(truth, only, set(seen), scorer=scorer).values == found


@pytest.mark.parametrize("scorer", SCORERS)
def test_perfect_predictions_score_exactly_one(fewer, kind, scorer):
    truth, _ = fewer
    scores = coco_scores(truth, perfect(truth), all_ids(truth), kinds=(kind,), scorer=scorer)
    prefix = "mask_" if kind == "segm" else ""
    assert scores.values[f"{prefix}AP"] == scores.values[f"{prefix}AP50"] == scores.values[f"{prefix}AR100"] == 1
    # pycocotools itself: the first right detection has a precision of 1 - 2^-52
    alone = split({1: [(1, [10.0, 10.0, 20.0, 20.0])]})
    assert coco_scores(alone, perfect(alone), [1], kinds=(kind,), scorer=scorer).values[f"{prefix}AP"] == 1
    assert by_hand(alone, perfect(alone), kind)[0] == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("scorer", SCORERS)
def test_shuffled_labels_score_near_zero(fewer, scorer):
    truth, _ = fewer
    labels = np.random.default_rng(1).permutation([entry["category_id"] for entry in perfect(truth)])
    shuffled = [e | {"category_id": int(c)} for e, c in zip(perfect(truth), labels, strict=True)]
    assert 0 < coco_scores(truth, shuffled, all_ids(truth), scorer=scorer).values["AP"] < 0.02


@pytest.mark.parametrize("scorer", SCORERS)
def test_no_detections_score_zero_and_no_images_nothing(fewer, scorer):
    truth, _ = fewer
    scores = coco_scores(truth, [], all_ids(truth), kinds=("bbox", "segm"), scorer=scorer)
    assert set(scores.values.values()) == {0.0} and len(scores.values) == 24
    assert scores.classes["class 0"] == dict.fromkeys(
        ["AP", "AP50", "AR100", "mask_AP", "mask_AP50", "mask_AR100"], 0.0
    )
    for images, results in (([], perfect(truth)), ([], [])):
        nothing = coco_scores(truth, results, images, scorer=scorer)
        assert len(nothing.values) == 12 and all(map(math.isnan, nothing.values.values()))


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_detection_on_a_crowd_is_neither_right_nor_wrong(kind, scorer):
    truth = split({1: [(1, [0.0, 0.0, 20.0, 20.0]), (1, [40.0, 40.0, 60.0, 60.0])]})
    on_crowd = [result(1, 1, box, 0.9) for box in ([45.0, 45.0, 20.0, 20.0], [70.0, 70.0, 20.0, 20.0])]
    found = [*on_crowd, result(1, 1, [0.0, 0.0, 20.0, 20.0], 0.8)]
    name = "mask_AP" if kind == "segm" else "AP"
    wrong = coco_scores(truth, found, [1], kinds=(kind,), scorer=scorer).values[name]
    assert wrong == pytest.approx(51 / 101 / 3)  # one of two found, the third detection: precision 1/3 up to recall 0.5
    truth.annotations[1]["iscrowd"] = 1
    assert coco_scores(truth, found, [1], kinds=(kind,), scorer=scorer).values[name] == 1  # one of one, the first
    off = [result(1, 1, [0.0, 70.0, 20.0, 20.0], 0.95), *found]
    assert coco_scores(truth, off, [1], kinds=(kind,), scorer=scorer).values[name] == 0.5  # right after one wrong


@pytest.mark.parametrize("scorer", SCORERS)
def test_an_annotation_with_id_zero_can_be_found(scorer):
    truth = split({1: [(1, [0.0, 0.0, 20.0, 20.0])]})
    truth.annotations[0]["id"] = 0
    assert by_hand(truth, perfect(truth), "bbox")[0] == 0  # the trap
    assert coco_scores(truth, perfect(truth), [1], scorer=scorer).values["AP"] == 1


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_mask_is_as_large_as_its_own_area_whatever_its_box(scorer):
    truth = split({1: [(1, [0.0, 0.0, 30.0, 30.0])]})
    miss = result(1, 1, [40.0, 40.0, 40.0, 40.0], 0.9) | {"segmentation": rle([40, 40, 20, 20], (100, 100))}
    found = [miss, *perfect(truth)]
    values = coco_scores(truth, found, [1], kinds=("bbox", "segm"), scorer=scorer).values
    assert values["APs"] == 1  # the box that is wrong has 1600 px: it is none of the small ones
    assert values["mask_APs"] == 0.5  # its mask has 400 px
    assert values["mask_APs"] == by_hand(truth, found, "segm")[3]


@pytest.mark.parametrize("scorer", SCORERS)
def test_equal_scores_count_in_the_order_of_the_images_and_of_the_results(scorer):
    truth = split({2: [(1, [0.0, 0.0, 20.0, 20.0])], 1: [(1, [0.0, 0.0, 20.0, 20.0])]})
    right, wrong = [[image, 1, [0.0, place, 20.0, 20.0], 0.5] for image, place in ((2, 0.0), (1, 60.0))]
    both_ways = [[result(*right), result(*wrong)], [result(*wrong), result(*right)]]
    assert [coco_scores(truth, r, [2, 1], scorer=scorer).values["AP50"] for r in both_ways] == [51 / 101 / 2] * 2
    here = [result(2, *right[1:]), result(2, *wrong[1:])]
    assert coco_scores(truth, here, [2, 1], scorer=scorer).values["AP50"] == pytest.approx(51 / 101)
    assert coco_scores(truth, here[::-1], [2, 1], scorer=scorer).values["AP50"] == pytest.approx(51 / 101 / 2)


@pytest.mark.parametrize("scorer", SCORERS)
def test_nothing_is_printed_and_nothing_given_is_changed(scorer, capfd):
    truth, results = random_split(10, 4)
    before = deepcopy((truth, results))
    coco_scores(truth, results, all_ids(truth), kinds=("bbox", "segm"), scorer=scorer)
    assert (truth, results) == before
    assert capfd.readouterr() == ("", "")


def lvis():
    """A rare, a common and two frequent classes, the last of which does not occur."""
    a, b, c = [0.0, 0.0, 20.0, 20.0], [30.0, 0.0, 20.0, 20.0], [60.0, 0.0, 20.0, 20.0]
    truth = split({1: [(1, a)], 2: [(2, b), (3, c)]}, classes=4)
    for category, frequency in zip(truth.categories, "rcff", strict=True):
        category["frequency"] = frequency
    for image, absent, open_ended in zip(truth.images, ([2], []), ([], [3]), strict=True):
        image |= {"neg_category_ids": absent, "not_exhaustive_category_ids": open_ended}
    nothing = [0.0, 60.0, 20.0, 20.0]
    results = [
        result(1, 1, a, 0.9),
        result(1, 2, nothing, 0.8),  # wrong: nobody has seen class 2 there
        result(1, 3, nothing, 0.99),  # not counted: nobody has looked for class 3 there
        result(2, 2, b, 0.7),
        result(2, 3, nothing, 0.95),  # not counted: not all of class 3 there are annotated
        result(2, 3, c, 0.6),
    ]
    return truth, results


def test_lvis_counts_a_detection_only_where_somebody_has_looked_for_its_class(kind):
    truth, results = lvis()
    scores = coco_scores(truth, results, [1, 2], kinds=(kind,), scorer="faster_coco_eval", lvis=True)
    prefix = "mask_" if kind == "segm" else ""
    names = [*STATS[:6], "APr", "APc", "APf", "AR300", *STATS[9:]]
    assert sorted(scores.values) == sorted(prefix + name for name in names)
    expected = {"APr": 1, "APc": 0.5, "APf": 1, "AP": 2.5 / 3, "AP50": 2.5 / 3, "APs": 2.5 / 3, "AR300": 1, "ARs": 1}
    assert {name: scores.values[prefix + name] for name in expected} == pytest.approx(expected)
    assert math.isnan(scores.values[f"{prefix}APl"])
    assert [row[f"{prefix}AP"] for row in scores.classes.values()] == pytest.approx([1, 0.5, 1, math.nan], nan_ok=True)
    assert set(scores.classes["1"]) == {f"{prefix}{name}" for name in ("AP", "AP50", "AR300")}
    as_coco = coco_scores(truth, results, [1, 2], kinds=(kind,), scorer="faster_coco_eval")
    assert as_coco.classes["3"][f"{prefix}AP"] == pytest.approx(1 / 3)  # both count there


@pytest.mark.parametrize(("at_once", "rounds"), [(1, 40), (120 * 7, 6), (120 * 40, 1)])
@pytest.mark.parametrize("scorer", SCORERS)
def test_some_classes_after_others_score_what_all_at_once_do(fewer, scorer, at_once, rounds, monkeypatch):
    truth, results = fewer
    whole = coco_scores(truth, results, all_ids(truth), scorer=scorer)
    module = sys.modules["heads.metrics.coco_scores"]
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    assert len(module._parts(truth)) == rounds
    parts = coco_scores(truth, results, all_ids(truth), scorer=scorer)
    assert repr(parts) == repr(whole)  # NaN is not equal to itself


def test_some_classes_of_lvis_after_others_score_what_all_at_once_do(kind, monkeypatch):
    truth, results = lvis()
    options = {"kinds": (kind,), "scorer": "faster_coco_eval", "lvis": True}
    whole = coco_scores(truth, results, [1, 2], **options)
    monkeypatch.setattr(sys.modules["heads.metrics.coco_scores"], "_AT_ONCE", 1)
    assert repr(coco_scores(truth, results, [1, 2], **options)) == repr(whole)


def test_lvis_counts_the_300_best_detections_of_an_image_whatever_their_class():
    truth, results = lvis()
    truth.images[1]["neg_category_ids"] = [1]
    flood = [result(2, 1, [0.0, 60.0, 20.0, 20.0], 0.65) for _ in range(298)]
    options = {"scorer": "faster_coco_eval", "lvis": True}
    with_both = coco_scores(truth, results + flood, [1, 2], **options)  # 0.95 and 0.7 before, 0.6 is number 301
    assert with_both.classes["3"]["AP"] == 0 and with_both.classes["2"]["AP"] == pytest.approx(0.5)
    assert coco_scores(truth, results + flood[1:], [1, 2], **options).classes["3"]["AP"] == 1


def test_lvis_scores_masks_of_an_image_with_nothing_but_classes_nobody_has_looked_for():
    truth, results = lvis()
    truth.images.append(truth.images[0] | {"id": 3})
    results.append(result(3, 4, [0.0, 0.0, 9.0, 9.0], 0.9))
    scores = coco_scores(truth, results, [1, 2, 3], kinds=("segm",), scorer="faster_coco_eval", lvis=True)
    assert scores.values["mask_AP"] == pytest.approx(2.5 / 3)


def test_lvis_scores_a_part_of_the_images_or_none():
    truth, results = lvis()
    options = {"scorer": "faster_coco_eval", "lvis": True}
    first = coco_scores(truth, results, [1], **options).values
    assert first["APr"] == first["AP"] == 1 and math.isnan(first["APc"])
    assert all(map(math.isnan, coco_scores(truth, results, [], **options).values.values()))


@pytest.mark.parametrize("change", ["neg_category_ids", "not_exhaustive_category_ids", "frequency"])
def test_truth_that_is_not_of_lvis_is_refused(change):
    truth, results = lvis()
    for entry in (*truth.images, *truth.categories):
        entry.pop(change, None)
    with pytest.raises(ValueError, match=rf"truth\.json is not an LVIS file: (image|category) 1 has .*{change}"):
        coco_scores(truth, results, [1, 2], scorer="faster_coco_eval", lvis=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ()}, r"kinds is \(\); expected bbox, segm or both"),
        ({"kinds": ("boundary",)}, "kinds is .*boundary"),
        ({"scorer": "lvis"}, "scorer is 'lvis'; expected one of pycocotools, faster_coco_eval"),
        ({"lvis": True}, "scorer is 'pycocotools', which cannot score LVIS"),
        ({"image_ids": [1, 5]}, r"image_ids has 5, but truth\.json has no such image"),
    ],
)
def test_unknown_options_are_refused(options, message):
    truth = split({1: []})
    with pytest.raises(ValueError, match=message):
        coco_scores(**{"truth": truth, "results": [], "image_ids": [1]} | options)


def test_masks_without_a_truth_are_refused():
    truth = split({1: [(1, [0.0, 0.0, 9.0, 9.0])]})
    del truth.annotations[0]["segmentation"]
    with pytest.raises(ValueError, match=r"truth\.json cannot score masks: annotation 1 has no segmentation"):
        coco_scores(truth, [], [1], kinds=("segm",))
    assert coco_scores(truth, [], [1]).values["AP"] == 0


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [100, 100], "counts": [5, 6]}, "has RLE counts of 11 pixels; expected 10000"),
        ({"size": [50, 100], "counts": [5000]}, r"has RLE of size \[50, 100\]"),
        ([[1, 2, 3, 4]], "has a segmentation whose polygon 1 has 4 numbers"),
    ],
)
def test_masks_of_the_truth_are_looked_at_before_they_are_followed(segmentation, message):
    truth = split({1: [(1, [0.0, 0.0, 9.0, 9.0])]})
    truth.annotations[0]["segmentation"] = segmentation  # as of a file that was read for its boxes
    with pytest.raises(ValueError, match=rf"truth\.json cannot score masks: annotation 1 {message}.*or score boxes\.$"):
        coco_scores(truth, [], [1], kinds=("segm",))


def test_a_wrong_entry_is_refused_whoever_scores():
    truth = split({1: []})
    for scorer in SCORERS:
        with pytest.raises(ValueError, match=r"Result 0 \(image_id 2, category_id 1\): truth\.json has no such image"):
            coco_scores(truth, [result(2, 1, [0.0, 0.0, 9.0, 9.0], 0.5)], [1], scorer=scorer)


def test_the_second_scorer_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(ValueError, match=r"pip install 'siglip2-backbone\[coco\]'"):
        coco_scores(split({1: []}), [], [1], scorer="faster_coco_eval")
    assert math.isnan(coco_scores(split({1: []}), [], [1]).values["AP"])  # without it the first one works
