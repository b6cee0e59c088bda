"""A user's own LightningDataModule, which derives from nothing of this library."""

import json

import pytest
import torch
from lightning.pytorch import LightningDataModule

import heads
from heads import DepthTask, DetectionTask, GeneratedScenes, NormalsTask, SegmentationTask
from heads.outputs.results import ResultWriter

REPORTED = {"describe", "skipped", "skips"}
TASKS = {
    SegmentationTask: set(),
    DepthTask: {"depth_range"},
    NormalsTask: {"depth_range"},
    DetectionTask: {"truth", "lvis", "masks"},
}


class Own(LightningDataModule):
    """Lends the batches and what it is given of the attributes of generated scenes."""

    def __init__(self, lent, names):
        super().__init__()
        self.lent = lent
        for name in names:
            setattr(self, name, getattr(lent, name))

    def setup(self, stage):
        self.lent.setup(stage)

    def train_dataloader(self):
        return self.lent.train_dataloader()

    def val_dataloader(self):
        return self.lent.val_dataloader()

    def test_dataloader(self):
        return self.lent.test_dataloader()


@pytest.fixture
def lent():
    return GeneratedScenes((48, 64), train_images=2, val_images=2, test_images=2, batch_size=2, num_workers=0)


@pytest.fixture
def build(checkpoint, lent):
    def make(kind):
        torch.manual_seed(0)
        classes = {"classes": lent.classes} if kind in (SegmentationTask, DetectionTask) else {}
        detector = {"detector_args": {"features": 32}, "pyramid": "resample"} if kind is DetectionTask else {}
        return kind(str(checkpoint), img_size=(48, 64), warmup_steps=1, **classes, **detector)

    return make


@pytest.mark.parametrize("kind", TASKS)
def test_it_is_trained_and_tested_on_like_the_librarys(build, kind, lent, trainer, tmp_path):
    data = Own(lent, TASKS[kind] | REPORTED)
    run = trainer(max_epochs=1, callbacks=[ResultWriter()])
    run.fit(build(kind), data)
    run.save_checkpoint(tmp_path / "end.ckpt")
    card = torch.load(tmp_path / "end.ckpt", weights_only=True)["siglip2_head"]
    assert card["protocol"]["data"] == "GeneratedScenes" and card["protocol"]["images"] == 2
    (scores,) = run.test(build(kind), data, verbose=False)
    (expected,) = trainer().test(build(kind), lent, verbose=False)
    assert scores == pytest.approx(expected, rel=0, abs=0, nan_ok=True)
    assert json.loads((tmp_path / "results.json").read_text())["protocol"]["data"] == "GeneratedScenes"
    assert heads.load(tmp_path / "end.ckpt").predict(torch.zeros(3, 48, 64, dtype=torch.uint8)) is not None


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in TASKS.items() for name in sorted(names)])
def test_what_it_lacks_is_named_before_the_first_batch(build, kind, name, lent, trainer):
    task, data = build(kind), Own(lent, TASKS[kind] - {name})
    shown = f"{name}()" if callable(getattr(lent, name)) else name
    for run in (trainer().fit, trainer().validate, trainer().test):
        with pytest.raises(ValueError) as error:
            run(task, data)
        assert str(error.value).startswith(f"Own has no {shown}; expected a data module for {kind.task} with ")
    assert not task.metrics and task.global_step == 0


def test_it_is_trained_on_without_a_report(build, lent, trainer, tmp_path):
    run = trainer(max_epochs=1)
    run.fit(build(SegmentationTask), Own(lent, set()))
    run.save_checkpoint(tmp_path / "end.ckpt")
    assert "data" not in torch.load(tmp_path / "end.ckpt", weights_only=True)["siglip2_head"]["protocol"]


@pytest.mark.parametrize("name", sorted(REPORTED))
def test_a_result_file_needs_the_report(build, lent, trainer, name):
    with pytest.raises(ValueError, match=f"^Own has no {name}.*; expected a data module for results.json with desc"):
        trainer(callbacks=[ResultWriter()]).test(build(SegmentationTask), Own(lent, REPORTED - {name}))


def test_predicting_reads_nothing_of_it(build, lent, trainer, scenes):
    class Photos(LightningDataModule):
        def predict_dataloader(self):
            lent.predict_images = str(scenes / "val")
            lent.setup("predict")
            return lent.predict_dataloader()

    assert len(trainer().predict(build(DepthTask), Photos())[0]) == 2


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_plain_loaders_need_no_data_module_but_detection_is_scored_against_one(build, lent, trainer):
    lent.setup("fit")
    loaders = lent.train_dataloader(), lent.val_dataloader()
    trainer(max_epochs=1).fit(build(SegmentationTask), *loaders)
    trainer(max_epochs=1).fit(build(DetectionTask), loaders[0])
    with pytest.raises(ValueError, match=r"^There is no data module; expected a data module for detection with lvis"):
        trainer().validate(build(DetectionTask), loaders[1])
    with pytest.raises(
        ValueError, match=r"^There is no data module; expected a data module for results\.json with desc"
    ):
        trainer(callbacks=[ResultWriter()]).test(build(SegmentationTask), loaders[1])
