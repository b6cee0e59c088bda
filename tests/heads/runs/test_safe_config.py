import json
import sys

import pytest

import heads
from heads.cli import main
from heads.runs.configs import config_root
from heads.runs.safe_config import ADMITTED, check_safe

TASK = "model: {class_path: heads.SegmentationTask, init_args: {backbone: siglip2_tiny_patch8_128}}\n"
NAMED = [
    "model: {class_path: strange.Anything}",
    "model: strange.Anything",
    "model.class_path: strange.Anything",
    "data: {class_path: strange.Anything}",
    "trainer: {callbacks: [{class_path: strange.Anything}]}",
    "trainer: {callbacks+: {class_path: strange.Anything}}",
    "trainer: {callbacks: strange.Anything}",
    "trainer: {logger: [strange.Anything]}",
    "trainer: {strategy: strange.Anything}",
    "trainer: {plugins: '[{class_path: strange.Anything}]'}",
    "trainer: {profiler: ' strange.Anything '}",
    "trainer: strange.Anything",
    "results: {published: strange.Anything}",
    "results: {published: [{class_path: strange.Anything}]}",
    "checkpoint: strange.Anything",
    TASK[:-3] + ", decoder_args: {x: {class_path: strange.Anything}}}}",
    TASK.replace("siglip2_tiny_patch8_128", "{class_path: strange.Anything}"),
    TASK.replace("siglip2_tiny_patch8_128", "'{class_path: strange.Anything}'"),
    "trainer: {callbacks: [{class_path: heads.SegmentationTask, init_args: {x: {class_path: strange.Anything}}}]}",
    "model: {class_path: [strange.Anything]}",
    "trainer: {callbacks: Timer}",  # by the name alone
    "trainer: {callbacks: [{class_path: Timer}]}",
]


@pytest.fixture
def strange(tmp_path, monkeypatch):
    """A module that anybody could have put there; what it leaves when it is imported."""
    (tmp_path / "strange.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "ran"
    sys.modules.pop("strange", None)


@pytest.mark.parametrize("text", NAMED)
def test_what_is_not_on_the_list_is_refused_before_it_is_imported(strange, tmp_path, capsys, text):
    (tmp_path / "a.yaml").write_text(text)
    own = ["--config", "segmentation/generated_scenes", "--config", str(tmp_path / "a.yaml")]
    assert main(["fit", "--safe-config", *own]) == 2
    error = capsys.readouterr().err
    assert (
        "a.yaml sets" in error and "which --safe-config does not admit" in error and "heads.SegmentationTask" in error
    )
    assert not strange.exists()


def test_the_module_would_have_been_imported(strange, tmp_path):
    (tmp_path / "a.yaml").write_text(NAMED[4])
    assert main(["fit", "--config", "segmentation/generated_scenes", "--config", str(tmp_path / "a.yaml")]) == 2
    assert strange.exists()


@pytest.mark.parametrize("name", ["trainer.yaml", "./trainer.yaml", "more/trainer.json"])
def test_a_file_that_a_config_names_counts_as_what_is_in_it(strange, tmp_path, capsys, name):
    (tmp_path / "more").mkdir()
    (tmp_path / name).write_text(json.dumps({"callbacks": [{"class_path": "strange.Anything"}]}))
    (tmp_path / "more" / "a.yaml").write_text(f"trainer: {name}\n")
    own = ["--config", "segmentation/generated_scenes", "--config", str(tmp_path / "more" / "a.yaml")]
    assert main(["validate", "--safe-config", *own]) == 2
    assert "does not admit" in capsys.readouterr().err and not strange.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "strange.Anything"],
        ["--model=strange.Anything"],
        ["--trainer.callbacks+=strange.Anything"],
        ["--trainer.callbacks", "[{class_path: strange.Anything}]"],
        ["--trainer.logger.class_path", "strange.Anything"],
        ["--model.help", "strange.Anything"],
    ],
)
def test_arguments_keep_to_the_list_as_well(strange, capsys, arguments):
    assert main(["test", "--config", "segmentation/generated_scenes", *arguments, "--safe-config"]) == 2
    assert "the command line sets" in capsys.readouterr().err and not strange.exists()


def test_every_config_that_comes_along_passes():
    for path in config_root().rglob("*.yaml"):
        check_safe(["--config", str(path), "--ckpt_path", "best.ckpt", "--trainer.max_epochs=1", "--print_config"])
    check_safe(["--model.backbone", "resnet18.a1_in1k", "--data.classes", "[a.b, c]", "--data.root", "./data.v2"])


def test_the_list_is_every_task_and_data_module_and_all_of_it_exists():
    from lightning.pytorch import LightningDataModule, LightningModule

    own = {f"heads.{n}" for n in heads.__all__ if is_part(getattr(heads, n), (LightningDataModule, LightningModule))}
    assert own == {name for name in ADMITTED if name.startswith("heads.")}
    for name in ADMITTED - own:
        module, _, attribute = name.rpartition(".")
        assert isinstance(getattr(__import__(module, fromlist=[attribute]), attribute), type)


def is_part(thing, kinds):
    return isinstance(thing, type) and issubclass(thing, kinds)


@pytest.mark.parametrize("key", ["model.init_args.backbone", "data.init_args.classes", "ckpt_path"])
def test_text_that_may_have_dots_is_never_imported(strange, tmp_path, key):
    text = "model: {class_path: heads.SegmentationTask}\ndata: {class_path: heads.SegmentationFolder}\n"
    (tmp_path / "a.yaml").write_text(f"{text}{key}: strange.Anything\n")
    assert main(["fit", "--safe-config", "--config", str(tmp_path / "a.yaml")]) == 2
    assert not strange.exists()
