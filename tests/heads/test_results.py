import json

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


def test_a_split_with_nothing_to_score_has_no_mean(task, data, trainer, tmp_path, capsys):
    data.ignore_values = (0, 1, 2, 7)
    trainer(callbacks=[ResultWriter()]).test(task, data, verbose=False)
    assert json.loads((tmp_path / "results.json").read_text())["metrics"]["mIoU"] is None
    assert "mIoU - %" in capsys.readouterr().out
