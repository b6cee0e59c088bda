import warnings
import zipfile

import numpy as np
import pytest
import torch

from siglip2_backbone.checkpoints.npz_files import read_npz_header, read_slices

ARRAYS = {
    "a/b": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "half": np.arange(6, dtype=np.float16).reshape(3, 2),
    "double": np.arange(3, dtype=np.float64),
    "counts": np.arange(3),
}


@pytest.fixture(params=[np.savez, np.savez_compressed], ids=["stored", "deflated"])
def npz(request, tmp_path):
    request.param(tmp_path / "x.npz", **ARRAYS)
    return tmp_path / "x.npz"


def test_the_header_tells_every_array(npz):
    header = read_npz_header(npz)
    assert {name: t.shape for name, t in header.items()} == {name: a.shape for name, a in ARRAYS.items()}
    assert [t.dtype for t in header.values()] == ["F32", "F16", "F64", "<i8"]


@pytest.mark.parametrize("name", ["a/b", "half", "double"])
def test_slices_are_the_arrays(npz, name):
    stored, expected = read_npz_header(npz)[name], torch.from_numpy(ARRAYS[name])
    assert torch.equal(next(read_slices(stored, stacked=False)), expected)
    assert torch.equal(torch.stack(list(read_slices(stored, stacked=True))), expected)


def test_the_first_index_may_run_fastest(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.asfortranarray(ARRAYS["a/b"]))
    stored = read_npz_header(tmp_path / "x.npz")["a"]
    assert stored.column_major
    for stacked in (False, True):
        assert torch.equal(torch.cat([*read_slices(stored, stacked)]).view(2, 3, 4), torch.from_numpy(ARRAYS["a/b"]))


def test_two_bytes_without_type_are_bfloat16(tmp_path):
    expected = torch.randn(3).bfloat16()
    np.savez(tmp_path / "x.npz", a=expected.view(torch.int16).numpy().view("V2"))
    assert torch.equal(next(read_slices(read_npz_header(tmp_path / "x.npz")["a"], False)), expected)


def test_arrays_of_objects_are_refused_by_name_and_never_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    np.savez(tmp_path / "x.npz", fine=np.zeros(2), bad=np.array([Bomb()], dtype=object))
    with pytest.raises(
        ValueError, match=r"x\.npz: array bad holds Python objects.*pickle.*Pass a file of plain arrays"
    ):
        read_npz_header(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", pair=np.zeros(2, dtype=[("a", "f4"), ("b", "O")]))
    with pytest.raises(ValueError, match="array pair holds Python objects"):
        read_npz_header(tmp_path / "x.npz")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_anywhere_is_refused(npz, share):
    whole = npz.read_bytes()
    npz.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"x\.npz is not a complete npz file .*copy it again"):
        read_npz_header(npz)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"version https://git-lfs.github.com/spec/v1\n"])
def test_what_is_no_npz_file_is_refused(content, tmp_path):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError, match="not a complete npz file"):
        read_npz_header(tmp_path / "x.npz")


@pytest.mark.parametrize("member", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x04\x00None", b"no npy file at all"])
def test_a_member_that_is_no_array_is_refused(member, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", member)
    with pytest.raises(ValueError, match="not a complete npz file"):
        read_npz_header(tmp_path / "x.npz")


def test_a_member_shorter_than_its_header_says_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(9))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", (tmp_path / "a.npy").read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"array a\.npy has 192 bytes, its header describes 200"):
        read_npz_header(tmp_path / "x.npz")


def test_a_flipped_byte_is_noticed(npz):
    header = read_npz_header(npz)
    data = bytearray(npz.read_bytes())
    with zipfile.ZipFile(npz) as archive:
        info = archive.getinfo("a/b.npy")
    data[info.header_offset + 30 + len("a/b.npy") + info.compress_size] ^= 1  # near the end of the member
    npz.write_bytes(data)
    with pytest.raises(ValueError, match="not a complete npz file"):
        for _ in read_slices(header["a/b"], stacked=True):
            pass


@pytest.mark.parametrize("second", ["a.npy", "a"])
def test_a_member_that_is_there_twice_is_refused(tmp_path, second):
    np.save(tmp_path / "a.npy", np.zeros(9))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns the one who writes it
        for name in ("a.npy", second):
            archive.writestr(name, (tmp_path / "a.npy").read_bytes())
    with pytest.raises(ValueError, match=r"x\.npz is not a complete npz file \(it has two members a, "):
        read_npz_header(tmp_path / "x.npz")


def test_an_archive_that_unpacks_without_measure_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(2**20))
    with pytest.raises(ValueError, match=r"its \d+ bytes would unpack to 8388\d+, too many for weights"):
        read_npz_header(tmp_path / "x.npz")


@pytest.mark.parametrize("version", [(4, 0), (1, 1), (0, 0)])
def test_a_version_that_numpy_refuses_is_refused(tmp_path, version):
    np.save(tmp_path / "a.npy", np.zeros(9))
    data = bytearray((tmp_path / "a.npy").read_bytes())
    data[6:8] = version
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", bytes(data))
    with pytest.raises(ValueError, match=r"of the npy format; expected 1\.0, 2\.0 or 3\.0"):
        read_npz_header(tmp_path / "x.npz")


def test_an_archive_behind_other_bytes_is_refused_as_numpy_refuses_it(npz):
    npz.write_bytes(b"x" + npz.read_bytes())
    with pytest.raises(ValueError, match="does not start like an archive"):
        read_npz_header(npz)
