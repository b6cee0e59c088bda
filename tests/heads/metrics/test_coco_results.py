import io
import json
from contextlib import redirect_stdout

import numpy as np
import pytest
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from heads.data.detection.annotations import Annotations
from heads.metrics import coco_scores
from heads.metrics.coco_results import check_results, write_results


def square(left, side=8):
    mask = np.zeros((16, 32), np.uint8, order="F")
    mask[2 : 2 + side, left : left + side] = 1
    return {"size": [16, 32], "counts": run_lengths.encode(mask)["counts"].decode()}


def entry(**changes):
    found = {"image_id": 7, "category_id": 2, "bbox": [3.0, 2.0, 8.0, 8.0], "score": 0.5, "segmentation": square(3)}
    return {key: value for key, value in (found | changes).items() if value is not None}


@pytest.fixture
def truth():
    annotation = {"id": 1, "image_id": 7, "category_id": 2, "bbox": [3.0, 2.0, 8.0, 8.0], "area": 64, "iscrowd": 0}
    return Annotations(
        "truth.json",
        [{"id": 7, "file_name": "7.jpg", "height": 16, "width": 32}],
        [{"id": 2, "name": "cell"}],
        [annotation | {"segmentation": square(3)}],
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 8}, r"Result 1 \(image_id 8, category_id 2\): truth\.json has no such image\."),
        ({"category_id": 1}, r"Result 1 \(image_id 7, category_id 1\): truth\.json has no such category\."),
        ({"image_id": None}, r"\(image_id None, category_id 2\): expected whole numbers as ids"),
        ({"category_id": 2.5}, "expected whole numbers as ids"),
        ({"score": None}, "its score is None; expected a number"),
        ({"score": float("nan")}, "its score is nan"),
        ({"score": float("inf")}, "its score is inf"),
        ({"score": "0.5"}, r"its score is '0\.5'"),
        ({"bbox": None}, "its bbox is None; expected a list of left, top, width and height"),
        ({"bbox": [3.0, 2.0, 8.0]}, "its bbox is .*expected"),
        ({"bbox": [3.0, 2.0, float("nan"), 8.0]}, "its bbox is .*nan"),
        ({"bbox": [3.0, 2.0, 8.0, -1.0]}, r"its bbox is .*-1\.0"),
        ({"bbox": np.zeros(4)}, "its bbox is array"),
        ({"segmentation": None}, "no segmentation that can be read; expected run lengths"),
        ({"segmentation": [[3, 2, 11, 2, 11, 10]]}, "no segmentation that can be read"),
        ({"segmentation": {"size": [16, 32], "counts": [99, 413]}}, "no segmentation that can be read"),
        ({"segmentation": {"size": [16, 32], "counts": b"99"}}, "counts as text"),
        ({"segmentation": {"counts": "99"}}, "no segmentation that can be read"),
        ({"segmentation": {"size": 16, "counts": "99"}}, "no segmentation that can be read"),
        ({"segmentation": square(3) | {"size": [32, 16]}}, r"has RLE of size \[32, 16\].*expected .*\[16, 32\]"),
    ],
)
def test_an_entry_that_cannot_be_counted_is_refused_by_its_place(changes, message, truth):
    with pytest.raises(ValueError, match=message):
        check_results([entry(), entry(**changes)], truth, masks=True)


@pytest.mark.parametrize(
    "counts", ["", "~~~~", "0", square(3)["counts"][:-1], square(3)["counts"] + "1", "P", "é0", "-1"]
)
def test_run_lengths_that_do_not_fill_the_image_are_refused_before_they_are_followed(counts, truth):
    mask = {"size": [16, 32], "counts": counts}
    with pytest.raises(ValueError, match=r"Result 0 .*: has RLE counts .*; expected (run lengths|512)"):
        coco_scores(truth, [entry(segmentation=mask)], [7], kinds=("segm",))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (40, 70), (700, 900)])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 1.0])
def test_run_lengths_of_any_mask_are_taken(size, share, truth):
    rng = np.random.default_rng(0)
    truth.images[0] |= {"height": size[0], "width": size[1]}
    for block in (1, 8):
        drawn = np.kron(rng.random((-(-size[0] // block), -(-size[1] // block))) < share, np.ones((block, block)))
        mask = run_lengths.encode(np.asfortranarray(drawn[: size[0], : size[1]], dtype=np.uint8))
        check_results([entry(segmentation={"size": list(size), "counts": mask["counts"].decode()})], truth, masks=True)


def test_boxes_need_no_masks(truth):
    check_results([entry(segmentation=None), entry(segmentation="anything"), entry(bbox=[0, 0, 0.0, 0])], truth)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_what_was_written_scores_the_same_in_pycocotools(kind, truth, tmp_path):
    scores = np.float32([0.1, 0.3, 0.7]).tolist()  # more digits than a float32 has
    places = zip(scores, (3.1, 4.2, 9.0), strict=True)
    results = [entry(score=s, bbox=[x, 2.0, 8.0, 8.0], segmentation=square(round(x))) for s, x in places]
    (tmp_path / "truth.json").write_text(json.dumps(truth.coco()))
    write_results(results, tmp_path / "new" / "results.json")
    assert json.loads((tmp_path / "new" / "results.json").read_text()) == results
    with redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        run = COCOeval(coco, coco.loadRes(str(tmp_path / "new" / "results.json")), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    found = coco_scores(truth, results, [7], kinds=(kind,)).values
    np.testing.assert_allclose(list(found.values()), np.where(run.stats < 0, np.nan, run.stats), rtol=0, atol=1e-15)
    assert 0.1 < next(iter(found.values())) < 0.9


def test_no_results_are_written_as_an_empty_list(truth, tmp_path):
    write_results([], tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_a_wrong_entry_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "results.json"
    write_results([entry()], path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"results\.json is not written\. Result 1 .*its score is nan"):
        write_results([entry(), entry(score=float("nan"))], path)
    with pytest.raises(ValueError, match=r"results\.json is not written\. Result 0 .*no segmentation that can be read"):
        write_results([entry(segmentation={"size": [16, 32], "counts": b"99"})], path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
