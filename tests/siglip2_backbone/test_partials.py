import os
import subprocess
import sys

import pytest

from siglip2_backbone.files import whole_directory
from siglip2_backbone.partials import check_name, partial_beside

KILLED = """
import os, sys
from pathlib import Path
from siglip2_backbone.partials import partial_beside
partial_beside(Path(sys.argv[1]) / "a.txt").write_text("half")
partial_beside(Path(sys.argv[1]) / "a").mkdir()
os._exit(9)
"""


def test_what_a_dead_process_left_is_removed_and_nothing_else(tmp_path):
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    runs.mkdir()
    elsewhere.mkdir()
    subprocess.run([sys.executable, "-c", KILLED, str(runs)], check=False)
    assert len(list(runs.iterdir())) == 2
    alive = partial_beside(elsewhere / "x").name.replace(str(os.getpid()), "1")
    others = {alive, ".part-abcdef-999999999-0", "last.ckpt", ".part-notes"}
    for name in others:
        (runs / name).touch()
    with whole_directory(runs / "whole"):
        pass
    assert {path.name for path in runs.iterdir()} == others | {"whole"}


def test_a_folder_is_searched_once(tmp_path):
    partial_beside(tmp_path / "a.txt")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / partial_beside(tmp_path / "a.txt").name.replace(str(os.getpid()), str(dead.pid))
    left.touch()
    partial_beside(tmp_path / "b.txt")
    assert left.exists()


@pytest.mark.parametrize("name", ["a" * 255, "a" * 242 + ".safetensors", "é" * 127, "a" + "." + "b" * 250])
def test_every_name_that_the_file_system_takes_can_be_written(tmp_path, name):
    partial = partial_beside(tmp_path / name)
    partial.write_text("whole")
    partial.replace(tmp_path / name)
    assert (tmp_path / name).read_text() == "whole"


@pytest.mark.parametrize("name", ["a" * 256, "é" * 128, "a" * 256 + "/b"])
def test_a_name_that_is_too_long_is_refused_before_the_work(tmp_path, name):
    with pytest.raises(ValueError, match=r"has 256 bytes; expected at most 255"):
        check_name(tmp_path / "missing" / name)


def test_two_names_in_one_folder_differ(tmp_path):
    assert partial_beside(tmp_path / "a.txt") != partial_beside(tmp_path / "a.txt")
    assert partial_beside(tmp_path / "a.txt").suffix == ".txt"
