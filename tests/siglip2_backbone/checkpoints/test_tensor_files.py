import json
import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from siglip2_backbone.checkpoints.tensor_files import read_header, read_rows

TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@pytest.fixture
def stored(tmp_path):
    """A file with one tensor of every type, and metadata."""
    path = tmp_path / "weights.safetensors"
    tensors = {name: torch.randn(6, 5).to(dtype) for name, dtype in TYPES.items()}
    save_file(tensors | {"counts": torch.arange(3)}, path, metadata={"format": "pt"})
    return path


def test_the_header_tells_every_tensor(stored):
    header = read_header(stored)
    assert {name: t.shape for name, t in header.items()} == {k: tuple(t.shape) for k, t in load_file(stored).items()}
    assert {name: t.dtype for name, t in header.items()} == {name: name for name in TYPES} | {"counts": "I64"}


@pytest.mark.parametrize("target", TYPES.values(), ids=str)
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("rows", [(0, 6), (2, 4), (5, 6)], ids=str)
def test_rows_are_read_into_memory_of_any_type(stored, name, target, rows):
    out = torch.full((rows[1] - rows[0], 5), torch.nan, dtype=target)
    read_rows(read_header(stored)[name], out, rows)
    assert torch.equal(out, load_file(stored)[name][slice(*rows)].to(target))


def test_reading_does_not_follow_the_default_device(stored):
    out = torch.empty(6, 5)
    with torch.device("meta"):
        read_rows(read_header(stored)["BF16"], out, (0, 6))
    assert torch.equal(out, load_file(stored)["BF16"].float())


@pytest.mark.parametrize("share", [0, 0.005, 0.02, 0.3, 0.5, 0.8, 0.999])
def test_a_file_cut_anywhere_is_refused(stored, share):
    whole = stored.read_bytes()
    stored.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=rf"{stored.name} is (truncated|not a complete safetensors file)") as caught:
        read_header(stored)
    assert f"{int(share * len(whole))} bytes" in str(caught.value) or "header" in str(caught.value)


def test_a_cut_in_the_data_tells_both_sizes(stored):
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1])
    message = rf"truncated: {len(whole) - 1} bytes, its header describes {len(whole)}.*copy it again"
    with pytest.raises(ValueError, match=message):
        read_header(stored)


def with_header(content):
    header = content if isinstance(content, bytes) else json.dumps(content).encode()
    return len(header).to_bytes(8, "little") + header + bytes(64)


GARBAGE = {
    "random bytes": random.Random(0).randbytes(1000),
    "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1500000000\n",
    "no JSON": with_header(b"\xff" * 16),
    "no object": with_header([1, 2]),
    "nested without end": with_header(b"[" * 100_000),
    "entry without shape": with_header({"a": {"dtype": "F32", "data_offsets": [0, 4]}}),
    "entry that is a number": with_header({"a": 3}),
    "shape of another size": with_header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}),
    "range that runs backwards": with_header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}),
    "a hole": with_header({"a": {"dtype": "F32", "shape": [15], "data_offsets": [4, 64]}}),
    "bytes behind": with_header({"a": {"dtype": "F32", "shape": [15], "data_offsets": [0, 60]}}),
    "overlap": with_header({n: {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} for n in "ab"}),
    "a shape of floats": with_header({"a": {"dtype": "F32", "shape": [16.0], "data_offsets": [0, 64]}}),
    "a range of floats": with_header({"a": {"dtype": "F32", "shape": [16], "data_offsets": [0.0, 64]}}),
    "a shape of truth": with_header({"a": {"dtype": "F32", "shape": [True, 16], "data_offsets": [0, 64]}}),
    "an endless shape": with_header({"a": {"dtype": "F32", "shape": [10**30, 0], "data_offsets": [0, 0]}}),
    "an unknown type": with_header({"a": {"dtype": "F33", "shape": [16], "data_offsets": [0, 64]}}),
    "a name twice": with_header(
        b'{"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},"a":{"dtype":"F32","shape":[8],"data_offsets":[32,64]}}'
    ),
    "metadata of numbers": with_header(
        {"__metadata__": {"a": 1}, "a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}
    ),
    "range before the data": with_header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}),
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_safetensors_file_is_refused(content, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path.name} is not a complete safetensors file: found .*\. Pass a"):
        read_header(path)


def test_a_file_that_shrinks_while_it_is_read_is_refused(stored):
    tensor = read_header(stored)["F64"]
    stored.write_bytes(stored.read_bytes()[: tensor.stop - 4])
    with pytest.raises(ValueError, match=rf"{stored.name} ended after \d+ of 240 bytes"):
        read_rows(tensor, torch.empty(6, 5, dtype=torch.float64), (0, 6))
