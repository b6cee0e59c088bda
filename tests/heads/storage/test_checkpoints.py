import pickle
import tempfile

import pytest
import torch

from heads.storage.checkpoints import WholeCheckpointIO, read_checkpoint
from heads.tasks.checkpointing import CARD

CONTENT = {CARD: {"task": "any"}, "state_dict": {"weight": torch.arange(3.0)}, "epoch": 4}


def test_what_is_written_is_read(tmp_path):
    files = WholeCheckpointIO()
    files.save_checkpoint(CONTENT, tmp_path / "new" / "last.ckpt")
    found = files.load_checkpoint(str(tmp_path / "new" / "last.ckpt"))
    assert found["epoch"] == 4 and torch.equal(found["state_dict"]["weight"], CONTENT["state_dict"]["weight"])


def test_the_temporary_folder_of_the_system_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))  # a move from there may be a copy
    WholeCheckpointIO().save_checkpoint(CONTENT, tmp_path / "last.ckpt")
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_half_a_checkpoint_does_not_replace_a_whole_one(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint(CONTENT, path)

    def breaks(checkpoint, file):
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", breaks)
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be written \(No space left on device\)"):
        WholeCheckpointIO().save_checkpoint(CONTENT, path)
    assert read_checkpoint(path)["epoch"] == 4


class Trap:
    """Would leave a trace if it were unpickled."""

    def __reduce__(self):
        return (open, ("trace", "w"))


def cut_off(path):
    torch.save(CONTENT, path)
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda path: path.write_bytes(pickle.dumps(Trap())),
            r"bad\.ckpt is not a readable checkpoint: .*code.*never run",
        ),
        (lambda path: torch.save(CONTENT | {"more": Trap()}, path), r"bad\.ckpt is not a readable checkpoint"),
        (cut_off, r"bad\.ckpt is not a readable checkpoint: it is damaged or truncated"),
        (lambda path: path.touch(), r"bad\.ckpt is not a readable checkpoint"),
        (lambda path: path.write_text("text"), r"bad\.ckpt is not a readable checkpoint"),
        (lambda path: torch.save({"state_dict": {}}, path), r"bad\.ckpt was not written by this library"),
        (lambda path: torch.save([1], path), r"bad\.ckpt was not written by this library"),
        (lambda path: None, r"No file .*bad\.ckpt"),
    ],
    ids=["pickle", "code inside", "cut off", "empty", "text", "foreign", "list", "missing"],
)
def test_bad_files_are_refused_and_nothing_is_run(tmp_path, monkeypatch, write, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "bad.ckpt")
    for read in (read_checkpoint, WholeCheckpointIO().load_checkpoint):
        with pytest.raises(ValueError, match=message):
            read(tmp_path / "bad.ckpt")
    assert not (tmp_path / "trace").exists()


def test_an_exported_head_is_told_from_a_checkpoint(tmp_path):
    (tmp_path / "head.safetensors").touch()
    for path in (tmp_path, tmp_path / "head.safetensors"):
        with pytest.raises(ValueError, match=r"is not a checkpoint .*heads\.load takes an exported head's folder"):
            read_checkpoint(path)
