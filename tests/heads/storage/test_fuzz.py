"""A short run of ``python -m benchmarks.fuzz``, and the single bits of a checkpoint."""

import importlib
import re
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from heads.storage.checkpoints import read_checkpoint


@pytest.fixture(scope="module")
def benchmark():
    """Imports a module of the benchmark."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[3])
        patch.delitem(sys.modules, "benchmarks", raising=False)
        yield lambda name: importlib.import_module(f"benchmarks.fuzz.{name}")


READERS = (
    *("safetensors", "npz", "config", "checkpoint", "bits", "export", "npy", "mat-splits", "mat-geonet", "mat-hdf5"),
    *("pair-lists", "name-lists", "navi", "yaml"),
)


def test_each_reader_has_a_test(benchmark):
    assert set(READERS) == benchmark("__main__").READERS.keys()


@pytest.mark.parametrize("label", READERS)
def test_damaged_files_are_refused_or_read_as_their_library_reads_them(benchmark, tmp_path, label):
    count = 10 if label in ("yaml", "mat-hdf5") else 40
    *_, found = benchmark("outcomes").fuzz(benchmark("__main__").READERS[label](tmp_path), label, count, seed=1)
    assert found.wrong == []
    assert found.refused > count / 4  # else nothing is damaged


def test_what_a_reader_does_wrong_is_found(benchmark, tmp_path):
    class Wrong:
        name = "x.txt"

        def damage(self, rng):
            self.turn = getattr(self, "turn", -1) + 1

        def read(self):
            if self.turn < 2:
                raise (ValueError("no name"), KeyError("x.txt"))[self.turn]
            return {"a": self.turn}

        def library(self):
            if self.turn == 2:
                raise OSError("damaged")
            return {"a": 3}

    *_, found = benchmark("outcomes").fuzz(Wrong(), "wrong", 5, seed=0)
    assert (found.accepted, found.refused, found.foreign) == (3, 1, 1)
    assert [line.partition(":")[2].split(" (")[0] for line in found.wrong] == [
        " an error without x.txt: no name",
        " KeyError: 'x.txt'",
        " read, but refused by its library",
        " read differently by its library",
    ]


def test_the_mark_of_a_folder_in_an_archive_is_noticed(benchmark, tmp_path):
    bits = benchmark("flipped_bits").FlippedBits(tmp_path)
    entries = [match.start() for match in re.finditer(b"PK\x01\x02", bits.data)]
    assert entries
    for entry in entries:
        bits.flip(8 * (entry + 38) + 4)  # torch would not read the content of a folder
        with pytest.raises(ValueError, match=r"x\.ckpt is not a readable checkpoint"):
            bits.read()


@pytest.mark.parametrize("way", ["compressed", "twice", "shared"])
def test_an_archive_that_torch_does_not_write_is_refused(benchmark, tmp_path, way):
    path, small = tmp_path / "x.ckpt", benchmark("small_heads")
    torch.save(small.checkpoint_of(small.small_task(tmp_path)), path)
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if way == "compressed" else zipfile.ZIP_STORED) as archive:
        for name, content in members:
            archive.writestr(name, content)
        if way == "twice":
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr(*members[0])
        if way == "shared":  # a thousand names for the same bytes
            for i in range(1000):
                info = zipfile.ZipInfo.from_file(path, f"more{i}")
                first = archive.infolist()[0]
                info.file_size = info.compress_size = 10 * len(b"".join(c for _, c in members))
                info.header_offset, info.CRC = first.header_offset, first.CRC
                archive.filelist.append(info)
    with pytest.raises(ValueError, match=r"x\.ckpt is not a readable checkpoint"):
        read_checkpoint(path)
