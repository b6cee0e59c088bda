"""`siglip2 demo` on a few scenes; what the whole run reaches stands in the README with its command."""

import json

import pytest
import torch

from heads.cli import main
from heads.data.images import read_image


@pytest.fixture
def demo(tmp_path, capsys):
    """Runs the demo on 16 scenes; gives what it wrote and what it said."""

    def run(name="demo", *arguments):
        assert main(["demo", "--scenes", "16", "--output", str(tmp_path / name), *arguments]) == 0
        return tmp_path / name, capsys.readouterr().out

    return run


def test_it_trains_tests_and_pictures_offline(demo):
    folder, said = demo()
    result = json.loads((folder / "results.json").read_text())
    assert result["protocol"]["images"] == 100 and result["backbone"]["source"] == "random"
    assert 0 < result["metrics"]["mIoU"] < 1
    assert {path.name for path in folder.iterdir()} == {"results.json", "scenes.png"}
    assert read_image(folder / "scenes.png").shape == (3, 4 * 192 + 3 * 4 + 48, 4 * 192 + 3 * 4)
    assert "weights are RANDOM at the start" in said and "siglip2 features PHOTO" in said


def test_the_same_seed_gives_the_same_numbers_and_picture(demo):
    (first, _), (second, _), (other, _) = demo("a"), demo("b"), demo("c", "--seed", "1")
    found, again, different = (json.loads((f / "results.json").read_text())["metrics"] for f in (first, second, other))
    assert found == again != different
    pictures = [read_image(folder / "scenes.png") for folder in (first, second)]
    assert torch.equal(*pictures)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--seed", "-1"], "seed is -1"), (["--scenes", "0"], "train_images is 0"), (["--output", "file"], "file")],
)
def test_what_cannot_be_done_is_said_before_anything_is_trained(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main(["demo", *arguments]) == 2
    assert message in capsys.readouterr().err
