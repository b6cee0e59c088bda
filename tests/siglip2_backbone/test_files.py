import os

import pytest

from siglip2_backbone.files import refuse_occupied, whole_directory


def test_a_directory_appears_when_nothing_fails(tmp_path):
    with whole_directory(tmp_path / "deep" / "a") as partial:
        (partial / "x").write_text("new")
        assert not (tmp_path / "deep" / "a").exists()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a"]
    assert (tmp_path / "deep" / "a" / "x").read_text() == "new"


def test_an_empty_directory_may_be_there(tmp_path):
    (tmp_path / "a").mkdir()
    with whole_directory(tmp_path / "a") as partial:
        (partial / "x").touch(mode=0o600)
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "a" / "x").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_nothing(error, tmp_path):
    with pytest.raises(error), whole_directory(tmp_path / "a") as partial:
        (partial / "x").write_text("half")
        raise error
    assert not any(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("old")
    for path in (tmp_path / "full", tmp_path / "full" / "x"):
        with pytest.raises(ValueError, match=rf"{path} exists and is not an empty directory.*Pass another path"):
            refuse_occupied(path)
        with pytest.raises(ValueError, match="exists"), whole_directory(path):
            raise AssertionError
    assert (tmp_path / "full" / "x").read_text() == "old"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/a cannot be written"), whole_directory(tmp_path / "file" / "a"):
        raise AssertionError
