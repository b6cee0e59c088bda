import random

import numpy as np
import pytest
import scipy.io

from heads.data.depth_normals.matlab_files import read_matlab_5

ARRAYS = {
    "doubles": np.arange(24.0).reshape(2, 3, 4),
    "wholes": np.arange(300.0)[:, None],  # which are stored with fewer bytes by MATLAB
    "floats": np.float32([[0.5, 1.5]]),
    **{f"i{n}": np.array([[1, 2], [3, 4]], f"u{n}") for n in (1, 2, 4, 8)},
    "signed": np.int16([[-7, 7]]),
    "empty": np.zeros((0, 3)),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_those_that_scipy_wrote(tmp_path, compressed):
    path = tmp_path / "a.mat"
    scipy.io.savemat(
        path, ARRAYS | {"text": "words", "struct": {"a": 1}, "cells": [[1, "b"]]}, do_compression=compressed
    )
    found = read_matlab_5(path, list(ARRAYS))
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_bytes_end_in_an_error_that_names_the_file_or_in_numbers(tmp_path, compressed):
    path, rng = tmp_path / "a.mat", random.Random(0)
    scipy.io.savemat(path, {"a": np.arange(20)[:, None], "b": np.ones((3, 4))}, do_compression=compressed)
    whole, refused = path.read_bytes(), 0
    for trial in range(300):
        damaged = bytearray(whole if trial % 3 else whole[: rng.randrange(len(whole))])
        for _ in range(min(2, len(damaged))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            assert all(array.dtype.kind in "fiu" for array in read_matlab_5(path, ["a", "b"]).values())
        except ValueError as error:
            assert "a.mat" in str(error)
            refused += 1
    assert refused > 100


def test_what_is_no_array_of_real_numbers(tmp_path):
    path = tmp_path / "a.mat"
    for values in ("text", {"a": 1}, np.array([[1j]])):
        scipy.io.savemat(path, {"a": values})
        with pytest.raises(ValueError, match=r"a\.mat cannot be read as a MATLAB 5 file \(a is not an array of real"):
            read_matlab_5(path, ["a"])


def test_a_file_of_matlab_7_3_and_one_cut_off(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a": np.ones((30, 30))})
    whole = path.read_bytes()
    path.write_bytes(whole[:124] + b"\x00\x02IM" + whole[128:])
    with pytest.raises(ValueError, match=r"a\.mat cannot be read as a MATLAB 5 .*MATLAB 7\.3 writes HDF5"):
        read_matlab_5(path, ["a"])
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"a\.mat cannot be read as a MATLAB 5 .*cut off"):
        read_matlab_5(path, ["a"])


def test_a_file_of_matlab_4_is_told_by_its_first_bytes(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a": np.ones((2, 2))})
    whole = path.read_bytes()
    path.write_bytes(whole[:2] + b"\0" + whole[3:])
    with pytest.raises(ValueError, match=r"a\.mat cannot be read as a MATLAB 5 file \(it has no header of MATLAB 5"):
        read_matlab_5(path, ["a"])


@pytest.mark.parametrize(("at", "kind"), [(136, 5), (152, 9), (168, 2)], ids=["flags", "shape", "name"])
def test_flags_shape_and_name_of_another_type(tmp_path, at, kind):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a_long_name": np.ones((2, 2))})
    data = bytearray(path.read_bytes())
    assert data[at] in (1, 5, 6)
    data[at] = kind
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.mat cannot be read as a MATLAB 5 file \(an array has flags, shape and"):
        read_matlab_5(path, ["a_long_name"])
