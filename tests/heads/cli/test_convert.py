import pytest
import timm
from transformers import AutoModel, SiglipVisionModel

from heads.cli import main
from siglip2_backbone import Siglip2VisionTransformer, create_backbone, fingerprint


@pytest.mark.parametrize("target", ["timm", "transformers", "siglip2"])
def test_what_is_printed_loads_what_was_written(target, checkpoint, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["convert", str(checkpoint), str(out), "--format", target]) == 0
    printed = capsys.readouterr().out
    expected = fingerprint(create_backbone(checkpoint, pooled=True))
    assert expected in printed and expected == fingerprint(create_backbone(out, pooled=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    command = printed.partition("Load it with ")[2].strip().removeprefix("import siglip2_backbone; ")
    if target == "transformers":
        assert command == f'AutoModel.from_pretrained("{out}")'
        assert isinstance(AutoModel.from_pretrained(out), SiglipVisionModel)
    else:
        assert command == f'timm.create_model("local-dir:{out}", pretrained=True)'
        model = timm.create_model(f"local-dir:{out}", pretrained=True)
        assert isinstance(model, Siglip2VisionTransformer) == (target == "siglip2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SOURCE", "taken", "--format", "timm"], "taken exists and is not an empty directory"),
        (["gone", "out", "--format", "timm"], "'gone' is not a file, directory or model name"),
        (["siglip2_tiny_patch8_128", "out", "--format", "timm"], "no published weights"),
        (["siglip2_base_patch16_256_sfp", "out", "--format", "timm"], "is a pyramid; expected a tower"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(checkpoint, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").touch()
    assert main(["convert", *(a.replace("SOURCE", str(checkpoint)) for a in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["taken", "x"]


def test_a_format_must_be_named(checkpoint, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["convert", str(checkpoint), str(tmp_path / "out")])
    assert "--format" in capsys.readouterr().err
