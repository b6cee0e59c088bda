import pytest
import torch

from heads.cli import main
from siglip2_backbone import verification


@pytest.mark.parametrize("arguments", [[], ["--dtype", "float32", "--size", "64", "200"]], ids=str)
def test_a_checkpoint_agrees(checkpoint, capsys, arguments):
    assert main(["verify", str(checkpoint), *arguments]) == 0
    output = capsys.readouterr().out
    for row in ("embeddings", "block 0", "block 3", "last hidden state", "pooled"):
        assert row in output
    assert "128 x 128 px" in output and ("64 x 200 px" if arguments else "96 x 160 px") in output
    assert f"{checkpoint} agrees with transformers" in output and "differs" not in output.lower()


def test_a_tower_that_differs_ends_with_status_1(checkpoint, capsys, monkeypatch):
    build = verification.build_tower

    def wrong(*args, **kwargs):
        tower = build(*args, **kwargs)
        tower.attn_pool.mlp.act = torch.nn.GELU()
        return tower

    monkeypatch.setattr(verification, "build_tower", wrong)
    assert main(["verify", str(checkpoint)]) == 1
    output = capsys.readouterr().out
    assert "DIFFERS" in output and "in 2 of 14 outputs, first in pooled at 128 x 128 px" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "'gone' is not a file"),
        (["SOURCE", "--size", "100", "96"], "size is [100, 96]; expected height and width"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(checkpoint, capsys, arguments, message):
    assert main(["verify", *(a.replace("SOURCE", str(checkpoint)) for a in arguments)]) == 2
    assert message in capsys.readouterr().err
