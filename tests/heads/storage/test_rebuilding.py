import copy

import pytest
import torch

from heads import DepthTask, DetectionTask, Extractor, NormalsTask, SegmentationTask
from heads.storage.rebuilding import rebuilt

TINY = "siglip2_tiny_patch8_128"
FOUR = [0, 1, 2, 3]
TASKS = {
    "linear": (SegmentationTask, [3], {"classes": 3}),
    "dpt": (SegmentationTask, FOUR, {"classes": 3, "decoder": "dpt", "decoder_args": {"features": 16}}),
    "upernet": (SegmentationTask, FOUR, {"classes": 3, "decoder": "upernet", "decoder_args": {"features": 16}}),
    "segformer": (SegmentationTask, [3], {"classes": 3, "decoder": "segformer", "decoder_args": {"features": 16}}),
    "fpn": (SegmentationTask, [3], {"classes": 3, "decoder": "fpn", "decoder_args": {"features": 32}}),
    "windows": (
        SegmentationTask,
        [3],
        {"classes": ["a", "b"], "inference": "slide", "window": (32, 32), "scales": [1, 2]},
    ),
    "depth": (DepthTask, [3], {"decoder_args": {"batch_norm": False, "upsample": 4}}),
    "relative depth": (DepthTask, [3], {"output": "relative"}),
    "normals": (NormalsTask, [3], {"uncertainty": True}),
    "faster_rcnn": (DetectionTask, [3], {"classes": 3, "detector_args": {"features": 16, "anchor_scales": [2, 4]}}),
    "mask_rcnn": (DetectionTask, [3], {"classes": 3, "detector": "mask_rcnn", "detector_args": {"heads": "vitdet"}}),
    "retinanet": (DetectionTask, [3], {"classes": 3, "detector": "retinanet", "detector_args": {"features": 32}}),
    "fcos": (DetectionTask, [3], {"classes": 3, "detector": "fcos", "detector_args": {"features": 32}}),
    "set_prediction": (
        DetectionTask,
        [3],
        {"classes": 3, "detector": "set_prediction", "detector_args": {"dim": 16, "layers": 2, "queries": 5}},
    ),
}


@pytest.fixture(scope="module")
def backbones():
    torch.manual_seed(0)
    return {len(layers): Extractor(TINY, pretrained=False, layers=layers) for layers in ([3], FOUR)}


def stored(kind, backbones):
    """A new task, and what a checkpoint would hold of it."""
    cls, layers, args = TASKS[kind]
    task = cls(backbones[len(layers)], img_size=(48, 64), **args)
    return task, dict(task.hparams), task.card()


@pytest.mark.parametrize("kind", TASKS)
def test_every_task_is_rebuilt_as_it_was(backbones, kind):
    task, arguments, card = stored(kind, backbones)
    again = rebuilt(type(task), arguments, card, task.kept_state(), "x.ckpt", task.extractor)
    assert again.state_dict().keys() == task.state_dict().keys()
    for name, tensor in task.kept_state().items():
        assert torch.equal(again.kept_state()[name], tensor), name
    assert not any(tensor.is_meta for tensor in (*again.parameters(), *again.buffers()))
    assert dict(again.hparams) == dict(task.hparams)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("linear", {"decoder": "dpt", "decoder_args": {"features": 16_000}}),
        ("dpt", {"decoder_args": {"features": 10**12}}),
        ("dpt", {"decoder_args": {"widths": [10**9] * 4}}),
        ("linear", {"classes": 10_000_000}),
        ("set_prediction", {"detector_args": {"layers": 10**6, "dim": 16}}),
        ("set_prediction", {"detector_args": {"queries": 10**10, "dim": 16}}),
        ("relative depth", {"bins": 10**9}),
        ("linear", {"img_size": (10**9, 10**9)}),
        ("linear", {"img_size": (-48, 64)}),
        ("linear", {"img_size": (True, 64)}),
        ("linear", {"decoder_args": {"dropout": "x"}}),
        ("linear", {"decoder_args": {"upsample": 1e30}}),
        ("fpn", {"decoder_args": {"features": 0}}),
        ("linear", {"loss_args": {"class_weights": "x"}}),
        ("linear", {"decoder": "none"}),
        ("linear", {"decoder": ["linear"]}),
        ("linear", {"lr": "1"}),
        ("linear", {"lora": {"rank": 10**9}}),
        ("linear", {"surprise": 1}),
    ],
    ids=str,
)
def test_what_the_tensors_do_not_bear_out_costs_nothing(backbones, kind, change):
    task, arguments, card = stored(kind, backbones)
    with pytest.raises(ValueError, match=r"x\.ckpt|do not fit|more memory|features is|expected"):
        rebuilt(type(task), arguments | change, card, task.kept_state(), "x.ckpt", task.extractor)


def test_a_backbone_that_is_not_in_the_file_is_not_built(backbones):
    task, arguments, card = stored("linear", backbones)
    card = copy.deepcopy(card)
    card["backbone"]["name"] = "siglip2_giant_opt_patch16_384"  # 4.6 GB of random numbers
    with pytest.raises(ValueError, match=r"siglip2_giant_opt_patch16_384 has .* of shape .*, the file none"):
        rebuilt(type(task), arguments | {"tune": "full"}, card, task.kept_state(), "x.ckpt", None)


def test_a_large_backbone_of_random_weights_is_not_built(backbones, monkeypatch):
    task, arguments, card = stored("linear", backbones)
    arguments |= {"backbone": "siglip2_giant_opt_patch16_384", "layers": [39]}  # 4.6 GB of random numbers
    monkeypatch.setattr("heads.backbones.extractor.build_backbone", lambda *_: pytest.fail("the backbone was built"))
    with pytest.raises(ValueError, match=r"siglip2_giant_opt_patch16_384 with random weights, 4\.\d GB.*x\.ckpt"):
        rebuilt(type(task), arguments, card, task.kept_state(), "x.ckpt", None)


def test_errors_of_the_task_name_the_source(backbones):
    task, arguments, card = stored("linear", backbones)
    with pytest.raises(ValueError, match=r"^x\.ckpt: Colour of class 'a' is \[1, 2\]"):
        rebuilt(type(task), arguments | {"classes": {"a": [1, 2]}}, card, task.kept_state(), "x.ckpt", task.extractor)
    with pytest.raises(ValueError, match=r"^x\.ckpt: .*\[\]; expected block indices"):
        rebuilt(type(task), arguments | {"layers": []}, card, task.kept_state(), "x.ckpt", TINY)
    state = {name.replace("classifier", "other"): tensor for name, tensor in task.kept_state().items()}
    with pytest.raises(ValueError, match=r"^x\.ckpt: The head's tensors do not fit: missing \['decoder\.classifier"):
        rebuilt(type(task), arguments, card, state, "x.ckpt", task.extractor)


def test_no_file_starts_a_compiler(backbones, monkeypatch):
    monkeypatch.setattr(Extractor, "compile", lambda self: pytest.fail("a compiler was started"))
    task, arguments, card = stored("linear", backbones)
    monkeypatch.setattr(Extractor, "fingerprint", lambda self: card["backbone"]["fingerprint"])
    again = rebuilt(type(task), arguments | {"compile": True}, card, task.kept_state(), "x.ckpt", None)
    assert again.hparams["compile"] is False
