"""How every task trains: frozen, fine-tuned or with adapters; what is refused."""

import json

import pytest
import torch

import heads
from heads import Extractor, SegmentationTask
from heads.decoders import DECODERS, LinearDecoder
from heads.storage.checkpoints import read_checkpoint
from heads.tasks.checkpointing import CARD


@pytest.fixture
def make(checkpoint, data):
    """Makes a task on the tiny checkpoint; keyword arguments go to it."""

    def build(**options):
        torch.manual_seed(0)
        return SegmentationTask(str(checkpoint), data.classes, (48, 64), **{"warmup_steps": 2} | options)

    return build


def copy(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before, module):
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


def test_a_frozen_backbone_is_bit_identical_after_an_epoch(make, data, trainer):
    task, image = make(), torch.rand(1, 3, 48, 64)
    before, maps = copy(task.extractor), task.extractor(image)
    trainer(max_epochs=1).fit(task, data)
    task.train()
    assert not task.extractor.backbone.training and not changed(before, task.extractor)
    assert torch.equal(task.extractor(image)[0], maps[0]) and not task.extractor(image)[0].requires_grad


def test_fine_tuning_changes_every_weight(make, data, trainer):
    task = make(tune="full", lr=1e-3)
    before = copy(task.extractor)
    trainer(max_epochs=1).fit(task, data)
    assert changed(before, task.extractor) == before.keys()
    task.train()
    assert task.extractor.backbone.training


def test_rates_of_a_fine_tuned_run_reach_the_optimiser(make, data, trainer):
    task = make(tune="full", lr=0.5, weight_decay=0.1, layer_decay=0.5)
    task.trainer = trainer()
    groups = task.configure_optimizers()["optimizer"].param_groups
    rate = {id(p): g["initial_lr"] for g in groups for p in g["params"]}
    assert len(rate) == sum(1 for p in task.parameters() if p.requires_grad)
    blocks = task.extractor.timm_model.blocks
    assert [rate[id(block.attn.qkv.weight)] for block in blocks] == [0.0625, 0.125, 0.25, 0.5]
    assert rate[id(task.decoder.classifier.weight)] == 0.5


def test_lora_changes_only_its_adapters(make, data, trainer):
    pytest.importorskip("peft")
    task, image = make(tune="lora", lora={"rank": 2}, lr=1e-2), torch.rand(1, 3, 48, 64)
    before, maps = copy(task.extractor), task.extractor(image)[0]
    assert torch.equal(maps, make().extractor(image)[0])  # nothing is added before training
    trainer(max_epochs=2).fit(task, data)
    found = changed(before, task.extractor)
    assert found == {name for name in before if ".lora_" in name} and len(found) == 4 * 4 * 2
    assert not torch.equal(task.extractor(image)[0], maps)


@pytest.mark.parametrize("options", [{"tune": "full"}, {"tune": "lora"}, {"tune": "full", "ema_decay": 0.9}])
def test_a_tuned_checkpoint_reloads_as_it_was(make, data, trainer, tmp_path, options):
    if options["tune"] == "lora":
        pytest.importorskip("peft")
    task, image = make(lr=1e-2, **options), torch.rand(1, 3, 48, 64)
    start = make().extractor.fingerprint()
    fitted = trainer(max_epochs=1)
    fitted.fit(task, data)
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    stored = read_checkpoint(tmp_path / "a.ckpt")
    assert stored[CARD]["backbone"]["fingerprint"] == start
    assert stored["state_dict"].keys() == task.kept_state().keys()
    expected = task.eval()(image)
    assert torch.equal(heads.load(tmp_path / "a.ckpt")(image), expected)
    heads.export(tmp_path / "a.ckpt", tmp_path / "head")
    assert torch.equal(heads.load(tmp_path / "head", task.extractor.arguments["backbone"])(image), expected)
    again = make(lr=1e-2, **options)
    trainer().test(again, data, ckpt_path=tmp_path / "a.ckpt", verbose=False)
    assert torch.equal(again.eval()(image), expected)


def test_a_fully_tuned_checkpoint_needs_the_first_weights_no_more(
    make, data, trainer, tmp_path, checkpoint, monkeypatch
):
    task = make(tune="full")
    fitted = trainer(max_epochs=1)
    fitted.fit(task, data)
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint.rename(tmp_path / "elsewhere")
    try:
        loaded = heads.load(tmp_path / "a.ckpt")
    finally:
        (tmp_path / "elsewhere").rename(checkpoint)
    image = torch.rand(1, 3, 48, 64)
    assert torch.equal(loaded(image), task.eval()(image))
    assert loaded.card()["backbone"]["fingerprint"] == task.card()["backbone"]["fingerprint"]


def test_a_checkpoint_of_another_tuning_or_tower_is_refused(make, data, trainer, tmp_path):
    fitted = trainer(max_epochs=1)
    fitted.fit(make(tune="full"), data)
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"was trained with .*tune = 'full', here 'frozen'"):
        trainer().test(make(), data, ckpt_path=tmp_path / "a.ckpt")
    other = SegmentationTask("vit_tiny_patch16_224", data.classes, (48, 64), layers=[3], pretrained=False, tune="full")
    with pytest.raises(ValueError, match=r"was trained on siglip2_tiny_patch8_128 .* this backbone is vit_tiny"):
        trainer().test(other, data, ckpt_path=tmp_path / "a.ckpt")


def test_a_checkpoint_of_another_task_is_refused(make, data, trainer, tmp_path):
    fitted = trainer(max_epochs=1)
    fitted.fit(make(), data)
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    stored = read_checkpoint(tmp_path / "a.ckpt")
    stored[CARD]["task"] = "depth"
    torch.save(stored, tmp_path / "b.ckpt")
    with pytest.raises(ValueError, match="holds a head for 'depth'; this task is 'segmentation'"):
        trainer().test(make(), data, ckpt_path=tmp_path / "b.ckpt")


def test_grad_checkpointing_and_compiling_change_no_number(make, data, monkeypatch):
    batch = {"image": torch.rand(2, 3, 48, 64), "mask": torch.randint(0, 3, (2, 48, 64))}
    gradients = []
    for options in ({}, {"grad_checkpointing": True}):
        task = make(tune="full", **options).train()
        task.loss(task(batch["image"]), batch).backward()
        gradients.append([p.grad for p in task.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-9) for a, b in zip(*gradients, strict=True))
    calls = []
    monkeypatch.setattr(torch, "compile", lambda f, **_: calls.append(f) or f)
    compiled = make(compile=True)
    assert torch.equal(compiled(batch["image"]), make()(batch["image"])) and len(calls) == 1


def test_a_tuned_backbone_in_bfloat16_keeps_float32_weights(make, data, trainer):
    task = make(tune="full", precision="bfloat16")
    inside = []
    task.extractor.timm_model.blocks[0].mlp.fc1.register_forward_hook(lambda m, i, out: inside.append(out.dtype))
    trainer(max_epochs=1).fit(task, data)
    assert set(inside) == {torch.bfloat16}
    assert {p.dtype for p in task.parameters()} == {torch.float32}


@pytest.mark.parametrize(("tune", "recorded"), [("full", "bf16-mixed"), ("frozen", "float32")])
def test_a_precision_of_the_trainer_is_recorded_where_it_reaches_the_backbone(make, data, trainer, tune, recorded):
    task, inside = make(tune=tune), []
    task.extractor.timm_model.blocks[0].mlp.fc1.register_forward_hook(lambda m, i, out: inside.append(out.dtype))
    trainer(precision="bf16-mixed").test(task, data, verbose=False)
    assert task.protocol()["precision"] == recorded
    assert set(inside) == {torch.float32 if tune == "frozen" else torch.bfloat16}


def test_accumulation_and_clipping_come_from_the_trainer(make, data, trainer):
    task = make()
    fitted = trainer(max_epochs=1, accumulate_grad_batches=3, gradient_clip_val=1.0)
    fitted.fit(task, data)
    assert fitted.global_step == 1


@pytest.mark.parametrize("sweep", [None, {"lr": [1e-3, 1e-2]}])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(make, data, trainer, monkeypatch, sweep):
    task, names = make(sweep=sweep), []
    before = copy(task.decoder)

    def loss(output, batch):
        names.extend(batch["path"])
        return output.sum() * float("nan")

    monkeypatch.setattr(task, "loss", loss)
    with pytest.raises(ValueError, match=r"is nan in epoch 0, batch 0: .*\.png") as error:
        trainer(num_sanity_val_steps=0).fit(task, data)
    assert all(name in str(error.value) for name in names)
    assert ("lr=0.001,wd=0.001, lr=0.01" in str(error.value)) == bool(sweep)
    assert not any("weight" in name or "bias" in name for name in changed(before, task.decoder))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0}, "lr is 0"),
        ({"lr": -1.0}, "lr is -1"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"weight_decay": -1}, "weight_decay -1"),
        ({"warmup_steps": -1}, "warmup_steps -1"),
        ({"layer_decay": 0.5}, "layer_decay is 0.5 but the backbone is frozen"),
        ({"layer_decay": 1.5, "tune": "full"}, "layer_decay is 1.5; expected above 0 and at most 1"),
        ({"grad_checkpointing": True}, "grad_checkpointing is for a backbone that is trained"),
        ({"lora": {"rank": 4}}, "lora is .* but tune is 'frozen'"),
        ({"tune": "lora", "lora": {"rnak": 4}}, "lora has no rnak"),
        ({"tune": "lora", "lora": {"rank": 0}}, "lora has rank 0"),
        ({"tune": "lora", "lora": {"rank": "4"}}, "lora is .* expected a whole number as rank"),
        ({"tune": "lora", "lora": {"rank": 2.5}}, "lora is .* expected a whole number as rank"),
        ({"tune": "lora", "lora": {"targets": "qkv"}}, "lora is .* a list of names as targets"),
        ({"tune": "lora", "lora": {"targets": ["gate"]}}, "No layer in the blocks of .* is called gate"),
        ({"tune": "all"}, "tune is 'all'; expected one of frozen, full, lora"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"ema_decay": -0.1}, "ema_decay is -0.1"),
        ({"schedule": "step"}, "schedule is 'step'"),
    ],
)
def test_what_is_out_of_range_or_contradicts_itself_is_refused(make, options, message):
    if "targets" in str(options):
        pytest.importorskip("peft")
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_an_unknown_option_is_refused(make):
    with pytest.raises(TypeError, match="learning_rate"):
        make(learning_rate=1.0)


def test_lora_without_peft_says_what_to_install(make, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ValueError, match=r"pip install 'siglip2-backbone\[lora\]'"):
        make(tune="lora")


def test_other_backbones_can_be_tuned_as_well(data, trainer):
    backbone = Extractor("resnet10t", layers=[-1], pretrained=False, tune="full")
    task = SegmentationTask(backbone, data.classes, (48, 64), layer_decay=0.7)
    before = copy(backbone)
    trainer(max_epochs=1).fit(task, data)
    assert any("running_mean" in name for name in changed(before, backbone))


class LastMap(LinearDecoder):
    def __init__(self, channels, reductions, out_channels):
        super().__init__(channels[-1:], reductions[-1:], out_channels)

    def forward(self, maps):
        return super().forward(maps[-1:])


@pytest.mark.parametrize("pyramid", ["resample", "sfp"])
def test_a_head_on_a_pyramid_trains_and_loads(make, data, trainer, tmp_path, monkeypatch, pyramid):
    monkeypatch.setitem(DECODERS, "last", LastMap)
    task = make(pyramid=pyramid, decoder="last", tune="frozen" if pyramid == "resample" else "full")
    before = copy(task)
    fitted = trainer(max_epochs=1)
    fitted.fit(task, data)
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    assert any("levels.3" in name for name in changed(before, task)) is (pyramid == "sfp")
    loaded, image = heads.load(tmp_path / "a.ckpt"), torch.rand(1, 3, 48, 64)
    assert loaded.extractor.reductions == [4, 8, 16, 32]
    torch.testing.assert_close(loaded(image), task.eval()(image))


def test_a_head_on_a_pyramid_does_not_read_the_same_blocks_without_one(make, monkeypatch):
    monkeypatch.setitem(DECODERS, "last", LastMap)
    pyramid, plain = make(pyramid="resample", decoder="last"), make(layers=[0, 1, 2, 3], decoder="last")
    assert pyramid.card()["backbone"] == plain.card()["backbone"] | {"name": "siglip2_tiny_patch8_128_pyramid"}
    with pytest.raises(ValueError, match=r"was trained with .*pyramid = 'resample', here None"):
        plain.check_card(pyramid.card(), "a head")


WINDOWS = {"window_size": 3, "global_blocks": [1, 3]}


@pytest.mark.parametrize("tune", ["frozen", "full"])
def test_a_head_on_windows_loads_with_them(make, data, trainer, tmp_path, tune):
    task, image = make(tune=tune, tower_args=WINDOWS), torch.rand(1, 3, 48, 64)
    fitted = trainer(max_epochs=1)
    fitted.fit(task, data)
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    expected = task.eval()(image)
    heads.export(tmp_path / "a.ckpt", tmp_path / "head")
    for source in (tmp_path / "a.ckpt", tmp_path / "head"):
        loaded = heads.load(source, None if tune == "full" else task.extractor.arguments["backbone"])
        assert loaded.protocol()["tower_args"] == WINDOWS and torch.equal(loaded(image), expected)


def test_a_head_on_windows_does_not_read_full_attention(make, data, trainer, tmp_path):
    windowed, full = make(tower_args=WINDOWS), make()
    assert windowed.card()["backbone"] == full.card()["backbone"]
    fitted = trainer(max_epochs=1)
    fitted.fit(windowed, data)
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    for stage in ("fit", "test"):
        with pytest.raises(ValueError, match=r"was trained with tower_args = .'window_size': 3.*here None"):
            getattr(trainer(), stage)(make(), data, ckpt_path=tmp_path / "a.ckpt")


def test_what_was_stored_before_there_were_windows_is_full_attention(make, data, trainer, tmp_path):
    fitted, image = trainer(max_epochs=1), torch.rand(1, 3, 48, 64)
    task = make()
    fitted.fit(task, data)
    fitted.save_checkpoint(tmp_path / "new.ckpt")
    heads.export(tmp_path / "new.ckpt", tmp_path / "head")
    stored = read_checkpoint(tmp_path / "new.ckpt")
    assert stored["hyper_parameters"].pop("tower_args") is stored[CARD]["reading"].pop("tower_args") is None
    torch.save(stored, tmp_path / "old.ckpt")
    card = json.loads((tmp_path / "head" / "head.json").read_text())
    assert card["arguments"].pop("tower_args") is card["reading"].pop("tower_args") is None
    (tmp_path / "head" / "head.json").write_text(json.dumps(card))
    expected = task.eval()(image)
    for source in (tmp_path / "old.ckpt", tmp_path / "head"):
        assert torch.equal(heads.load(source, task.extractor.arguments["backbone"])(image), expected)
    resumed = trainer(max_epochs=2)
    resumed.fit(make(), data, ckpt_path=tmp_path / "old.ckpt")
    assert resumed.current_epoch == 2
    with pytest.raises(ValueError, match=r"was trained with tower_args = None, here .'window_size': 3"):
        trainer(max_epochs=2).fit(make(tower_args=WINDOWS), data, ckpt_path=tmp_path / "old.ckpt")
