import copy
import json
import pickle
import subprocess
import sys

import pytest
import torch

from heads.data.detection.annotations import Annotations
from heads.metrics import DetectionResults
from heads.metrics.detection import scores_of

BOX, MISS = [0.0, 0.0, 20.0, 20.0], [0.0, 60.0, 20.0, 20.0]


def entry(image_id, box=BOX, score=0.5):
    return {"image_id": image_id, "category_id": 1, "bbox": box, "score": score}


@pytest.fixture
def results():
    metric = DetectionResults()
    metric.update(3, [entry(3, score=0.9), entry(3, MISS)])
    metric.update(1, [entry(1)])
    metric.update(2, [])
    return metric


def test_results_come_by_image_with_those_that_were_looked_at_in_vain(results):
    assert results.gathered() == ([entry(1), entry(3, score=0.9), entry(3, MISS)], [1, 2, 3])
    assert results.compute() == results.gathered()


def test_an_image_that_is_seen_twice_counts_once(results):
    before = results.gathered()
    results.update(3, [entry(3, score=0.1)])
    results.update(2, [entry(2)])
    assert results.gathered() == before


def test_a_reset_forgets_everything(results):
    results.reset()
    assert results.gathered() == ([], [])
    results.update(5, [])
    assert results.gathered() == ([], [5])


def test_a_copy_and_a_pickled_one_go_their_own_way(results):
    for other in (copy.deepcopy(results), pickle.loads(pickle.dumps(results))):  # noqa: S301
        assert other.gathered() == results.gathered()
        other.update(9, [entry(9)])
        assert other.gathered()[1] == [1, 2, 3, 9] and results.gathered()[1] == [1, 2, 3]


def test_a_task_moves_with_results_in_it(results):
    before = results.gathered()
    task = torch.nn.ModuleList([results]).to(torch.float64).to("cpu")
    assert len(list(task.modules())) == 2 and task.state_dict() == {}
    assert results.gathered() == before
    results.reset()
    assert results.gathered() == ([], [])


def test_results_of_another_image_are_refused():
    with pytest.raises(ValueError, match="A result of image 1 has image_id 2; expected 1"):
        DetectionResults().update(1, [entry(2)])
    with pytest.raises(ValueError, match="A result of image 1 has image_id None"):
        DetectionResults().update(1, [{"score": 1.0}])


# Two processes with a part of the results each, from a file; the scores as text, which keeps every digit.
RUN = """
import json, sys
import torch.distributed as dist
from heads.data.detection.annotations import Annotations
from heads.metrics import DetectionResults
from heads.metrics.detection import scores_of

rank, root = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{root}/store", rank=rank, world_size=2)
given = json.loads(open(f"{root}/given.json").read())
metric, truth = DetectionResults(), Annotations(**given["truth"])
for image_id, entries in given["seen"][rank]:
    metric.update(image_id, entries)
found = {"gathered": metric.gathered()}
for scorer in ("pycocotools", "faster_coco_eval"):
    scores = scores_of(metric.gathered(), truth, scorer=scorer)
    found[scorer] = [scores.values, scores.classes]
metric.update(99, [])
try:
    scores_of(metric.gathered(), truth)
except ValueError as error:
    found["error"] = str(error)
with open(f"{root}/found{rank}.json", "w") as file:
    json.dump(found, file)
dist.destroy_process_group()
"""


@pytest.fixture
def truth():
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 100, "width": 100} for i in range(6)]
    annotations = [
        {"id": i + 1, "image_id": i, "category_id": 1, "bbox": BOX, "area": 400, "iscrowd": 0} for i in range(6)
    ]
    return Annotations("truth.json", images, [{"id": 1, "name": "cell"}], annotations)


def test_two_processes_score_to_the_last_digit_what_one_does(truth, tmp_path):
    # equal scores, so that the order decides; image 4 was seen by both processes, image 1 twice by one of them
    found = {i: [entry(i, BOX if i % 2 else MISS), entry(i, [0.0, 0.0, 20.0, 17.0 + i / 7], 1 / 3)] for i in range(6)}
    seen = [[4, 2, 0, 1, 1], [5, 3, 4]]
    parts = [[(i, found[i]) for i in images] for images in seen]
    (tmp_path / "given.json").write_text(json.dumps({"truth": vars(truth), "seen": parts}))
    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, str(tmp_path / "run.py")]
    runs = [subprocess.Popen([*command, str(rank), str(tmp_path)], stderr=subprocess.PIPE) for rank in (0, 1)]
    errors = [run.communicate(timeout=120)[1].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    both = [json.loads((tmp_path / f"found{rank}.json").read_text()) for rank in (0, 1)]
    assert both[0] == both[1]

    alone = DetectionResults()
    for image_id, entries in found.items():
        alone.update(image_id, entries)
    assert both[0]["gathered"] == list(alone.gathered())
    for scorer in ("pycocotools", "faster_coco_eval"):
        scores = scores_of(alone.gathered(), truth, scorer=scorer)
        as_text = json.dumps([scores.values, scores.classes])  # NaN equals NaN as text
        assert json.dumps(both[0][scorer]) == as_text
        assert 0.1 < scores.values["AP"] < 0.9
    assert both[0]["error"].startswith("image_ids has 99")  # raised by the first process, heard by both
