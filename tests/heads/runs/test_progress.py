"""Progress of a run whose output is a file."""

import pytest

from heads.runs import progress
from heads.runs.progress import LineProgress


@pytest.fixture
def said(trainer, task, data, capsys):
    def run(**options):
        trainer(callbacks=[LineProgress()], enable_progress_bar=True, **options).fit(task, data)
        return capsys.readouterr().out.splitlines()

    return run


def test_lines_say_where_a_run_is(said, monkeypatch):
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    lines = said()
    assert any(line.startswith("epoch 1 of 2, batch 2 of 3, train/loss ") for line in lines)
    assert any(line.startswith("validation, batch 1 of 2") for line in lines)
    assert any(line.startswith("epoch 2 of 2 finished, train/loss ") and "val/mIoU 0." in line for line in lines)


def test_a_short_run_says_nothing(said):
    assert not [line for line in said() if "batch" in line]


def test_test_and_predict(trainer, task, data, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    runner = trainer(callbacks=[LineProgress()], enable_progress_bar=True)
    runner.test(task, data, verbose=False)
    runner.predict(task, data, return_predictions=False)
    lines = capsys.readouterr().out.splitlines()
    assert {"test, batch 2 of 2", "predict, batch 1 of 2"} <= {line for line in lines if "batch" in line}
