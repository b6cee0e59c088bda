import random
import re

import pytest
from jsonargparse import get_loader

from heads.cli import main
from heads.runs.configs import config_root
from heads.runs.yaml_files import parse_yaml, read_yaml

CONFIGS = sorted(config_root().rglob("*.yaml"))


def test_the_configs_that_come_along_are_read_as_before():
    assert len(CONFIGS) > 40
    for path in CONFIGS:
        assert read_yaml(path) == get_loader("yaml")(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "has the key 'a' a second time"),
        ("x:\n  a: 1\n  'a': 2\n", 3, "has the key 'a' a second time"),
        ("x: {a: 1, b: {a: 1}, a: 2}", 1, "has the key 'a' a second time"),
        ("- 1: x\n  0x1: y\n", 2, "has the key '0x1' a second time"),
        ("yes: 1\ntrue: 2\n", 2, "has the key 'true' a second time"),
        ("a: &x [1]\nb: 2\n", 1, r"has an anchor or alias \(x\)"),
        ("a: 1\nb: *x\n", 2, r"has an anchor or alias \(x\)"),
        ("a:\n  " + "[" * 60, 2, "nested too deeply; expected at most 50"),
        ("a:\n" + "[" * 100_000, 2, "nest"),
        ("a: " + "9" * 500, 1, "a number of 500 characters"),
        ("a: !!python/object/apply:os.system [ls]", 1, "not YAML of plain data"),
        ("a: !!bool x", 1, "'x', which is not a valid bool"),
        ("a: !!float ''", 1, "'', which is not a valid float"),
        ("a: [1, 2", 2, "not YAML of plain data"),
        ("a: 1\n---\nb: 2\n", 2, "not YAML of plain data"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_with_its_place(tmp_path, text, line, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"a\.yaml, line {line}, .*{message}"):
        read_yaml(path)


def test_equal_keys_of_different_mappings_are_none():
    assert parse_yaml("{a: {a: 1}, b: [{a: 1}, {a: 2}], '1': 0, 1: 0}") == {
        "a": {"a": 1},
        "b": [{"a": 1}, {"a": 2}],
        "1": 0,
        1: 0,
    }


def test_other_encodings_and_sizes_are_named(tmp_path):
    (tmp_path / "a.yaml").write_bytes("a: 1\nb: Straße\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.yaml, line 2, is not UTF-8"):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("#" * 1_000_001)
    with pytest.raises(ValueError, match=r"b\.yaml has 1000001 bytes"):
        read_yaml(tmp_path / "b.yaml")
    (tmp_path / "c.yaml").write_bytes(b"\xef\xbb\xbfa: 1")  # as some editors begin a file
    assert read_yaml(tmp_path / "c.yaml") == {"a": 1}


def test_four_hundred_mutated_configs_are_read_or_refused():
    source = random.Random(0)
    text = "\n".join(path.read_text(encoding="utf-8") for path in CONFIGS[:3]).replace("\n---", "")
    pieces = [
        "&a ",
        "*a",
        "? ",
        "!!set ",
        "!!omap ",
        "!!binary x",
        "!!int ''",
        "{",
        "[",
        "<<: ",
        "\t",
        "\0",
        "'",
        "|",
        "%",
    ]
    refused = 0
    for _ in range(400):
        start = source.randrange(len(text) - 300)
        changed = text[start : start + 300]
        for _ in range(source.randrange(1, 4)):
            at = source.randrange(len(changed))
            changed = changed[:at] + source.choice(pieces) + changed[at + source.randrange(3) :]
        try:
            found = parse_yaml(changed, "x")
        except ValueError as error:
            assert str(error).startswith("x") and not isinstance(error, UnicodeError)
            refused += 1
        else:
            assert found == get_loader("yaml")(changed)
    assert 100 < refused < 400


@pytest.mark.parametrize("how", ["--config", "--trainer", "-c="])
def test_every_way_to_the_command_line_goes_by_the_reader(tmp_path, capsys, how):
    path = tmp_path / "a.yaml"
    path.write_text("max_epochs: 1\nmax_epochs: 2\n")
    given = [how + str(path)] if how.endswith("=") else [how, str(path)]
    assert main(["fit", "--config", "segmentation/generated_scenes", *given]) == 2
    assert re.search(r"a\.yaml, line 2, has the key 'max_epochs' a second time", capsys.readouterr().err)


def test_a_file_that_a_config_names_is_read_alike(tmp_path, capsys):
    (tmp_path / "trainer.yaml").write_text("max_epochs: 1\nmax_epochs: 2\n")
    (tmp_path / "a.yaml").write_text("trainer: trainer.yaml\n")
    assert main(["fit", "--config", "segmentation/generated_scenes", "--config", str(tmp_path / "a.yaml")]) == 2
    assert "has the key 'max_epochs' a second time" in capsys.readouterr().err
