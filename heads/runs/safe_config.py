"""``--safe-config``: a check for configs from others, which may name only the classes of a fixed list.

Configs are read as text. No class that a config names is imported before the config has passed.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .yaml_files import parse_yaml, read_yaml

FLAG = "--safe-config"

_OWN = (
    "ADE20K COCODetection COCOFolder COCOStuff Cityscapes DenseDataModule DepthFolder DepthTask DetectionTask "
    "GeneratedScenes KITTIEigen LVIS NAVI NYUv2 NYUv2BTS NYUv2Normals NormalsFolder NormalsTask PascalContext "
    "PascalVOC PascalVOCDetection SegmentationFolder SegmentationTask VOCFolder"
)
_LIGHTNINGS = (
    "callbacks.DeviceStatsMonitor callbacks.EarlyStopping callbacks.LearningRateMonitor callbacks.ModelCheckpoint "
    "callbacks.ModelSummary callbacks.RichProgressBar callbacks.TQDMProgressBar callbacks.Timer loggers.CSVLogger "
    "loggers.TensorBoardLogger strategies.ModelParallelStrategy"
)
ADMITTED = frozenset(
    [*(f"heads.{name}" for name in _OWN.split()), *(f"lightning.pytorch.{name}" for name in _LIGHTNINGS.split())]
)
"""Import paths of the classes that a safe config may name."""

_PLAIN = {"backbone", "classes", "ckpt_path"}  # keys with text that is never a class, even with dots
# keys where Lightning's command line also accepts a class name without a dot, if that class is already imported
_BY_NAME = {"accelerator", "callbacks", "data", "logger", "model", "plugins", "profiler", "strategy"}
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_OPTION = re.compile(r"--?[^\W\d][^=\s]*")


def check_safe(arguments: Sequence[str]) -> None:
    """Refuse configs and arguments that name anything but the admitted classes.

    Args:
        arguments: Command-line arguments, with configs given by path.

    Raises:
        ValueError: A class is not on the list; the message names the file and the key.
    """
    for key, value in _options(arguments):
        if key in ("config", "c"):
            _check(read_yaml(Path(value)), "", value, Path(value).parent)
        else:
            _check(value, key, "the command line", Path())


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the option and the value of each argument."""
    key = ""
    for argument in arguments:
        if _OPTION.fullmatch(argument.partition("=")[0]):
            option, equals, value = argument.partition("=")
            key = option.lstrip("-")
            if equals:
                yield key, value
        else:
            yield key, argument


def _check(value: Any, key: str, where: str, folder: Path) -> None:
    """Check plain data recursively; a string that is YAML, or names a YAML file, is checked by its content."""
    if isinstance(value, dict):
        for name, entry in value.items():
            _check(entry, f"{key}.{name}" if key else str(name), where, folder)
    elif isinstance(value, list):
        for entry in value:
            _check(entry, key, where, folder)
    elif isinstance(value, str):
        _check_text(value, key, where, folder)
    elif _last(key) == "class_path":
        raise ValueError(_refusal(value, key, where))


def _check_text(text: str, key: str, where: str, folder: Path) -> None:
    last = _last(key)
    if last == "class_path" and text not in ADMITTED:
        raise ValueError(_refusal(text, key, where))
    if text in ADMITTED:
        return
    if (last not in _PLAIN and _DOTTED.fullmatch(text.strip())) or (last in _BY_NAME and text[:1].isupper()):
        raise ValueError(_refusal(text, key, where))
    for place in {folder / text, Path(text)}:
        if _is_file(place):
            try:
                content = read_yaml(place)
            except ValueError:  # not YAML, so Lightning's command line does not read it as a config either
                continue
            _check({} if isinstance(content, str) else content, key, str(place), place.parent)
    try:
        content = parse_yaml(text)
    except ValueError:  # plain text, not YAML
        return
    if content != text:
        _check(content, key, where, folder)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a file name, or not a valid one
        return False


def _last(key: str) -> str:
    """The last part of a key; ``callbacks+`` adds to ``callbacks``."""
    return key.rpartition(".")[2].rstrip("+")


def _refusal(value: object, key: str, where: str) -> str:
    return (
        f"{where} sets {key} to {value!r}, which {FLAG} does not admit; expected one of {', '.join(sorted(ADMITTED))}. "
        f"Write a path with a slash, as in ./NAME. Leave {FLAG} out only for a config that you trust like code."
    )
