"""Which checkpoints a run leaves; the score of these runs falls from epoch to epoch."""

import shutil

import pytest
import torch
from lightning.pytorch import LightningModule
from torch.utils.data import DataLoader

from heads.runs.saver import RunCheckpoint
from heads.storage.checkpoints import WholeCheckpointIO
from heads.tasks.checkpointing import CARD


class Falling(LightningModule):
    """One weight, and a score that is best in the first epoch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, batch_idx):
        return (self.weight - batch).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/score", torch.tensor(1.0 / (1 + self.current_epoch)))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.1)

    def on_save_checkpoint(self, checkpoint):
        checkpoint[CARD] = {}

    def loader(self):
        return DataLoader(torch.ones(2), batch_size=1)


@pytest.fixture
def fit(trainer, tmp_path):
    """Fits for some epochs; gives the epoch and the weight in each checkpoint of the folder."""

    def run(epochs, folder="checkpoints", ckpt_path=None, task=None, saver=None, **options):
        saver = saver or RunCheckpoint(
            tmp_path / folder, "best", "val/score", mode="max", save_last=True, save_on_train_epoch_end=True
        )
        task = task or Falling()
        fitted = trainer(max_epochs=epochs, callbacks=[saver], plugins=[WholeCheckpointIO()], **options)
        fitted.fit(task, task.loader(), task.loader(), ckpt_path=ckpt_path, weights_only=True)
        files = sorted((tmp_path / folder).glob("*.ckpt"))
        return {path.name: torch.load(path, weights_only=True) for path in files}, saver

    return run


def test_last_is_the_last_epoch_whatever_the_score(fit):
    found, saver = fit(30)
    assert {name: checkpoint["epoch"] for name, checkpoint in found.items()} == {"best.ckpt": 0, "last.ckpt": 29}
    assert saver.best_model_score == 1


def test_a_run_that_stops_and_goes_on_keeps_its_best(fit, tmp_path):
    whole, _ = fit(6, "whole")
    fit(3)
    resumed, saver = fit(6, ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert saver.best_model_score == 1 and resumed.keys() == whole.keys()
    for name in whole:
        assert resumed[name]["epoch"] == whole[name]["epoch"]
        assert torch.equal(resumed[name]["state_dict"]["weight"], whole[name]["state_dict"]["weight"])
        assert str(resumed[name]["optimizer_states"]) == str(whole[name]["optimizer_states"])


def test_a_moved_folder_goes_on_with_its_own_best(fit, tmp_path):
    fit(2)
    shutil.move(tmp_path / "checkpoints", tmp_path / "moved")
    found, saver = fit(4, "moved", ckpt_path=tmp_path / "moved" / "last.ckpt")
    assert found["best.ckpt"]["epoch"] == 0 and found["last.ckpt"]["epoch"] == 3 and len(found) == 2
    assert saver.best_model_path == str(tmp_path / "moved" / "best.ckpt")


def test_the_leftovers_of_a_killed_first_epoch_are_overwritten(fit, tmp_path):
    fit(1)
    (tmp_path / "checkpoints" / "last.ckpt").unlink()  # killed after best was written, and before last
    assert fit(2)[0].keys() == {"best.ckpt", "last.ckpt"}


def test_several_best_ones_are_kept_under_names_of_their_own(fit, tmp_path):
    saver = RunCheckpoint(tmp_path / "checkpoints", "best", "val/score", mode="max", save_last=True, save_top_k=3)
    found, _ = fit(5, saver=saver)
    epochs = {name: checkpoint["epoch"] for name, checkpoint in found.items()}
    assert epochs == {"best.ckpt": 0, "best-v1.ckpt": 1, "best-v2.ckpt": 2, "last.ckpt": 4}


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
@pytest.mark.parametrize("option", [{"check_val_every_n_epoch": 4}, {"limit_val_batches": 0}])
def test_an_epoch_without_a_score_has_a_last_too(fit, option):
    assert fit(3, **option)[0]["last.ckpt"]["epoch"] == 2


def test_a_smoke_run_leaves_nothing(fit, tmp_path):
    assert fit(1, fast_dev_run=True)[0] == {} and not list(tmp_path.rglob("*.ckpt"))


def test_the_state_has_the_name_that_older_checkpoints_use(fit):
    (key,) = fit(1)[0]["last.ckpt"]["callbacks"]
    assert key.startswith("ModelCheckpoint{'monitor': 'val/score'")


def test_last_is_no_link(tmp_path):
    with pytest.raises(ValueError, match="last is always a separate file"):
        RunCheckpoint(tmp_path, save_last="link")
