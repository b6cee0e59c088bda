"""Check values from a file against the declared types of arguments; nothing is converted."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_MOST_VALUES = 100_000  # of all arguments together; a task with the 1203 classes of LVIS has 5000
_LARGEST = 2**53  # larger whole numbers are not exact in JSON


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a declared type; a list passes for a tuple, and a whole number for a float."""
    origin, inside = get_origin(kind), get_args(kind)
    if kind is Any or origin in (Union, UnionType):
        return kind is Any or any(fits(value, one) for one in inside)
    if origin is Literal:
        return isinstance(value, str) and value in inside
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(fits(k, inside[0]) and fits(v, inside[1]) for k, v in value.items())
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and _items_fit(value, inside, fixed=origin is tuple)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is (NoneType if kind is None else kind)


def _items_fit(items: Sequence[Any], inside: tuple[Any, ...], *, fixed: bool) -> bool:
    if not fixed or inside[-1] is ...:
        return all(fits(item, inside[0]) for item in items)
    return len(items) == len(inside) and all(fits(item, one) for item, one in zip(items, inside, strict=True))


def declared(made: Callable[..., Any]) -> dict[str, tuple[Any, bool]]:
    """Type of each argument, and whether it is needed, of a function or of a class with its bases."""
    found: dict[str, tuple[Any, bool]] = {}
    for function in _constructors(made):
        hints = get_type_hints(function)
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and name in hints:
                found.setdefault(name, (hints[name], parameter.default is parameter.empty))
    return found


def _constructors(made: Callable[..., Any]) -> list[Callable[..., Any]]:
    if not isinstance(made, type):
        return [made]
    own = made.__module__.partition(".")[0]
    bases = (base for base in made.__mro__ if base.__module__.partition(".")[0] == own)
    return [vars(base)["__init__"] for base in bases if "__init__" in vars(base)]


def check_types(values: Mapping[str, Any], made: Callable[..., Any], where: str) -> None:
    """Refuse values of another type than declared; undeclared names are left to the call.

    Raises:
        ValueError: A value is of another type.
    """
    kinds = declared(made)
    for name, value in values.items():
        if name in kinds and not fits(value, kinds[name][0]):
            expected = inspect.formatannotation(kinds[name][0])
            raise ValueError(f"{where}{name} is {shown(value)}; expected {expected}")


def check_plain(content: Any, where: str, *, finite: bool = True, deepest: int = 12) -> None:
    """Refuse anything but numbers, texts, lists and objects, and too many of them.

    Args:
        content: Content of a file; it may contain itself.
        where: Its name in messages.
        finite: Refuse NaN and infinity as well.
        deepest: Largest number of nested levels.

    Raises:
        ValueError: It holds another type, too many values or too many levels.
    """
    level, count = [(where, content)], 0
    for _ in range(deepest):
        inside: list[tuple[str, Any]] = []
        for name, value in level:
            if isinstance(value, dict | list | tuple):
                count += len(value)
                if count > _MOST_VALUES:
                    raise ValueError(f"{where} holds more than {_MOST_VALUES} values")
                inside += _named(name, value)
            else:
                _check_value(name, value, finite)
        if not inside:
            return
        level = inside
    raise ValueError(f"{where} is nested more than {deepest} levels deep")


def _named(name: str, value: dict[Any, Any] | Sequence[Any]) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(f"{name}[{i}]", one) for i, one in enumerate(value)]
    if odd := [key for key in value if type(key) is not str]:
        raise ValueError(f"{name} has the key {shown(odd[0])}; expected a text")
    return [(f"{name}.{key}", one) for key, one in value.items()]


def _check_value(name: str, value: Any, finite: bool) -> None:
    if value is not None and type(value) not in (bool, int, float, str):
        raise ValueError(f"{name} is a {type(value).__name__}; expected plain data")
    if type(value) is int and abs(value) > _LARGEST:
        raise ValueError(f"{name} is a whole number beyond {_LARGEST}")
    if finite and type(value) is float and not math.isfinite(value):
        raise ValueError(f"{name} is {value}; expected a finite number")


def shown(value: Any) -> str:
    """A value in a message, of any size."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or endless nesting
        text = f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= 80 else f"{text[:77]}..."
