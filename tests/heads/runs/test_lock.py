import subprocess
import sys

import pytest

from heads.runs import lock
from heads.runs.lock import locked

HELD = """
import os, sys
from pathlib import Path
from heads.runs.lock import locked
with locked(Path(sys.argv[1])):
    os._exit(9)  # as a kill: nothing is released
"""


def test_a_folder_is_held_by_one_run_and_freed_at_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 0.05)
    with locked(tmp_path / "run"):
        with pytest.raises(
            ValueError, match=r"Another run trains in .*run\. Wait until it ends, or start this one else"
        ):
            locked(tmp_path / "run").__enter__()
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "run"):
        pass


def test_a_killed_run_holds_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 0.05)
    assert subprocess.run([sys.executable, "-c", HELD, str(tmp_path)], check=False).returncode == 9
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_is_no_folder(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=rf"Not a directory: .*{name}"):
        locked(tmp_path / name).__enter__()


def test_a_file_system_without_locks_is_taken_as_it_is(tmp_path, monkeypatch):
    def acquire(self, timeout):
        raise NotImplementedError

    monkeypatch.setattr(lock.FileLock, "acquire", acquire)
    with locked(tmp_path):
        pass
