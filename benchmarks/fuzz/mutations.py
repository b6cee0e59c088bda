"""Damage to bytes, JSON and lists; the same generator gives the same damage."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

_ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 3.5, 1e30, -1e30, 10**12, 10**30, float("nan"), float("inf"), "", "x", "x" * 5000),
    *(
        [],
        {},
        [1],
        [[]],
        {"a": 1},
        [None, 1],
        [10**9] * 4,
        {"": {"": []}},
        10**400,
        "../x",
        "a\0b",
        "\ud800",
        "~nobody-here/x",
    ),
]
_ODD_NAMES = (
    *(
        "",
        ".",
        "..",
        "../../etc/hostname",
        "/etc/hostname",
        "//etc/hostname",
        "~",
        "~nobody-here",
        "a/../../b",
        "None",
        "-1",
        "*",
        "%s",
    ),
    *("x" * 300, "x/" * 3000, "a\0b", "\ufeff", "a\u2028b", "C:\\x", "x\\..\\y", "\x85", "caf\u0065\u0301"),
)


def bytes_damaged(rng: random.Random, data: bytes) -> bytes:
    """Flip a bit, truncate, or insert, delete or overwrite bytes."""
    found, way = bytearray(data), rng.randrange(6)
    at, length = rng.randrange(len(data)), rng.choice((1, 2, 8, 100))
    if way <= 1:
        found[at] ^= 1 << rng.randrange(8)
    elif way == 2:
        del found[at:]
    elif way == 3:
        found[at:at] = rng.randbytes(length)
    elif way == 4:
        del found[at : at + length]
    else:
        start = rng.randrange(len(data))
        found[at : at + length] = data[start : start + length]
    return bytes(found)


def numbers_damaged(rng: random.Random, data: bytes, until: int) -> bytes:
    """Overwrite a 32-bit number among the first ``until`` bytes, such as a length, by an unusual one."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(0, until - 4, 4)
        value = rng.choice((0, 1, 2, 7, 14, 15, 2**16, 2**16 + 5, 2**24, 2**31 - 1, 2**31, 2**32 - 1))
        found[at : at + 4] = value.to_bytes(4, rng.choice(("little", "little", "big")))
    return bytes(found)


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Path of every value in nested lists and objects."""
    if path:
        yield path
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places(content[key], (*path, key))


def content_damaged(rng: random.Random, content: Any) -> Any:
    """Remove, replace, rescale, nest or rename values."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not (known := list(places(content))):
            return content
        *parents, key = rng.choice(known)
        holder = content
        for parent in parents:
            holder = holder[parent]
        way = rng.randrange(6)
        if way == 0:
            del holder[key]
        elif way == 1:
            holder[key] = [holder[key]] if rng.random() < 0.5 else {"a": holder[key]}
        elif way == 2 and isinstance(holder, dict):
            holder[rng.choice(("surprise", f"{key}x", "", "__metadata__"))] = holder.pop(key)
        elif way == 3 and type(holder[key]) in (int, float):
            holder[key] = rng.choice((holder[key] + 1, -holder[key], holder[key] * 1000, float(holder[key])))
        else:
            holder[key] = copy.deepcopy(rng.choice(_ODD))
    return content


def json_damaged(rng: random.Random, content: Any) -> bytes:
    """JSON of damaged content, damaged JSON, deeply nested JSON, or JSON with a duplicate key."""
    if rng.random() < 0.1:
        return bytes_damaged(rng, json.dumps(content).encode())
    text = json.dumps(content_damaged(rng, content))
    if rng.random() < 0.1:
        deep = rng.choice((100, 1000, 100_000))
        text = text.replace(":", ":" + "[" * deep + "]" * deep + ',"again":', 1)
    if rng.random() < 0.1:
        key = text.partition('"')[2].partition('"')[0]
        text = text.replace("{", '{"' + key + '": 0,', 1)
    return text.encode()


def list_damaged(rng: random.Random, text: str) -> bytes:
    """A list file with other names, columns or lines, in another encoding, or with damaged bytes."""
    lines, way = text.splitlines(), rng.randrange(7)
    at = rng.randrange(len(lines))
    columns = lines[at].split()
    if way <= 2:
        columns[rng.randrange(len(columns))] = rng.choice(_ODD_NAMES)
        lines[at] = " ".join(columns)
    elif way == 3:
        lines[at] = rng.choice((" ".join(columns[:-1]), " ".join(columns * 2), "".join(columns), lines[at] + "\t"))
    elif way == 4:
        lines = rng.choice(([], lines[:at], lines[at:], [*lines, lines[at]], lines * 2000, ["", *lines, " "]))
    elif way == 5:
        return "\r\n".join(lines).encode(rng.choice(("utf-8", "utf-8-sig", "utf-16", "utf-32", "cp037")))
    else:
        return bytes_damaged(rng, text.encode())
    return ("\n".join(lines) + "\n").encode()
