"""Reader of untrusted JSON files: it returns the content or raises a ValueError."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_LARGEST = 32 * 2**20  # bytes; parsed JSON can take fifty times its size
_DEEPEST = 64  # levels; files of this library have at most six


def parse_json(text: str, *, unique: bool = False) -> Any:
    """Parse a text.

    Args:
        text: JSON.
        unique: Refuse duplicate keys in an object; Python keeps the last value.

    Raises:
        ValueError: The text is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_each_once if unique else None)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} occurs twice")
    return found


def read_json(path: Path, *, unique: bool = False) -> dict[str, Any]:
    """The object in a small JSON file, such as a config or an index.

    Args:
        path: The file.
        unique: See :func:`parse_json`.

    Raises:
        ValueError: The file is not a JSON object, or is too large or too deeply nested.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise ValueError(f"{size} bytes, expected at most {_LARGEST}")
        content = parse_json(path.read_text(encoding="utf-8"), unique=unique)
        _check_depth(content)
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON ({error}). Download or copy it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a JSON object.")
    return content


def _check_depth(content: Any) -> None:
    """Refuse content that is nested too deeply for the recursive code that reads it later.

    Raises:
        ValueError: It is nested too deeply.
    """
    level: list[Any] = [content]  # level by level: recursion would overflow here as well
    for _ in range(_DEEPEST):
        level = [value for item in level for value in _inside(item)]
        if not level:
            return
    raise ValueError(f"it is nested more than {_DEEPEST} levels deep")


def _inside(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()
