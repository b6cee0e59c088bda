import json

import pytest

from heads.results import ResultWriter


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
