import h5py
import numpy as np
import pytest
import scipy.io
import torch

from heads import NYUv2Normals

pytestmark = pytest.mark.filterwarnings("ignore:.*are missing. Scores on it")


def module(root, **kwargs):
    return NYUv2Normals(str(root), **({"batch_size": 2, "num_workers": 0} | kwargs))


def batches(data, split):
    data.setup("fit" if split in ("train", "val") else split)
    return list(data._loader(split))


def test_normals_count_where_raw_depth_has_a_reading(nyu):
    normal = batches(module(nyu), "test")[0]["normal"][0]
    with h5py.File(nyu / "norm_gt_l.mat") as file:
        expected = torch.from_numpy(file["norm_gt_l"][1]).transpose(1, 2)
    assert (normal[:, 100:110, 200:220] == 0).all()
    torch.testing.assert_close(normal[:, :100], expected[:, :100])


def test_training_batch(nyu):
    batch = batches(module(nyu, img_size=(120, 160)), "train")[0]
    assert batch["normal"].shape == (2, 3, 120, 160) and batch["intrinsics"].shape == (2, 3, 3)
    length = batch["normal"].norm(dim=1)
    assert ((length - 1).abs() < 1e-4).logical_or(length == 0).all() and batch["normal"][:, 2].mean() < -0.5


def test_the_middle_square(nyu):
    batch = batches(module(nyu, img_size=(480, 480), square=True), "test")[0]
    assert batch["image"].shape == (2, 3, 480, 480)
    normal = batch["normal"][0]
    assert normal.shape == (3, 480, 640) and (normal[..., :80] == 0).all() and (normal[..., 560:] == 0).all()
    assert (normal[..., 80:100] != 0).any()
    assert float(batch["intrinsics"][0][0, 2]) == pytest.approx(245.0824)


def test_training_on_files_of_geonet(nyu, tmp_path):
    for name in ("b.mat", "a.mat"):
        values = {"img": np.zeros((481, 641, 3)), "depth": np.full((481, 641), 2.5)}
        values["depth"][:10] = 11
        scipy.io.savemat(tmp_path / name, values | {"norm": np.broadcast_to([0, 0.6, 0.8], (481, 641, 3))})
    data = module(nyu, geonet=str(tmp_path), geonet_axes=("right", "up", "towards"), jitter=0.0, crop=0.0)
    data.setup("fit")
    assert [p.name for p in data.datasets["train"].source.paths] == ["a.mat", "b.mat"]
    normal = data.datasets["train"][0, 0]["normal"]
    torch.testing.assert_close(normal[:, 20, 20], torch.tensor([0, -0.6, -0.8]))
    assert (normal[:, :10] == 0).all()


def test_missing_files_of_geonet(nyu):
    with pytest.raises(ValueError, match=r"No \.mat files in .*gone"):
        module(nyu, geonet="gone").setup("fit")


def test_wrong_axes(nyu):
    with pytest.raises(ValueError, match="axes is"):
        module(nyu, axes=("a", "b", "c"))
    with pytest.raises(ValueError, match="most normals point away"):
        batches(module(nyu, axes=("right", "up", "towards")), "test")
