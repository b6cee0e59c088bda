"""The reader of configs: YAML to checked settings, as ``siglip2 fit --config FILE --print_config`` reads it."""

import contextlib
import random
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from heads.data.module import DenseDataModule
from heads.runs.configs import check_config, errors_name_configs, resolve_arguments
from heads.runs.trainer import DenseCLI, DenseParser
from heads.tasks.head_task import HeadTask

from .mutations import bytes_damaged, content_damaged

_ODD = (
    *(
        "[",
        "{a: 1",
        "&a [*a]",
        "!!python/name:os.system",
        "1e30",
        ".nan",
        "'",
        "[" * 2000,
        "-",
        "!!binary x",
        "!!set {a}",
    ),
    *("!!python/object/apply:os.abort []", "{<<: {a: 1}}", "0x1", "1" * 5000, "2020-01-01", "{a: 1, a: 2}", "!!int x"),
)


class _Stopped(Exception):
    """The command line has its parser; no trainer or task is built."""


class _ParserOnly(DenseCLI):
    def parse_arguments(self, parser: Any, args: Any) -> None:
        self.parser = parser
        raise _Stopped

    @classmethod
    def parser_of(cls) -> DenseParser:
        """The parser of the command line, which takes most of its time to build."""
        made = cls.__new__(cls)
        options = {"subclass_mode_model": True, "subclass_mode_data": True, "parser_kwargs": {"prog": "siglip2"}}
        with contextlib.suppress(_Stopped):
            made.__init__(  # type: ignore[misc]  # it never ends, so the parser is read from the unfinished object
                HeadTask, DenseDataModule, held=ExitStack(), parser_class=DenseParser, **options
            )
        return made.parser


class Yaml:
    """A config of the command line."""

    name = "x.yaml"

    def __init__(self, folder: Path) -> None:
        self.path = folder / self.name
        self.text = (Path(__file__).parents[2] / "configs/segmentation/folder_linear.yaml").read_text()
        self.parser = _ParserOnly.parser_of()

    def damage(self, rng: random.Random) -> None:
        lines, way = self.text.splitlines(keepends=True), rng.random()
        if way < 0.4:
            at = rng.randrange(5, len(lines))  # after the comments
            lines[at] = f"{lines[at].partition(':')[0]}: {rng.choice(_ODD)}\n"
            self.path.write_text("".join(lines))
        elif way < 0.7:
            self.path.write_text(yaml.safe_dump(content_damaged(rng, yaml.safe_load(self.text))), errors="replace")
        else:
            self.path.write_bytes(bytes_damaged(rng, self.text.encode()))

    def read(self) -> Any:
        arguments = ["--config", str(self.path), "--print_config"]
        check_config("fit", arguments)
        arguments = resolve_arguments(arguments)
        with contextlib.suppress(SystemExit), errors_name_configs(arguments):  # --print_config ends with an exit
            self.parser.parse_args(["fit", *arguments])

    def library(self) -> Any:
        yaml.safe_load(self.path.read_bytes())
