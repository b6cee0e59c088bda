"""The only YAML reader: it refuses ambiguous YAML, and YAML that would take long to read."""

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

MODE = "unambiguous_yaml"
"""jsonargparse's ``parser_mode`` that reads with :func:`parse_yaml`."""

_MOST_BYTES = 1_000_000  # LVIS's 1203 classes take 20,000
_DEEPEST = 50
_LONGEST_NUMBER = 100  # characters; parsing time grows with their square

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> Any:
    """Read a UTF-8 YAML file as plain data.

    Raises:
        ValueError: The file cannot be read, is not YAML, or is refused by :func:`parse_yaml`.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path} has {path.stat().st_size} bytes; expected a config of at most {_MOST_BYTES}.")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}).") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}, is not UTF-8 ({error.reason}). Save it as UTF-8.") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str = "") -> Any:
    """Parse YAML to plain data, as jsonargparse does.

    Args:
        text: The YAML.
        name: Name of the file, for messages.

    Raises:
        ValueError: The text is not YAML, gives a key twice, has anchors or aliases, is too deep or too long, or holds
            more than plain data.
    """
    if len(text) > _MOST_BYTES:
        raise ValueError(f"{name or 'This YAML'} has {len(text)} characters; expected at most {_MOST_BYTES}.")
    try:
        _check(text, name)
        return get_loader("yaml")(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ValueError(f"{_place(name, mark)} is not YAML of plain data ({error.problem}).") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{name or 'This'} is not YAML ({' '.join(str(error).split())}).") from error
    except (LookupError, TypeError, OverflowError) as error:  # from a tag that does not fit its value
        raise ValueError(f"{name or 'This'} has a value that does not fit its tag ({error}).") from error


def _check(text: str, name: str) -> None:
    """Check the parser's events, which needs no recursion and builds no objects."""
    loader = _Loader(text)
    try:
        open_ones: list[tuple[set[Any], bool] | None] = []  # mapping: its keys, and if a key comes next; list: None
        while loader.check_event():
            event = loader.get_event()
            if isinstance(event, yaml.CollectionEndEvent):
                open_ones.pop()
            elif isinstance(event, yaml.NodeEvent):
                _refuse_anchor(event, name)
                _take(loader, event, open_ones, name)
    finally:
        loader.dispose()


def _take(loader: Any, event: Any, open_ones: list[tuple[set[Any], bool] | None], name: str) -> None:
    """Take a scalar, or the start of a list or mapping; note it as a key where one comes next."""
    value = _value(loader, event, name) if isinstance(event, yaml.ScalarEvent) else None
    if open_ones and open_ones[-1] is not None:
        keys, comes_next = open_ones[-1]
        if comes_next and isinstance(event, yaml.ScalarEvent):
            if value in keys:
                raise ValueError(
                    f"{_place(name, event.start_mark)} has the key {event.value!r} a second time in one mapping. "
                    "Remove one of them."
                )
            keys.add(value)
        open_ones[-1] = (keys, not comes_next)
    if isinstance(event, yaml.CollectionStartEvent):
        if len(open_ones) == _DEEPEST:
            raise ValueError(
                f"{_place(name, event.start_mark)} is nested too deeply; expected at most {_DEEPEST} levels."
            )
        open_ones.append((set(), True) if isinstance(event, yaml.MappingStartEvent) else None)


def _value(loader: Any, event: Any, name: str) -> Any:
    """The value of a scalar, because ``1`` and ``0x1`` are the same key."""
    tag = event.tag if event.tag not in (None, "!") else loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    if tag.endswith((":int", ":float")) and len(event.value) > _LONGEST_NUMBER:
        raise ValueError(
            f"{_place(name, event.start_mark)} has a number of {len(event.value)} characters; expected at most "
            f"{_LONGEST_NUMBER}."
        )
    if not tag.endswith((":int", ":float", ":bool")):
        return event.value
    try:
        return loader.construct_object(yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark))
    except (ValueError, LookupError, OverflowError) as error:
        kind = tag.rpartition(":")[2]
        raise ValueError(
            f"{_place(name, event.start_mark)} has {event.value!r}, which is not a valid {kind}."
        ) from error


def _refuse_anchor(event: Any, name: str) -> None:
    if event.anchor is not None:
        raise ValueError(
            f"{_place(name, event.start_mark)} has an anchor or alias ({event.anchor}); expected plain values. Write "
            "the value out at each place."
        )


def _place(name: str, mark: Any) -> str:
    """File and line of a mark, for messages; the command line has no file name."""
    line = f"line {mark.line + 1}" if mark else ""
    return f"{name}, {line}," if name and line else name or line or "This"


set_loader(MODE, parse_yaml, (ValueError,))
