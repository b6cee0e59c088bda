import json
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from heads.outputs.results import Published, ResultWriter


def test_result_file_says_what_was_measured_and_how(task, data, trainer, tmp_path, capsys):
    run = trainer(callbacks=[ResultWriter()])
    (metrics,) = run.test(task, data, verbose=False)
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["metrics"] == {name.removeprefix("test/"): value for name, value in metrics.items()}
    assert list(result["classes"]) == ["sky", "road", "car"]
    assert result["backbone"]["fingerprint"] == task.extractor.fingerprint()
    expected = {"img_size": [48, 64], "layers": [3], "norm": True, "pooled": False, "precision": "float32", "seed": 0}
    assert expected.items() <= result["protocol"].items()
    assert result["protocol"]["ignore_values"] == [7, 255] and result["training"]["lr"] == 1e-3
    assert result["protocol"]["split"] == "val" and result["protocol"]["images"] == 3
    assert {"torch", "timm", "siglip2-backbone"} <= result["versions"].keys()
    assert "road" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:No label of test has a pixel of 'unseen'")
def test_a_class_that_does_not_occur_has_no_score(checkpoint, data, trainer, tmp_path):
    from heads import SegmentationTask

    data.classes = data.classes | {"unseen": [1, 2, 3]}
    task = SegmentationTask(str(checkpoint), data.classes, (48, 64))
    task.decoder.classifier.bias.data[3] = -1e6  # never predicted either
    trainer(callbacks=[ResultWriter()]).test(task, data, verbose=False)
    assert json.loads((tmp_path / "results.json").read_text())["classes"]["unseen"] == {"IoU": None, "acc": None}


def test_a_split_with_nothing_to_score_is_refused(task, data, trainer, tmp_path):
    data.ignore_values = (0, 1, 2, 7)
    with pytest.raises(ValueError, match=r"Every label of the test split is ignored.*255"):
        trainer(callbacks=[ResultWriter()]).test(task, data, verbose=False)
    assert not (tmp_path / "results.json").exists()


def test_a_part_of_the_split_leaves_the_result_alone(task, data, trainer, tmp_path):
    (tmp_path / "results.json").write_text("whole")
    trainer(callbacks=[ResultWriter()], limit_test_batches=1).test(task, data, verbose=False)
    assert (tmp_path / "results.json").read_text() == "whole"


FIGURE = Published("mIoU", 41.6, "a paper, table 1")


def test_the_published_figure_stands_beside_the_own_one(task, data, trainer, tmp_path, capsys):
    (metrics,) = trainer(callbacks=[ResultWriter(FIGURE)]).test(task, data, verbose=False)
    found = json.loads((tmp_path / "results.json").read_text())["published"][0]
    difference = 100 * metrics["test/mIoU"] - 41.6
    assert found == {"metric": "mIoU", "value": 41.6, "source": "a paper, table 1"} | {
        "difference": pytest.approx(difference),
        "whole_split": True,
    }
    printed = capsys.readouterr().out
    assert "a paper, table 1" in printed and f"{difference:+.1f}" in printed and "Not comparable" not in printed


def test_a_part_of_a_published_split_is_said_not_to_be_comparable(task, data, trainer, tmp_path, capsys):
    data.protocol["images_published"] = 500
    trainer(callbacks=[ResultWriter(FIGURE)]).test(task, data, verbose=False)
    assert not json.loads((tmp_path / "results.json").read_text())["published"][0]["whole_split"]
    assert "Not comparable: 3 of 500 images" in capsys.readouterr().out


def test_a_score_that_there_is_not_is_not_compared(task, data, trainer, tmp_path, capsys):
    trainer(callbacks=[ResultWriter(Published("PQ", 50.0, "x"))]).test(task, data, verbose=False)
    assert json.loads((tmp_path / "results.json").read_text())["published"][0]["difference"] is None
    assert "No score is called PQ" in (printed := capsys.readouterr().out) and "mIoU" in printed


def test_damaged_files_are_named_once_in_warning_and_result_and_count_for_nothing(
    task, data, trainer, scenes, tmp_path, capsys
):
    root = shutil.copytree(scenes, tmp_path / "scenes")
    whole = trainer(callbacks=[ResultWriter()]).test(task, data, verbose=False)
    for split in ("train", "val"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / split / "9.png")
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / f"{split}annot" / "9.png")
        (root / split / "9.png").write_bytes(b"damaged")
    data.root, data.skip_corrupt = str(root), True
    run = trainer(callbacks=[ResultWriter(FIGURE)], max_epochs=2, num_sanity_val_steps=0)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert run.test(task, data, verbose=False) == whole
        run.fit(task, data)
    named = [str(w.message).split(" is ")[0] for w in warned if str(w.message).startswith("Skipped: ")]
    assert named == [f"Skipped: {root / split / '9.png'}" for split in ("val", "train", "val")]  # once in each stage
    result = json.loads((tmp_path / "results.json").read_text())
    assert len(result["skipped"]) == 1 and result["protocol"]["images"] == 4
    assert "Not comparable: 3 of 4 images" in capsys.readouterr().out


def test_names_of_classes_are_printed_as_they_are(checkpoint, data, trainer, capsys):
    from heads import SegmentationTask

    data.classes = {name: [0, 0, i] for i, name in enumerate(("[/sky]", "road[red]", ":car:"))}
    trainer(callbacks=[ResultWriter()]).test(SegmentationTask(str(checkpoint), data.classes, (48, 64)), data)
    printed = capsys.readouterr().out
    assert all(name in printed for name in data.classes)


def test_boxes_that_were_passed_over_are_not_called_images(checkpoint, coco_of_scenes, trainer, capsys):
    from heads import COCOFolder, DetectionTask

    path = coco_of_scenes / "annotations" / "val.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][2] = 0
    path.write_text(json.dumps(content))
    data = COCOFolder(str(coco_of_scenes), None, (48, 64), skip_invalid=True, num_workers=0)
    with pytest.warns(UserWarning, match="Skipped in test: annotation"):
        data.setup("test")
    task = DetectionTask(str(checkpoint), data.classes, (48, 64), detector_args={"features": 32}, pyramid="resample")
    figure = Published("AP", 41.6, "a paper, table 1")
    trainer(callbacks=[ResultWriter(figure)]).test(task, data, verbose=False)
    printed = capsys.readouterr().out
    assert "Not comparable: 3 of 3 images without 1 boxes" in printed and "1 boxes were skipped" in printed


def test_a_part_of_a_split_is_scored_on_the_terminal_alone(task, data, trainer, tmp_path, capsys):
    run = trainer(callbacks=[ResultWriter()], limit_test_batches=1)
    (metrics,) = run.test(task, data, verbose=False)
    printed = capsys.readouterr().out
    assert f"mIoU {100 * metrics['test/mIoU']:.2f} %\n" in printed and "results.json is left unchanged" in printed
    assert not (tmp_path / "results.json").exists()
