"""Names that are imported lazily by string, which an import linter does not see."""

from importlib import import_module
from importlib.util import find_spec

import pytest

import heads
from heads.cli import COMMANDS


@pytest.mark.parametrize("name", heads.__all__)
def test_a_public_name_lives_where_the_table_says(name):
    home = f"heads.{heads._HOMES[name]}"
    assert import_module(home).__dict__[name].__module__ == home


def test_the_table_has_the_public_names():
    assert heads._HOMES.keys() == set(heads.__all__)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_lives_with_the_commands_or_with_the_runs(command):
    module = COMMANDS[command][0]
    assert find_spec(f".{module}" if module.startswith(".") else f"heads.cli.{module}", "heads.cli")
    assert "." not in module or module.startswith(".runs.")
