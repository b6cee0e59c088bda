import os
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from heads.geometry.upsampling import Upsampling
from heads.outputs.encoded import write_array, write_picture
from heads.outputs.segmentation import write_probabilities
from heads.storage.checkpoints import WholeCheckpointIO
from siglip2_backbone.files import file_sha256, whole_directory, whole_file


def test_file_appears_when_nothing_fails(tmp_path):
    with whole_file(tmp_path / "deep" / "a.txt") as partial:
        partial.write_text("new")
        assert not (tmp_path / "deep" / "a.txt").exists()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.txt"]


def test_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("target", ["file/a.txt", "folder"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, target):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=rf"{target} cannot be written"), whole_file(tmp_path / target) as partial:
        partial.write_text("new")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


def test_identity_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # the example of FIPS 180-2, appendix B.1
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@contextmanager
def room(size):
    """Files end after so many bytes; what goes beyond is then an error, as on a full disk, and not a signal."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


CELLS = torch.zeros(3, 5, 6)
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
WRITERS = {
    "a.jpg": lambda path: write_picture(PICTURE, path, quality=90),
    "a.png": lambda path: write_picture(PICTURE, path),
    "a.npy": lambda path: write_array(np.zeros((30, 20), np.float32), path),
    "scores.npy": lambda path: write_probabilities(CELLS, Upsampling.to_image(CELLS, 8, (40, 48)), path, logits=True),
    "a.ckpt": lambda path: WholeCheckpointIO().save_checkpoint({"a": torch.zeros(700)}, path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_wherever_a_disk_ends_there_is_an_error_and_no_half_file(tmp_path, name):
    write = WRITERS[name]
    write(tmp_path / name)
    size = (tmp_path / name).stat().st_size
    whole = (tmp_path / name).read_bytes()
    for end in {0, 1, size - 1, size - 2, size - 99, *range(0, size, size // 20)}:
        with room(end), pytest.raises(ValueError, match=rf"{name} cannot be written"):
            write(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert name == "a.ckpt" or (tmp_path / name).read_bytes() == whole  # torch numbers what it writes


def test_a_picture_that_its_format_cannot_hold_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"wide\.jpg cannot be written"):
        write_picture(Image.new("L", (70000, 1)), tmp_path / "wide.jpg")
    assert not any(tmp_path.iterdir())


@pytest.fixture
def synced(monkeypatch):
    """The paths that were given to fsync."""
    found, fsync = [], os.fsync

    def record(handle):
        found.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record)
    return found


def test_what_is_to_last_is_on_the_disk_before_it_has_its_name(tmp_path, synced):
    with whole_file(tmp_path / "a.json") as partial:
        partial.write_text("{}")
    assert synced == [partial, tmp_path]
    synced.clear()
    with whole_directory(tmp_path / "b") as folder:
        (folder / "x").touch()
    assert synced == [folder / "x", folder, tmp_path]
    synced.clear()
    write_picture(PICTURE, tmp_path / "a.png")  # one of thousands
    assert not synced


def test_a_disk_that_fails_only_when_asked_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("old")
    monkeypatch.setattr(os, "fsync", lambda handle: os.write(handle, b"x"))  # EBADF: opened for reading
    with pytest.raises(ValueError, match=r"a\.json cannot be written"), whole_file(tmp_path / "a.json") as partial:
        partial.write_text("new")
    assert (tmp_path / "a.json").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
