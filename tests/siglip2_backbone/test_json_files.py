import json
import re
from pathlib import Path

import pytest

import heads
import siglip2_backbone
from siglip2_backbone.json_files import parse_json, read_json


def test_what_is_json_is_read(tmp_path):
    content = {"a": [1, 2.5, None], "b": {"c": "ä"}}
    (tmp_path / "x.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    assert read_json(tmp_path / "x.json") == content


@pytest.mark.parametrize("depth", [70, 5_000, 100_000])
@pytest.mark.parametrize("kind", ["list", "object"])
def test_deep_nesting_is_answered(tmp_path, kind, depth):
    opening, closing = {"list": ("[", "]"), "object": ('{"a":', "}")}[kind]
    (tmp_path / "x.json").write_text(opening * depth + "0" + closing * depth)
    with pytest.raises(ValueError, match=r"x\.json is not readable JSON \(it is nested .*deep.*copy it again"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"{", "not readable"), (b"[1]", "holds a list"), (b"\xff", "not readable"), (b"null", "holds a NoneType")],
)
def test_what_is_no_object_is_refused(tmp_path, content, found):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\.json.*{found}"):
        read_json(tmp_path / "x.json")


def test_a_file_too_large_for_what_it_is_is_refused_unread(tmp_path):
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(2**40)  # a hole: it takes no room on the disk, and would take 1 TiB of memory
    with pytest.raises(ValueError, match="1099511627776 bytes, expected at most"):
        read_json(tmp_path / "x.json")


def test_a_key_that_occurs_twice_is_refused_where_that_is_asked_for():
    text = '{"a": 1, "b": {"c": 1, "c": 2}}'
    assert parse_json(text) == {"a": 1, "b": {"c": 2}}
    with pytest.raises(ValueError, match="'c' occurs twice"):
        parse_json(text, unique=True)


def test_no_other_reader_of_json_is_left():
    for package in (heads, siglip2_backbone):
        for path in Path(package.__file__).parent.rglob("*.py"):
            if path.name != "json_files.py":
                assert not re.search(r"\bjson\.loads?\(", path.read_text(encoding="utf-8")), path
