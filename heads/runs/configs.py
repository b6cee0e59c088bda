"""Find a config by path or by name, and check its YAML before Lightning reads it.

A config is trusted code: it may name any class or function that can be imported, and Lightning's command line calls it.
:mod:`heads.runs.safe_config` checks configs from others.
"""

from pathlib import Path

from .yaml_files import read_yaml

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
    resolved, takes_value = [], False
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if takes_value:
            argument = str(find_config(argument))
        elif equals and flag in ("--config", "-c"):
            argument = f"{flag}={find_config(value)}"
        takes_value = argument in ("--config", "-c")
        resolved.append(argument)
    for argument in resolved:  # jsonargparse reads them too, but its errors do not name the file
        path = Path(argument.rpartition("=")[2])
        if path.suffix in (".yaml", ".yml") and path.is_file():
            read_yaml(path)
    return resolved


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
