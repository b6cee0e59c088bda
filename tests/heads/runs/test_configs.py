import pytest

from heads.cli import main
from heads.runs.configs import config_root, find_config, resolve_arguments

NAME = "segmentation/linear_camvid"


@pytest.mark.parametrize("name", [NAME, f"{NAME}.yaml"])
def test_found_by_name_from_anywhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == config_root() / f"{NAME}.yaml"


def test_the_working_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / f"{NAME}.yaml"
    own.parent.mkdir()
    own.touch()
    assert find_config(NAME).resolve() == own


def test_unknown_name_lists_those_that_come_along():
    with pytest.raises(ValueError, match=rf"No config nope here.*{NAME}"):
        find_config("nope")


@pytest.mark.parametrize("flags", [["--config", NAME], ["-c", NAME], [f"--config={NAME}"]])
def test_every_spelling_of_the_flag(flags):
    found = resolve_arguments(["--a", "1", *flags, "--b", "2"])
    assert found[:2] == ["--a", "1"] and found[-2:] == ["--b", "2"]
    assert found[-3].endswith(f"{NAME}.yaml")


@pytest.mark.parametrize("arguments", [[], ["--data.root", "x"], ["--ckpt_path=last"]], ids=str)
def test_a_run_of_which_nothing_says_what_it_is_is_told_how_to_say_it(arguments, capsys):
    assert main(["fit", *arguments]) == 2
    assert "No config is named; expected siglip2 fit --config NAME" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "found"), [("", "nothing"), ("- 1\n", "a list"), ("words\n", "a str"), ("3", "a int")]
)
def test_a_config_that_holds_no_settings(tmp_path, text, found):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    for arguments in (["--config", str(path)], [f"-c={path}"]):
        with pytest.raises(ValueError, match=rf"x\.yaml holds {found}; expected settings"):
            resolve_arguments(arguments)


def test_an_error_about_a_setting_names_the_configs(tmp_path, capsys):
    path = tmp_path / "x.yaml"
    path.write_text("trainer: {surprise: 1}\n")
    assert main(["fit", "--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert "surprise" in error and str(path) in error.splitlines()[-1]
