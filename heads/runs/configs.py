"""Find a config by path or by name, and check its YAML before Lightning reads it.

A config is trusted code: it may name any class or function that can be imported, and Lightning's command line calls it.
:mod:`heads.runs.safe_config` checks configs from others.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from .yaml_files import read_yaml

_FLAGS = ("--config", "-c")
_PACKAGE = Path(__file__).resolve().parent.parent


def config_root() -> Path:
    """Folder of the bundled configs: inside the wheel, or at the top of a checkout."""
    packaged = _PACKAGE / "configs"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "configs"


def find_config(name: str) -> Path:
    """Find a config in the working directory, or else among the bundled ones, with or without ``.yaml``.

    Raises:
        ValueError: There is no such config; the message lists the bundled ones.
    """
    for folder in (Path(), config_root()):
        for candidate in (folder / name, folder / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    known = sorted(p.relative_to(config_root()).with_suffix("").as_posix() for p in config_root().rglob("*.yaml"))
    raise ValueError(f"No config {name} here; expected a path or one of the bundled configs: {', '.join(known)}.")


def resolve_arguments(arguments: list[str]) -> list[str]:
    """Replace the value of each ``--config`` (or ``-c``) by the path it stands for.

    Raises:
        ValueError: A config does not exist, or ``read_yaml`` refuses a YAML file that an argument names.
    """
    resolved: list[str] = []
    takes_value = False
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if takes_value:
            argument = str(find_config(argument))
        elif equals and flag in _FLAGS:
            argument = f"{flag}={find_config(value)}"
        takes_value = argument in _FLAGS
        resolved.append(argument)
    for argument in resolved:  # jsonargparse reads them too, but its errors do not name the file
        path = Path(argument.rpartition("=")[2])
        if path.suffix in (".yaml", ".yml") and path.is_file():
            read_yaml(path)
    for name in config_paths(resolved):
        content = read_yaml(Path(name))
        if not isinstance(content, dict):
            found = "nothing" if content is None else f"a {type(content).__name__}"
            raise ValueError(f"{name} holds {found}; expected settings, as in `trainer: {{max_epochs: 10}}`.")
    return resolved


def config_paths(arguments: Sequence[str]) -> list[str]:
    """The value of each ``--config`` (or ``-c``)."""
    after = [value for flag, value in pairwise(arguments) if flag in _FLAGS]
    return after + [value for flag, _, value in (a.partition("=") for a in arguments) if flag in _FLAGS and value]


@contextmanager
def errors_name_configs(arguments: Sequence[str]) -> Iterator[None]:
    """Add the configs to an error about their settings, which does not name them.

    Raises:
        ValueError: The error.
    """
    try:
        yield
    except ValueError as error:
        names = [name for name in config_paths(arguments) if name not in str(error)]
        raise ValueError(f"{error}\nConfig: {', '.join(names)}" if names else str(error)) from error


def check_config(command: str, arguments: list[str]) -> None:
    """Refuse a run without a config, a task or a help option.

    Raises:
        ValueError: All of them are missing.
    """
    telling = ("--config", "-c", "--model", "--help", "-h", "--model.help", "--data.help", "--trainer.help")
    if not any(argument.partition("=")[0] in telling for argument in arguments):
        raise ValueError(
            f"No config is named; expected siglip2 {command} --config NAME, as in segmentation/folder_linear, or a "
            "path. An unknown name lists the bundled configs."
        )
