import json
from pathlib import Path

import pytest
import timm
import torch

from siglip2_backbone import fingerprint, onnx_export
from siglip2_backbone.onnx_export import export_onnx

NAME = "siglip2_tiny_patch8_128"


def features_of(**options):
    torch.manual_seed(0)
    return timm.create_model(NAME, features_only=True, depth=2, out_indices=[1, 0], pooled=True, **options)


@pytest.fixture(scope="module")
def program():
    """The graph, made once: it takes seconds."""
    return onnx_export._program(onnx_export._Outputs(features_of()).eval(), 8)


@pytest.fixture
def export(program, monkeypatch):
    monkeypatch.setattr(onnx_export, "_program", lambda *_: program)
    return lambda path, **options: export_onnx(features_of(), path, **options)


def test_the_report_covers_three_sizes_and_batches(export, tmp_path):
    report = export(tmp_path / "new" / "tower.onnx")
    assert [(a.output, a.batch, a.size) for a in report] == [
        (output, batch, size)
        for batch, size in [(1, (128, 128)), (2, (96, 192)), (3, (40, 64))]
        for output in ("layer_1", "layer_0", "pooled")
    ]
    assert all(0 < a.rel_l2 < 3e-6 and 0 < a.max_abs < 1e-4 for a in report)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["tower.onnx"]


def test_the_file_says_whose_weights_it_holds(export, tmp_path):
    import onnx

    export(tmp_path / "tower.onnx")
    model = onnx.load(tmp_path / "tower.onnx")
    card = {entry.key: entry.value for entry in model.metadata_props}
    assert card["model"] == NAME and card["source"] == "random"
    assert card["fingerprint"] == fingerprint(features_of())
    assert json.loads(card["mean"]) == json.loads(card["std"]) == [0.5, 0.5, 0.5]
    assert (card["patch"], json.loads(card["norm"])) == ("8", True)
    axes = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert axes == ["batch", 3, "8*rows", "8*columns"]


def test_the_file_has_no_path_of_this_machine(program, monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_export, "_program", lambda *_: program)
    features = features_of()
    features.model.pretrained_cfg["source"] = str(tmp_path / "weights")
    export_onnx(features, tmp_path / "tower.onnx")
    content = (tmp_path / "tower.onnx").read_bytes()
    package, libraries = Path(onnx_export.__file__).parent, Path(torch.__file__).parent
    assert not any(str(place).encode() in content for place in (package, libraries, tmp_path, Path.home(), Path.cwd()))
    assert b".py" not in content and b"weights" in content


def test_a_size_to_check_first(export, tmp_path):
    assert export(tmp_path / "tower.onnx", size=(64, 8))[0].size == (64, 8)
    for size in [(60, 64), (0, 8), (8, 8, 8)]:
        with pytest.raises(ValueError, match=r"size is .*expected height and width in multiples of 8 px"):
            export(tmp_path / "other.onnx", size=size)
    assert not (tmp_path / "other.onnx").exists()


def test_results_that_differ_leave_what_was_there(export, tmp_path):
    path = tmp_path / "tower.onnx"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match=r"tower\.onnx is not written: onnxruntime's .* differs .*at most 1\.0e-09"):
        export(path, tolerance=1e-9)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_not_a_number_is_no_agreement(program, monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_export, "_program", lambda *_: program)
    broken = features_of()
    inner = broken.forward_pooled
    monkeypatch.setattr(broken, "forward_pooled", lambda image: (inner(image)[0], inner(image)[1] * torch.nan))
    with pytest.raises(ValueError, match="differs from torch's by nan"):
        export_onnx(broken, tmp_path / "tower.onnx")
    assert not list(tmp_path.iterdir())


def test_weights_too_large_for_one_file_lie_beside_it(export, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 1000)
    export(tmp_path / "tower.onnx")
    sizes = {p.name: p.stat().st_size for p in tmp_path.iterdir()}
    assert sizes.keys() == {"tower.onnx", "tower.onnx.data"}
    assert sizes["tower.onnx.data"] > sizes["tower.onnx"]
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "tower.onnx", providers=["CPUExecutionProvider"])
    assert session.run(["pooled"], {"image": torch.zeros(1, 3, 8, 8).numpy()})[0].shape == (1, 96)


def test_other_types_than_float32_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"torch\.bfloat16 on cpu; expected float32 on the CPU"):
        export_onnx(features_of().bfloat16(), tmp_path / "tower.onnx")


def test_a_place_that_cannot_be_written_is_told(export, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"tower\.onnx cannot be written"):
        export(tmp_path / "file" / "tower.onnx")


def test_a_missing_package_is_told_with_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"needs onnxscript, .*pip install 'siglip2-backbone\[onnx\]'"):
        export_onnx(features_of(), tmp_path / "tower.onnx")


def test_windows_are_cut_alike_at_every_size(tmp_path):
    # 13 x 17, 10 x 25 and 4 x 8 cells: ONNX rounds a negative quotient up, which would count too few windows
    torch.manual_seed(0)
    features = timm.create_model(NAME, features_only=True, depth=1, window_size=6, global_blocks=[])
    report = export_onnx(features, tmp_path / "tower.onnx", size=(104, 136))
    assert len(report) == 3 and all(a.rel_l2 < 3e-6 for a in report)
