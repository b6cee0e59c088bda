import json
import resource
import shutil
import signal
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file

import heads
from heads import Extractor, SegmentationTask
from heads.decoders import LinearDecoder
from heads.outputs.results import ResultWriter
from heads.storage.model_card import model_card
from heads.tasks.checkpointing import CARD


@pytest.fixture(scope="module")
def after_an_epoch():
    """Filled by the first test that trains: the task, and the folder of its checkpoint."""
    return []


@pytest.fixture
def trained(after_an_epoch, task, data, trainer, tmp_path, tmp_path_factory):
    """A task after one epoch, and a copy of its checkpoint that can be resumed from."""
    if not after_an_epoch:
        folder = tmp_path_factory.mktemp("run")
        saver = ModelCheckpoint(dirpath=folder, filename="best", save_last=True)
        trainer(max_epochs=1, callbacks=[saver]).fit(task, data)
        after_an_epoch += [task.eval(), folder]
    shutil.copytree(after_an_epoch[1], tmp_path / "run")
    return after_an_epoch[0], tmp_path / "run" / "last.ckpt"


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
        heads.load(tmp_path / "head", backbone=checkpoint),
        SegmentationTask.load_from_checkpoint(path),
    ):
        assert torch.equal(again.predict(picture), expected)
        assert again.colours == task.colours and again.img_size == task.img_size


def test_an_export_names_no_place_of_this_machine_and_asks_for_the_weights(trained, checkpoint, tmp_path):
    folder = heads.export(trained[1], tmp_path / "head").parent
    assert not any(str(place).encode() in p.read_bytes() for p in folder.iterdir() for place in (checkpoint, tmp_path))
    assert read_card(folder)["backbone"]["source"] == checkpoint.name
    asked = rf"head was trained on siglip2_tiny_patch8_128 with the weights of '{checkpoint.name}' \(fingerprint \w+\)"
    with pytest.raises(ValueError, match=rf"{asked}, which were local files: pass backbone= with their path"):
        heads.load(folder)


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
        with pytest.raises(ValueError, match=r"was trained with (precision|layers|norm) = .*, here"):
            heads.load(trained[1], backbone=extractor)


@pytest.mark.parametrize("other", [{"layers": [0]}, {"norm": False}])
def test_pooled_towers_are_not_pruned_so_their_settings_are_compared(checkpoint, data, trainer, tmp_path, other):
    task = SegmentationTask(str(checkpoint), data.classes, (48, 64), pooled=True)
    saver = ModelCheckpoint(dirpath=tmp_path, save_last=True)
    trainer(max_epochs=1, callbacks=[saver], limit_val_batches=0).fit(task, data)
    extractor = Extractor(str(checkpoint), pooled=True, **other)
    assert extractor.fingerprint() == task.extractor.fingerprint()
    with pytest.raises(ValueError, match=r"was trained with (precision|layers|norm) = .*, here"):
        heads.load(tmp_path / "last.ckpt", backbone=extractor)


def test_resuming_with_other_arguments_is_refused(trained, checkpoint, data, trainer):
    with pytest.raises(ValueError, match=r"The run to resume had lr = 0.001, now 1.0"):
        task = SegmentationTask(str(checkpoint), data.classes, (48, 64), warmup_steps=2, lr=1.0)
        trainer().fit(task, data, ckpt_path=trained[1])


@pytest.mark.parametrize("other", [{"batch_size": 3}, {"seed": 5}])
def test_resuming_in_another_order_is_refused_and_measuring_is_not(trained, data, trainer, other):
    for name, value in other.items():
        setattr(data, name, value)
    task = heads.load(trained[1])
    path = without_callbacks(trained[1])
    trainer(enable_checkpointing=False).test(task, data, ckpt_path=path, verbose=False)
    with pytest.raises(ValueError, match=r"The run to resume had data\.(seed|batch_size) = \d, now \d"):
        trainer(enable_checkpointing=False).fit(task, data, ckpt_path=path)


def without_callbacks(path):
    """The checkpoint for a trainer that has not the saver which wrote it."""
    torch.save(torch.load(path, weights_only=True) | {"callbacks": {}}, path)
    return path


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
    content[CARD]["task"] = "weather"
    torch.save(content, trained[1])
    with pytest.raises(ValueError, match="holds a head for 'weather'"):
        trainer().fit(trained[0], data, ckpt_path=trained[1])
    with pytest.raises(ValueError, match="'weather'; this version knows segmentation, depth, normals"):
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
        with pytest.raises(ValueError, match=r"text\.ckpt is not a readable checkpoint"):
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


def read_card(folder):
    return json.loads((folder / "head.json").read_text())


def test_an_export_says_what_it_is_and_how_it_was_validated(trained, tmp_path):
    task, path = trained
    heads.export(path, tmp_path / "head")
    card = read_card(tmp_path / "head")
    assert card["task"] == "segmentation" and card["classes"] == task.colours
    assert card["backbone"]["fingerprint"] == task.extractor.fingerprint()
    assert card["metrics"].keys() == {"val/mIoU", "val/mAcc", "val/pixel_acc"}
    expected = {"data": "SegmentationFolder", "split": "val", "images": 3, "seed": 0, "ignore_values": [7, 255]}
    expected |= {"img_size": [48, 64], "decoder": "linear", "layers": [3], "norm": True, "folders": ["val", "valannot"]}
    assert expected.items() <= card["protocol"].items()
    assert "test" not in card and card["arguments"]["lr"] == 1e-3


def test_scores_of_other_weights_or_of_a_part_are_not_passed_off(task, data, trainer, tmp_path):
    run = trainer(max_epochs=2, check_val_every_n_epoch=2, limit_val_batches=1)
    run.fit(task, data)
    run.save_checkpoint(tmp_path / "validated.ckpt")
    run.fit_loop.max_epochs = 3
    run.fit(task, data)
    run.save_checkpoint(tmp_path / "trained_on.ckpt")
    validated, trained_on = (torch.load(tmp_path / f"{n}.ckpt", weights_only=True) for n in ("validated", "trained_on"))
    assert validated[CARD]["metrics"] and validated[CARD]["protocol"]["limit_val_batches"] == 1
    assert trained_on["global_step"] > validated["global_step"]
    assert trained_on[CARD]["metrics"] == {} and "split" not in trained_on[CARD]["protocol"]


def test_test_scores_are_added_if_they_are_of_exactly_this_checkpoint(trained, data, trainer, tmp_path):
    task, path = trained
    without_callbacks(path)
    run = trainer(callbacks=[ResultWriter()], enable_checkpointing=False, default_root_dir=path.parent)
    (found,) = run.test(task, data, ckpt_path=path, verbose=False)
    heads.export(path, tmp_path / "head")
    test = read_card(tmp_path / "head")["test"]
    assert test["metrics"]["mIoU"] == found["test/mIoU"] and test["protocol"]["split"] == "val"
    assert set(test["classes"]) == set(task.colours)
    torch.save(torch.load(path, weights_only=True) | {"more": 1}, path)  # another file at the same place
    heads.export(path, tmp_path / "other")
    assert "test" not in read_card(tmp_path / "other")
    for damaged in ("{", "[]", "{}"):
        (path.parent / "results.json").write_text(damaged)
        heads.export(path, tmp_path / "other")


def test_files_of_two_exports_are_not_mixed(trained, tmp_path):
    heads.export(trained[1], tmp_path / "head")
    content = torch.load(trained[1], weights_only=True)
    content["state_dict"] = {name: tensor + 1 for name, tensor in content["state_dict"].items()}
    torch.save(content, tmp_path / "other.ckpt")
    heads.export(tmp_path / "other.ckpt", tmp_path / "other")
    shutil.copy(tmp_path / "other" / "head.safetensors", tmp_path / "head")
    with pytest.raises(ValueError, match=r"damaged head \(head\.json belongs to another head\.safetensors\)"):
        heads.load(tmp_path / "head")


def contents(folder):
    return {path.name: path.read_bytes() if path.is_file() else None for path in folder.iterdir()}


def test_a_full_disk_leaves_the_earlier_export(trained, tmp_path):
    heads.export(trained[1], tmp_path / "head")
    before = contents(tmp_path / "head")
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # going over the limit is then an error, as on a full disk
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for bytes_left in (100, 2000):  # the weights or the description
            resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, limits[1]))
            with pytest.raises(ValueError, match=r"head.* cannot be written"):
                heads.export(trained[1], tmp_path / "head")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert contents(tmp_path / "head") == before


def test_what_is_in_the_way_of_an_export_stays(trained, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file"):
        heads.export(trained[1], tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    for name in ("head.safetensors", "head.json", "README.md"):
        (tmp_path / name[:6] / name).mkdir(parents=True)
        with pytest.raises(ValueError, match=rf"{name} is"):
            heads.export(trained[1], tmp_path / name[:6])
        assert [p.name for p in (tmp_path / name[:6]).iterdir()] == [name]


def test_a_page_that_somebody_wrote_is_not_replaced(trained, checkpoint, tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"README\.md is not as `siglip2 export` wrote it"):
        heads.export(trained[1], tmp_path / "project")
    assert contents(tmp_path / "project") == {"README.md": b"mine"}
    heads.export(trained[1], tmp_path / "head")
    heads.export(trained[1], tmp_path / "head")  # as it was written, it is
    page = tmp_path / "head" / "README.md"
    page.write_text(page.read_text().replace("---", "---\nlicense: mit", 1))
    with pytest.raises(ValueError, match="not as `siglip2 export` wrote it"):
        heads.export(trained[1], tmp_path / "head")
    assert "license: mit" in page.read_text()
    heads.load(tmp_path / "head", backbone=checkpoint)


def test_an_export_of_an_earlier_version_is_replaced_unless_it_was_edited(trained, tmp_path, monkeypatch):
    page = tmp_path / "head" / "README.md"
    for edited in (False, True):
        with monkeypatch.context() as earlier:
            earlier.setattr("heads.storage.export_page.model_card", lambda card: "What an earlier version wrote.")
            heads.export(trained[1], tmp_path / "head")
        if not edited:
            heads.export(trained[1], tmp_path / "head")
            assert page.read_text() == model_card(read_card(tmp_path / "head"))
            shutil.rmtree(tmp_path / "head")
    page.write_text("What an earlier version wrote. Mine.")
    with pytest.raises(ValueError, match="not as `siglip2 export` wrote it"):
        heads.export(trained[1], tmp_path / "head")


def test_the_page_of_an_export_is_that_of_its_card(trained, tmp_path):
    heads.export(trained[1], tmp_path / "head")
    assert (tmp_path / "head" / "README.md").read_text() == model_card(read_card(tmp_path / "head"))


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty cache of huggingface_hub, and no hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models--somebody--head"


def test_a_head_is_loaded_by_its_hub_id(trained, checkpoint, picture, offline, tmp_path, monkeypatch):
    commit = offline / "snapshots" / ("0" * 40)
    heads.export(trained[1], commit)
    for ref in ("main", "v2"):
        (offline / "refs").mkdir(exist_ok=True)
        (offline / "refs" / ref).write_text(commit.name)
    expected = trained[0].predict(picture)
    for hub_id in ("somebody/head", "somebody/head@v2", f"somebody/head@{commit.name}"):
        assert torch.equal(heads.load(hub_id, checkpoint).predict(picture), expected)
    with pytest.raises(ValueError, match=r"somebody/head@v3 is neither a path here nor complete in .* cache"):
        heads.load("somebody/head@v3")
    (tmp_path / "somebody" / "head").mkdir(parents=True)  # a path wins
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"somebody/head has no head\.safetensors"):
        heads.load("somebody/head")


@pytest.mark.parametrize("name", ["runs/best.ckpt", "head.safetensors", "a/b/c", "gone", Path("somebody/head")])
def test_what_is_no_hub_id_is_not_looked_for_there(offline, name):
    with pytest.raises(ValueError, match=rf"No file or directory {name}; expected a \.ckpt file"):
        heads.load(name)


@pytest.mark.parametrize(
    "edit",
    [
        lambda card: card["backbone"].pop("fingerprint"),
        lambda card: card.pop("reading"),
        lambda card: card["arguments"].update(learning_rate=1),
        lambda card: card.update(arguments=[1]),
        lambda card: card.update(task=["segmentation"]),
        lambda card: card.update(classes=3),
    ],
)
def test_a_description_by_other_hands_is_refused(trained, tmp_path, edit):
    heads.export(trained[1], tmp_path / "head")
    card = read_card(tmp_path / "head")
    edit(card)
    (tmp_path / "head" / "head.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"holds a damaged head|arguments that this version does not know"):
        heads.load(tmp_path / "head")
