import os
import subprocess
import sys

import pytest

from heads.cli import COMMANDS, main
from heads.runs.messages import plain


def test_help_imports_nothing_heavy():
    code = "import sys, heads.cli\ntry: heads.cli.main(['--help'])\nexcept SystemExit: pass\nprint(sorted(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert all(name in output for name in COMMANDS)
    assert not any(f"'{name}'" in output for name in ("torch", "timm", "lightning", "numpy", "rich"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    usage, _, _ = capsys.readouterr().out.partition("\n")
    assert usage.startswith("usage: siglip2 ") and command in usage


def test_unknown_command_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["fot"])
    assert "predict" in capsys.readouterr().err


def test_models_has_a_row_for_each(capsys):
    from siglip2_backbone import VARIANTS

    assert main(["models"]) == 0
    output = capsys.readouterr().out
    assert all(f" {v.name} " in output and (v.hub_id or "random") in output for v in VARIANTS.values())
    assert "1163.2" in output


def test_traceback_on_request(monkeypatch, capsys):
    assert main(["export", "gone.ckpt", "out"]) == 2
    assert capsys.readouterr().err.startswith("siglip2 export: No file gone.ckpt; expected")
    monkeypatch.setenv("SIGLIP2_TRACEBACK", "1")
    with pytest.raises(ValueError, match="gone"):
        main(["export", "gone.ckpt", "out"])


def test_wrapping_is_taken_off_messages():
    worker = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File x"
    assert plain(f"{worker}\nValueError: bad.png is bad\n") == "bad.png is bad"
    union = (
        "Does not validate against any of the Union subtypes\nErrors:\n  - lr is 0\n  - Expected a <class 'NoneType'>"
    )
    assert plain(union) == "lr is 0"
    assert plain("two\nlines") == "two\nlines"


def test_an_error_of_another_type_from_a_worker_is_unwrapped_as_well():
    worker = "Caught X in DataLoader worker.\nOriginal Traceback (most recent call last):\n  File\nOSError: broken"
    text = f"{worker}\n\nThe above was the cause:\n  File\nheads.data.images.CorruptImageError: bad.png is\ndamaged\n"
    assert plain(text) == "bad.png is\ndamaged"


def test_the_package_runs_as_the_command():
    command = [sys.executable, "-m", "heads", "models"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "siglip2_base_patch16_256" in done.stdout


def test_a_config_is_utf8_whatever_the_locale_says(tmp_path):
    path = tmp_path / "Übung.yaml"
    path.write_text("data: {init_args: {classes: [Straße, Bäume, 道]}}  # Größe\n", encoding="utf-8")
    own = ["fit", "--config", "segmentation/folder_linear", "--config", str(path), "--print_config"]
    command = [sys.executable, "-m", "heads", *own]
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
    done = subprocess.run(command, capture_output=True, env=plain)
    assert done.returncode == 0, done.stderr.decode()
    assert rb"- Stra\xdfe" in done.stdout and rb"- \u9053" in done.stdout  # what this terminal cannot show
