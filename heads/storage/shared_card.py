"""A head's card for sharing, without local paths."""

from collections.abc import Mapping
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from siglip2_backbone.hub import HUB_ID, shared_source


def without_paths(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card of an exported head, with names in place of paths.

    If the backbone's weights were local files, ``backbone`` becomes the architecture's name and ``source`` the last
    part of the path; the fingerprint identifies the weights.

    Args:
        card: Contents of ``head.json``.
    """
    backbone, arguments = dict(card["backbone"]), dict(card["arguments"])
    if from_disk(card):
        arguments["backbone"] = backbone["name"]
    backbone["source"] = shared_source(str(backbone["source"]))
    shared = {**card, "backbone": backbone, "arguments": arguments}
    if "protocol" in card:
        shared["protocol"] = _named(card["protocol"])
    if test := card.get("test"):
        shared["test"] = {**test, "protocol": _named(test["protocol"])}
    return shared


def from_disk(card: Mapping[str, Any]) -> bool:
    """Whether the backbone's weights came neither from the hub nor from a random generator."""
    source = str(card["backbone"]["source"])
    return source != "random" and not HUB_ID.fullmatch(source) and "://" not in source


def _named(value: Any) -> Any:
    """Replace every absolute path in plain data by its last part; paths below a dataset's root are not absolute."""
    if isinstance(value, Mapping):
        return {key: _named(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_named(entry) for entry in value]
    if not isinstance(value, str):
        return value
    kinds: tuple[PurePath, ...] = (PurePosixPath(value), PureWindowsPath(value))
    return next((path.name for path in kinds if path.is_absolute() or value.startswith("~")), value)
