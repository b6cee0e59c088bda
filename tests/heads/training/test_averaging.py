import pytest
import torch
from lightning.pytorch.callbacks import Callback

from heads import SegmentationTask
from heads.training.averaging import MovingAverage


def clone(state):
    return {name: tensor.detach().clone() for name, tensor in state.items()}


class ByHand(Callback):
    """The average from its definition, in float64; and what validation sees."""

    def __init__(self, decay):
        self.decay = decay
        self.steps = 0

    def on_train_start(self, trainer, pl_module):
        self.average = {k: v.double() for k, v in clone(pl_module.kept_state()).items()}

    def on_train_batch_end(self, trainer, pl_module, *args):
        if trainer.global_step > self.steps:
            self.steps = trainer.global_step
            for name, tensor in pl_module.kept_state().items():
                old, new = self.average[name], tensor.double()
                floating = tensor.is_floating_point()
                self.average[name] = self.decay * old + (1 - self.decay) * new if floating else new

    def on_validation_epoch_start(self, trainer, pl_module):
        self.validated = clone(pl_module.kept_state())


@pytest.fixture
def fit(checkpoint, data, trainer):
    def run(**options):
        torch.manual_seed(0)
        task = SegmentationTask(str(checkpoint), data.classes, (48, 64), warmup_steps=2, lr=1e-2, **options)
        watcher = ByHand(0.9)
        fitted = trainer(callbacks=[watcher], accumulate_grad_batches=2)
        fitted.fit(task, data)
        return task, watcher, fitted

    return run


@pytest.mark.parametrize("tune", ["frozen", "full"])
def test_the_average_is_the_one_by_hand(fit, tune):
    task, watcher, fitted = fit(ema_decay=0.9, tune=tune)
    plain, _, _ = fit(tune=tune)
    assert watcher.steps == fitted.global_step == 4  # one for two batches, and the odd one of each epoch
    kept, without = task.kept_state(), plain.kept_state()
    assert kept.keys() == watcher.average.keys()
    for name, tensor in kept.items():
        assert torch.allclose(tensor.double(), watcher.average[name], rtol=1e-5, atol=1e-8), name
        assert torch.equal(tensor, watcher.validated[name])
    assert any(not torch.equal(tensor, without[name]) for name, tensor in kept.items())


def test_a_frozen_backbone_is_not_copied(fit):
    callback = MovingAverage(0.9)
    task, _, fitted = fit(ema_decay=0.9)
    callback.on_fit_start(fitted, task)
    assert not any(name.startswith("extractor") for name in callback.average)


def test_a_resumed_run_ends_the_same(checkpoint, data, trainer, tmp_path):
    def new():
        torch.manual_seed(0)
        return SegmentationTask(str(checkpoint), data.classes, (48, 64), warmup_steps=2, lr=1e-2, ema_decay=0.9)

    class Saver(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    whole, resumed = new(), new()
    trainer(max_epochs=3, callbacks=[Saver()]).fit(whole, data)
    trainer(max_epochs=3).fit(resumed, data, ckpt_path=tmp_path / "0.ckpt")
    for name, tensor in whole.kept_state().items():
        assert torch.equal(tensor, resumed.kept_state()[name]), name


@pytest.mark.parametrize("run", ["validate", "test", "predict"])
def test_the_average_is_what_a_checkpoint_is_measured_with(checkpoint, data, trainer, tmp_path, run):
    class Saver(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / "saved.ckpt")

    class Watcher(Callback):
        def on_validation_batch_start(self, trainer, pl_module, *args):
            self.seen = clone(pl_module.kept_state())

        on_test_batch_start = on_predict_batch_start = on_validation_batch_start

    def new():
        return SegmentationTask(str(checkpoint), data.classes, (48, 64), warmup_steps=2, lr=1e-2, ema_decay=0.9)

    task, watcher = new(), Watcher()
    trainer(max_epochs=1, callbacks=[Saver()]).fit(task, data)
    measured = trainer(callbacks=[watcher])
    getattr(measured, run)(new(), datamodule=data, ckpt_path=tmp_path / "saved.ckpt")
    for name, tensor in task.kept_state().items():
        assert torch.equal(tensor, watcher.seen[name]), name


@pytest.mark.parametrize("decay", [0, 1, -1, 2])
def test_decays_out_of_range_are_refused(decay):
    with pytest.raises(ValueError, match="expected above 0 and below 1"):
        MovingAverage(decay)
