import pytest
import torch
from torch import nn

import heads
from heads import SegmentationTask
from heads.training.sweep import label, settings, without_sweep

GRID = {"lr": [1e-3, 1e-2], "weight_decay": [0.0, 0.5]}


def test_a_grid_is_every_pair_and_no_grid_is_one():
    assert settings(1.0, 2.0, None) == [{"lr": 1.0, "weight_decay": 2.0}]
    assert settings(1.0, 2.0, {"lr": [3, 4]}) == [{"lr": 3.0, "weight_decay": 2.0}, {"lr": 4.0, "weight_decay": 2.0}]
    assert [label(s) for s in settings(1, 1, GRID)] == [
        "lr=0.001,wd=0",
        "lr=0.001,wd=0.5",
        "lr=0.01,wd=0",
        "lr=0.01,wd=0.5",
    ]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({}, "sweep has the keys"),
        ({"momentum": [1]}, "sweep has the keys"),
        ({"lr": []}, "sweep.lr is"),
        ({"lr": 0.1}, "sweep.lr is"),
        ({"lr": [0.1, 0.1]}, "sweep.lr is"),
        ({"lr": ["a"]}, "sweep.lr is"),
        ({"lr": [float("nan")]}, "sweep.lr is"),
        ({"lr": [0.1, 0]}, "lr is 0"),
        ({"lr": [float("inf")]}, "lr is inf"),
        ({"weight_decay": [-1]}, "weight_decay is -1"),
    ],
)
def test_other_grids_are_refused(grid, message):
    with pytest.raises(ValueError, match=message):
        settings(1.0, 0.0, grid)


class Dropped(nn.Sequential):
    """A head that draws random numbers."""

    reduction = 8


@pytest.fixture
def train(checkpoint, data, trainer, monkeypatch):
    """Trains with a head that has dropout, and with clipping, both of which could couple the heads of a sweep."""

    def head(name, channels, reductions, classes):
        return Dropped(nn.BatchNorm2d(channels[0]), nn.Dropout(0.5), nn.Conv2d(channels[0], classes, 1))

    monkeypatch.setattr("heads.tasks.segmentation.build_decoder", head)
    monkeypatch.setattr(Dropped, "forward", lambda self, maps: nn.Sequential.forward(self, maps[0]))

    def run(**options):
        torch.manual_seed(3)
        task = SegmentationTask(str(checkpoint), data.classes, (48, 64), warmup_steps=2, **options)
        torch.manual_seed(4)
        fitted = trainer(gradient_clip_val=0.05)
        fitted.fit(task, data)
        return task, fitted

    return run


def test_each_head_ends_as_if_trained_alone_and_the_best_is_told(train, tmp_path):
    together, fitted = train(sweep=GRID)
    scores = []
    for head, setting in zip(together.decoders, together.settings, strict=True):
        alone, other = train(**setting)
        for name, tensor in alone.decoder.state_dict().items():
            assert torch.equal(tensor, head.state_dict()[name]), (setting, name)
        scores.append(float(other.callback_metrics["val/mIoU"]))
    assert together.sweep_scores == scores and together.best_head == scores.index(max(scores))
    assert float(fitted.callback_metrics["val/mIoU"]) == max(scores)
    assert len(set(scores)) > 1
    for setting, score in zip(together.settings, scores, strict=True):
        assert float(fitted.callback_metrics[f"val/mIoU/{label(setting)}"]) == score


def test_a_stored_sweep_loads_as_its_best_head(checkpoint, data, trainer, tmp_path):
    task = SegmentationTask(str(checkpoint), data.classes, (48, 64), warmup_steps=2, sweep=GRID)
    fitted = trainer()
    fitted.fit(task, data)
    fitted.save_checkpoint(tmp_path / "sweep.ckpt")
    best = heads.load(tmp_path / "sweep.ckpt")
    chosen = task.settings[task.best_head]
    assert best.hparams["sweep"] is None and (best.hparams["lr"], best.hparams["weight_decay"]) == tuple(
        chosen.values()
    )
    image = torch.rand(1, 3, 48, 64)
    assert torch.equal(best(image), task.eval()(image))
    again = SegmentationTask(str(checkpoint), data.classes, (48, 64), warmup_steps=2, sweep=GRID)
    scores = trainer().test(again, data, ckpt_path=tmp_path / "sweep.ckpt", verbose=False)[0]
    assert scores["test/mIoU"] == max(task.sweep_scores) and again.best_head == task.best_head
    alone = SegmentationTask(str(checkpoint), data.classes, (48, 64), warmup_steps=2)
    with pytest.raises(ValueError, match=r"was trained with sweep = {'lr': .*}, here None"):
        trainer().test(alone, data, ckpt_path=tmp_path / "sweep.ckpt")


def test_arguments_without_a_sweep_stay_as_they_are():
    assert without_sweep({"sweep": None}, {}, {"decoder.a": 1}) == ({"sweep": None}, {"decoder.a": 1})


def test_a_sweep_of_a_backbone_that_is_trained_is_refused(checkpoint):
    with pytest.raises(ValueError, match="A sweep shares one forward pass of a frozen backbone, but tune is 'full'"):
        SegmentationTask(str(checkpoint), 3, tune="full", sweep=GRID)
