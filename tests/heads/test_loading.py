import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file

import heads
from heads import Extractor, SegmentationTask
from heads.base import CARD
from heads.decoders import LinearDecoder


@pytest.fixture
def trained(task, data, trainer, tmp_path):
    """A task after one epoch, and the checkpoint that can be resumed from."""
    saver = ModelCheckpoint(dirpath=tmp_path / "run", filename="best", save_last=True)
    trainer(max_epochs=1, callbacks=[saver]).fit(task, data)
    return task.eval(), tmp_path / "run" / "last.ckpt"


@pytest.fixture
def picture():
    return torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_checkpoint_holds_the_head_and_names_the_backbone(trained, checkpoint):
    task, path = trained
    content = torch.load(path, weights_only=True)
    assert content["state_dict"].keys() == task.kept_state().keys()
    assert not any("extractor" in name for name in content["state_dict"])
    assert content[CARD]["backbone"] == {
        "name": "siglip2_tiny_patch8_128",
        "source": str(checkpoint),
        "fingerprint": Extractor(str(checkpoint)).fingerprint(),
    }
    assert content[CARD]["classes"] == task.colours


def size(tensors):
    return sum(t.numel() * t.element_size() for t in tensors.values())


def test_sizes_of_checkpoint_and_export(trained, tmp_path):
    task, path = trained
    head = size(task.kept_state())
    assert path.stat().st_size <= 3.1 * head + 64 * 1024
    assert heads.export(path, tmp_path / "head").stat().st_size <= 1.1 * head + 16 * 1024


def test_sizes_at_the_width_of_so400m_with_150_classes(task, data, trainer, tmp_path):
    task.decoder = LinearDecoder([1152], [8], 150)
    task.extractor.forward = lambda image: [torch.randn(len(image), 1152, 6, 8)]
    saver = ModelCheckpoint(dirpath=tmp_path, save_last=True)
    trainer(max_epochs=1, callbacks=[saver], limit_val_batches=0).fit(task, data)
    head = size(task.kept_state())
    assert head > 600_000
    assert (tmp_path / "last.ckpt").stat().st_size <= 3.1 * head + 64 * 1024
    assert heads.export(tmp_path / "last.ckpt", tmp_path / "head").stat().st_size <= 1.1 * head + 16 * 1024


def test_every_way_back_predicts_the_same(trained, checkpoint, picture, tmp_path):
    task, path = trained
    expected = task.predict(picture)
    heads.export(path, tmp_path / "head")
    extractor = Extractor(str(checkpoint))
    for again in (
        heads.load(path),
        heads.load(str(path), backbone=str(checkpoint)),
        heads.load(path, backbone=extractor),
        heads.load(tmp_path / "head"),
        SegmentationTask.load_from_checkpoint(path),
    ):
        assert torch.equal(again.predict(picture), expected)
        assert again.colours == task.colours and again.img_size == task.img_size


def test_export_is_the_head(trained, tmp_path):
    task, path = trained
    stored = load_file(heads.export(path, tmp_path / "head"))
    assert stored.keys() == task.kept_state().keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in task.kept_state().items())


def test_other_weights_are_refused_by_name(trained, other_checkpoint, tmp_path):
    heads.export(trained[1], tmp_path / "head")
    for source in (trained[1], tmp_path / "head"):
        with pytest.raises(ValueError, match=r"was trained on siglip2_tiny_patch8_128 from .*this backbone is .*other"):
            heads.load(source, backbone=str(other_checkpoint))


def test_another_precision_or_layer_is_refused(trained, checkpoint):
    for extractor in (Extractor(str(checkpoint), precision="bfloat16"), Extractor(str(checkpoint), layers=[2])):
        with pytest.raises(ValueError, match=r"was trained with the backbone's .*this task has"):
            heads.load(trained[1], backbone=extractor)


@pytest.mark.parametrize("other", [{"layers": [0]}, {"norm": False}])
def test_pooled_towers_are_not_pruned_so_their_settings_are_compared(checkpoint, data, trainer, tmp_path, other):
    task = SegmentationTask(str(checkpoint), data.classes, (48, 64), pooled=True)
    saver = ModelCheckpoint(dirpath=tmp_path, save_last=True)
    trainer(max_epochs=1, callbacks=[saver], limit_val_batches=0).fit(task, data)
    extractor = Extractor(str(checkpoint), pooled=True, **other)
    assert extractor.fingerprint() == task.extractor.fingerprint()
    with pytest.raises(ValueError, match=r"was trained with the backbone's .*this task has"):
        heads.load(tmp_path / "last.ckpt", backbone=extractor)


def test_resuming_with_other_arguments_is_refused(trained, checkpoint, data, trainer):
    with pytest.raises(ValueError, match=r"The run to resume had lr = 0.001, now 1.0"):
        task = SegmentationTask(str(checkpoint), data.classes, (48, 64), warmup_steps=2, lr=1.0)
        trainer().fit(task, data, ckpt_path=trained[1])


def test_a_backbone_that_has_moved_is_said_to_be_the_backbone(trained, tmp_path):
    content = torch.load(trained[1], weights_only=True)
    content["hyper_parameters"]["backbone"] = "moved/away"
    torch.save(content, trained[1])
    with pytest.raises(ValueError, match=r"moved/away.*pass backbone= if it has moved"):
        heads.load(trained[1])


def test_an_export_can_be_read_by_everybody_the_umask_lets(trained, tmp_path):
    other = tmp_path / "plain"
    other.touch()
    assert heads.export(trained[1], tmp_path / "head").stat().st_mode == other.stat().st_mode


def test_resuming_with_other_classes_or_another_task_is_refused(trained, checkpoint, data, trainer):
    with pytest.raises(ValueError, match=r"has the classes \['sky', 'road', 'car'\]; this task has \['a', 'b', 'c'\]"):
        trainer().fit(SegmentationTask(str(checkpoint), ["a", "b", "c"], (48, 64)), data, ckpt_path=trained[1])
    content = torch.load(trained[1], weights_only=True)
    content[CARD]["task"] = "depth"
    torch.save(content, trained[1])
    with pytest.raises(ValueError, match="holds a head for 'depth'"):
        trainer().fit(trained[0], data, ckpt_path=trained[1])
    with pytest.raises(ValueError, match="'depth'; this version knows segmentation"):
        heads.load(trained[1])


def test_tensors_that_do_not_fit_are_refused(task):
    state = task.kept_state()
    with pytest.raises(ValueError, match=r"(?s)do not fit.*size mismatch for decoder\.norm\.bias"):
        task.load_state_dict(state | {"decoder.norm.bias": torch.zeros(5)})
    with pytest.raises(ValueError, match=r"unexpected \['decoder\.more'\]"):
        task.load_state_dict(state | {"decoder.more": torch.zeros(5)})
    state.pop("decoder.norm.bias")
    with pytest.raises(ValueError, match=r"missing \['decoder\.norm\.bias'\]"):
        task.load_state_dict(state)


def test_damaged_and_foreign_files_are_refused(trained, tmp_path):
    path = trained[1]
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    for read in (heads.load, lambda source: heads.export(source, tmp_path / "out")):
        with pytest.raises(ValueError, match=r"text\.ckpt is no readable checkpoint"):
            read(tmp_path / "text.ckpt")
        with pytest.raises(ValueError, match=r"No file .*gone"):
            read(tmp_path / "gone.ckpt")
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty has no head\.safetensors"):
        heads.load(tmp_path / "empty")
    heads.export(path, tmp_path / "head")
    (tmp_path / "head" / "head.json").write_text("{")
    with pytest.raises(ValueError, match="damaged head"):
        heads.load(tmp_path / "head")
