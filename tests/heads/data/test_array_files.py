import numpy as np
import pytest
import torch

from heads.data.array_files import read_array


def header(text):
    text = text.ljust(118).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def savez(path, **arrays):
    with path.open("wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f8", "u1", ">u2", "i8"])
def test_an_array_of_numbers_is_read_without_a_copy(tmp_path, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    found = read_array(tmp_path / "a.npy", "numbers")
    assert found.dtype == array.dtype and isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, array)


def test_archives_are_named_with_what_they_hold(tmp_path):
    path = tmp_path / "a.npy"
    savez(path, depth=np.ones((2, 2)), mask=np.ones(2))
    with pytest.raises(
        ValueError, match=r"a\.npy is not a readable array: .* numpy\.savez archive with depth, mask; .*numpy\.save"
    ):
        read_array(path, "numbers")
    torch.save(torch.ones(2, 2), path)
    with pytest.raises(ValueError, match=r"a\.npy is not a readable array: .* written by torch\.save; if you trust it"):
        read_array(path, "numbers")
    path.write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(ValueError, match=r"a\.npy is not a readable array: .* a damaged zip archive"):
        read_array(path, "numbers")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\x80\x04K\x01.", "it is a pickle, which is not opened"),
        (b"\x89HDF\r\n", "not with the signature of a .npy file"),
        (b"\x93NUMPY", "is not a readable array"),
        (b"\x93NUMPY\x09\x00abc", "is not a readable array"),
        (
            header("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000, 10000000000)}"),
            "is not a readable array",
        ),
        (
            header("{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4)}"),
            "is not a readable array",
        ),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2)}") + b"\0" * 31, "is not a readable array"),
        (header("{'descr': '|O', 'fortran_order': False, 'shape': (2, 2)}") + b"\0" * 32, "is not a readable array"),
        (header("((((((((" * 9), "is not a readable array"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 5)}"), r"shape \(0, 5\), which holds no value"),
        (
            header("{'descr': '<c8', 'fortran_order': False, 'shape': (1, 1)}") + b"\0" * 8,
            "has dtype complex64 and shape",
        ),
        (header("{'descr': '|b1', 'fortran_order': False, 'shape': (1, 1)}") + b"\0", "has dtype bool and shape"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.npy .*{message}"):
        read_array(tmp_path / "a.npy", "numbers")


def test_a_header_of_python_2_is_read_without_a_word(tmp_path):
    content = header("{'descr': '<f8', 'fortran_order': False, 'shape': (1L, 2L)}") + np.ones(2).tobytes()
    (tmp_path / "a.npy").write_bytes(content)
    assert read_array(tmp_path / "a.npy", "numbers").tolist() == [[1, 1]]


def test_missing(tmp_path):
    with pytest.raises(ValueError, match=r"No file .*gone\.npy; expected numbers"):
        read_array(tmp_path / "gone.npy", "numbers")
