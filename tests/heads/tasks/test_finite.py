"""A head, a backbone or a file with values that are not finite: nothing is scored, predicted, loaded or exported."""

import json

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file, save_file

import heads
from heads import DepthTask, DetectionTask, GeneratedScenes, NormalsTask, SegmentationTask
from heads.outputs.results import ResultWriter
from heads.outputs.writer import PredictionWriter
from siglip2_backbone.files import file_sha256

SIZE = (48, 64)
DETECTORS = ["faster_rcnn", "mask_rcnn", "retinanet", "fcos", "set_prediction"]


@pytest.fixture
def scenes_data():
    return GeneratedScenes(SIZE, train_images=2, val_images=3, test_images=3, batch_size=2, num_workers=0)


@pytest.fixture
def build(checkpoint, scenes_data):
    def make(kind):
        torch.manual_seed(0)
        shared = {"warmup_steps": 2}
        name, _, option = kind.partition(" ")
        if name == "segmentation":
            more = {"slide": {"inference": "slide", "window": (32, 32)}, "sweep": {"sweep": {"lr": [1e-3, 1e-4]}}}
            return SegmentationTask(str(checkpoint), scenes_data.classes, SIZE, **shared, **more.get(option, {}))
        if name == "depth":
            output, _, flip = option.partition(" ")
            return DepthTask(str(checkpoint), SIZE, output=output, flip_test=bool(flip), **shared)
        if name == "normals":
            return NormalsTask(str(checkpoint), SIZE, uncertainty=True, flip_test=bool(option), **shared)
        small = {"dim": 32, "layers": 2, "queries": 5} if option == "set_prediction" else {"features": 64}
        more = {"detector": option, "detector_args": small}
        more |= {} if option == "set_prediction" else {"pyramid": "resample"}
        return DetectionTask(str(checkpoint), scenes_data.classes, SIZE, **shared, **more)

    return make


def spoilt(task, value, head=0):
    """The task, with one number of the last layer of a head replaced."""
    parts = getattr(task.decoders[head], "raw_outputs", [task.decoders[head]])
    parameter = [p for name, p in parts[-1].named_parameters() if name.endswith("bias")][-1]
    with torch.no_grad():
        parameter[-1] = value
    return task


MAP_TASKS = ["segmentation", "segmentation slide", "depth bins", "depth bins flip", "depth regression", "normals"]


@pytest.mark.parametrize(
    ("kind", "value", "stage"),
    [
        *((kind, float("nan"), "validate") for kind in MAP_TASKS),
        *((f"detection {name}", float("nan"), "test") for name in DETECTORS),
        *((kind, -float("inf"), "test") for kind in MAP_TASKS),  # of which a depth alone tells nothing
        ("segmentation", float("inf"), "validate"),
        ("depth regression", float("inf"), "validate"),
        ("detection retinanet", float("inf"), "validate"),
    ],
)
def test_no_split_is_scored_by_a_head_that_is_not_finite(build, scenes_data, trainer, kind, value, stage, tmp_path):
    task = spoilt(build(kind), value)
    scenes_data.setup(stage)
    loader = scenes_data.val_dataloader() if stage == "validate" else scenes_data.test_dataloader()
    paths = next(iter(loader))["path"]
    run = trainer(callbacks=[ResultWriter()])
    slide = "slide" in kind  # looks at one image after the other
    with pytest.raises(ValueError, match=f"head's output is infinite or not a number in {stage}, batch 0: ") as error:
        getattr(run, stage)(task, scenes_data, verbose=False)
    assert [str(path) in str(error.value) for path in paths] == [True, not slide]
    assert not list(tmp_path.rglob("results*.json"))


@pytest.mark.parametrize("kind", [*MAP_TASKS, "detection retinanet", "detection set_prediction"])
def test_nothing_is_predicted_by_a_head_that_is_not_finite(build, data, scenes, trainer, kind, tmp_path):
    task = spoilt(build(kind), float("nan"))
    run = trainer(callbacks=[PredictionWriter(str(tmp_path / "out"))])
    with pytest.raises(ValueError, match=r"not a number in predict, batch 0: .*0\.png"):
        run.predict(task, data, return_predictions=False)
    assert not (tmp_path / "out").exists()
    task.train()
    with pytest.raises(ValueError, match=rf"not a number in predict: .*{scenes.name}.*0\.png"):
        task.predict(scenes / "val" / "0.png")
    assert task.training


@pytest.mark.parametrize("kind", ["segmentation", "segmentation slide", "depth bins", "normals flip", "detection fcos"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_of_a_backbone_the_one_image_is_named(build, scenes_data, trainer, kind, value):
    task = build(kind)
    inner, seen = task.extractor.forward, []

    def forward(image):
        maps = inner(image)
        seen.append(len(image))
        if kind == "segmentation slide":  # the windows of an image after those of the other
            rows = range(len(image)) if len(seen) == 2 else ()
        else:
            rows = [1]
        for row in rows:
            maps[-1][row, 0, 0, 0] = value
        return maps

    task.extractor.forward = forward
    scenes_data.setup("validate")
    first, second = next(iter(scenes_data.val_dataloader()))["path"]
    with pytest.raises(ValueError, match="The backbone's output is infinite or not a number in validate") as error:
        trainer().validate(task, scenes_data, verbose=False)
    assert str(second) in str(error.value) and str(first) not in str(error.value)


def test_of_a_sweep_the_head_is_named(build, scenes_data, trainer):
    task = spoilt(build("segmentation sweep"), float("nan"), head=1)
    with pytest.raises(ValueError, match=r"output of the head .*0\.0001"):
        trainer().validate(task, scenes_data, verbose=False)


@pytest.mark.parametrize("kind", [*MAP_TASKS, "detection faster_rcnn", "detection set_prediction"])
def test_finite_heads_are_scored_and_no_hook_is_left(build, scenes_data, trainer, kind):
    task = build(kind)
    trainer().validate(task, scenes_data, verbose=False)
    assert not any(module._forward_hooks for module in task.modules())


@pytest.fixture
def run(task, data, trainer, tmp_path):
    """The checkpoint of a run, and a way to change its tensors."""
    saver = ModelCheckpoint(dirpath=tmp_path / "run", filename="best")
    trainer(max_epochs=1, callbacks=[saver]).fit(task, data)
    path = tmp_path / "run" / "best.ckpt"

    def spoil(value):
        content = torch.load(path, weights_only=True)
        name = next(name for name, t in content["state_dict"].items() if t.is_floating_point())
        content["state_dict"][name].view(-1)[0] = value
        torch.save(content, path)
        return name

    return path, spoil


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_that_is_not_finite_is_refused_by_its_tensor(run, task, data, trainer, tmp_path, value):
    path, spoil = run
    out = tmp_path / "exported"
    heads.export(path, out)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    name = spoil(value)
    for refused in (
        lambda: heads.load(path),
        lambda: heads.export(path, out),
        lambda: trainer().test(task, data, ckpt_path=path, verbose=False),
        lambda: trainer().fit(task, data, ckpt_path=path),
    ):
        with pytest.raises(ValueError, match=f"infinite or not a number in {name}; expected finite"):
            refused()
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_the_commands_checkpoints_name_their_file(run):
    from heads.storage.checkpoints import WholeCheckpointIO

    path, spoil = run
    assert WholeCheckpointIO().load_checkpoint(path)["state_dict"]
    name = spoil(float("nan"))
    with pytest.raises(ValueError, match=rf"best\.ckpt: values are infinite or not a number in {name}"):
        WholeCheckpointIO().load_checkpoint(path)


def test_an_exported_head_that_is_not_finite_is_refused(run, tmp_path):
    path, _ = run
    weights = heads.export(path, tmp_path / "exported")
    tensors = load_file(weights)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[-1] = -float("inf")
    save_file(tensors, weights)
    card = json.loads((weights.parent / "head.json").read_text())
    (weights.parent / "head.json").write_text(json.dumps(card | {"sha256": file_sha256(weights)}))
    with pytest.raises(ValueError, match=rf"head\.safetensors: values are .* in {name}"):
        heads.load(weights.parent)
