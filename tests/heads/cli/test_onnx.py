import onnxruntime
import pytest

from heads.cli import main

TINY = "siglip2_tiny_patch8_128"


def test_the_command_writes_a_checked_file_and_reports(tmp_path, capsys):
    path = tmp_path / "out" / "tower.onnx"
    command = ["onnx", TINY, str(path), "--random-weights", "--layers", "1", "-1", "--size", "64", "96"]
    assert main(command) == 0
    output = capsys.readouterr().out
    assert output.splitlines()[1].split() == ["output", "batch", "size", "[px]", "max", "abs", "rel", "L2"]
    assert "layer_1" in output and "64 x 96" in output and "multiples of 8 px" in output
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [o.name for o in session.get_outputs()] == ["layer_1", "layer_3", "pooled"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([TINY, "tower.onnx"], "has no published weights"),
        (
            [f"{TINY}_pyramid", "tower.onnx", "--random-weights"],
            f"is a pyramid; expected a tower, whose blocks can be selected one by one. Pass {TINY}.",
        ),
        ([TINY, "tower.pt", "--random-weights"], r"tower.pt; expected a name that ends in .onnx"),
        ([TINY, "tower.onnx", "--random-weights", "--size", "65"], "size is (65, 65); expected height and width"),
        ([TINY, "tower.onnx", "--random-weights", "--size", "8", "8", "8"], "size is [8, 8, 8]; expected"),
        ([TINY, "tower.onnx", "--random-weights", "--layers", "7"], "out_indices is [7]; expected block indices"),
    ],
    ids=str,
)
def test_what_cannot_be_exported_is_told(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["onnx", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
