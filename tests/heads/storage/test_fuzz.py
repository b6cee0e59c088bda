"""A short run of ``benchmarks/fuzz_readers.py``, and the single bits of a checkpoint."""

import importlib.util
import random
import re
import zipfile
from pathlib import Path

import pytest
import torch

from heads.storage.checkpoints import read_checkpoint

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "fuzz_readers.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("fuzz_readers", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("reader", ["safetensors", "npz", "config", "checkpoint", "export"])
def test_damaged_files_are_refused_or_read_as_their_library_reads_them(benchmark, tmp_path, reader):
    counts, wrong = benchmark.fuzz(reader, tmp_path, count=40, seed=1)
    assert wrong == []
    assert counts["refused"] > 10  # else nothing is damaged


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def test_every_flipped_bit_of_a_checkpoint_is_noticed_or_without_effect(benchmark, tmp_path):
    path = tmp_path / "x.ckpt"
    torch.save(benchmark.checkpoint_of(benchmark.small_task(tmp_path)), path)
    whole, data = read_checkpoint(path), path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        directory = archive.start_dir
    rng = random.Random(0)
    bits = [rng.randrange(8 * len(data)) for _ in range(120)]
    bits += [rng.randrange(8 * directory, 8 * len(data)) for _ in range(120)]  # where nothing has a checksum
    entries = [match.start() for match in re.finditer(b"PK\x01\x02", data)]
    bits += [8 * (entry + 38) + 4 for entry in entries]  # the mark of a folder, whose content torch does not read
    noticed = 0
    for bit in bits:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read_checkpoint(path)
        except ValueError as error:
            assert "x.ckpt is not a readable checkpoint" in str(error)
            noticed += 1
        else:
            assert same(whole, found), f"bit {bit % 8} of byte {bit // 8} changes what is read"
    assert noticed > 60


@pytest.mark.parametrize("way", ["compressed", "twice", "shared"])
def test_an_archive_that_torch_does_not_write_is_refused(benchmark, tmp_path, way):
    path = tmp_path / "x.ckpt"
    torch.save(benchmark.checkpoint_of(benchmark.small_task(tmp_path)), path)
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
