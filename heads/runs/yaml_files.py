"""The one reader of YAML: refuses what would be read in two ways, and what would take long to read."""

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

MODE = "unambiguous_yaml"
"""jsonargparse's ``parser_mode`` that reads by :func:`parse_yaml`."""

_MOST_BYTES = 1_000_000  # LVIS's 1203 classes take 20,000
_DEEPEST = 50
_LONGEST_NUMBER = 100  # characters: the time for a number grows with their square

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> Any:
    """Plain data of a YAML file in UTF-8.

    Raises:
        ValueError: The file cannot be read, is no YAML, or is refused by :func:`parse_yaml`.
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
    """Plain data of YAML, as jsonargparse reads it.

    Args:
        text: The YAML.
        name: Of the file, for messages.

    Raises:
        ValueError: It is no YAML, gives a key twice, has anchors or aliases, is too deep or too long, or holds more
            than plain data.
    """
    if len(text) > _MOST_BYTES:
        raise ValueError(f"{name or 'This YAML'} has {len(text)} characters; expected at most {_MOST_BYTES}.")
    try:
        _check(text, name)
        return get_loader("yaml")(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ValueError(f"{_place(name, mark)} is no YAML of plain data ({error.problem}).") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{name or 'This'} is no YAML ({' '.join(str(error).split())}).") from error
    except (LookupError, TypeError, OverflowError) as error:  # of a tag that does not fit its value
        raise ValueError(f"{name or 'This'} has a value that its tag does not fit ({error}).") from error


def _check(text: str, name: str) -> None:
    """Go through the events, which need no recursion and build nothing."""
    loader = _Loader(text)
    try:
        open_ones: list[tuple[set[Any], bool] | None] = []  # of each mapping its keys, and whether a key comes next
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
    """A scalar, or the beginning of a list or mapping: note it as a key where one comes next."""
    value = _value(loader, event, name) if isinstance(event, yaml.ScalarEvent) else None
    if open_ones and open_ones[-1] is not None:
        keys, comes_next = open_ones[-1]
        if comes_next and isinstance(event, yaml.ScalarEvent):
            if value in keys:
                raise ValueError(
                    f"{_place(name, event.start_mark)} has the key {event.value!r} a second time in one mapping. "
                    "Remove the one that is not meant."
                )
            keys.add(value)
        open_ones[-1] = (keys, not comes_next)
    if isinstance(event, yaml.CollectionStartEvent):
        if len(open_ones) == _DEEPEST:
            raise ValueError(f"{_place(name, event.start_mark)} is nested deeper than {_DEEPEST} levels.")
        open_ones.append((set(), True) if isinstance(event, yaml.MappingStartEvent) else None)


def _value(loader: Any, event: Any, name: str) -> Any:
    """What a scalar stands for: ``1`` and ``0x1`` are one key."""
    tag = event.tag if event.tag not in (None, "!") else loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    if tag.endswith((":int", ":float")) and len(event.value) > _LONGEST_NUMBER:
        raise ValueError(f"{_place(name, event.start_mark)} has a number of {len(event.value)} characters.")
    if not tag.endswith((":int", ":float", ":bool")):
        return event.value
    try:
        return loader.construct_object(yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark))
    except (ValueError, LookupError, OverflowError) as error:
        kind = tag.rpartition(":")[2]
        raise ValueError(f"{_place(name, event.start_mark)} has {event.value!r}, which is no {kind}.") from error


def _refuse_anchor(event: Any, name: str) -> None:
    if event.anchor is not None:
        raise ValueError(
            f"{_place(name, event.start_mark)} has an anchor or alias ({event.anchor}); expected every value where it "
            "belongs. Write it out."
        )


def _place(name: str, mark: Any) -> str:
    """Where in a file; without one, as on the command line, there is one line."""
    line = f"line {mark.line + 1}" if mark else ""
    return f"{name}, {line}," if name and line else name or line or "This"


set_loader(MODE, parse_yaml, (ValueError,))
