import numpy as np
import pytest
import torch
from PIL import Image

from heads import NYUv2, NYUv2BTS
from heads.data.depth_normals.normal_files import normals_from_depth
from heads.data.depth_normals.nyu_files import NYU_CAMERA

pytestmark = pytest.mark.filterwarnings("ignore:.*are missing. Scores on it")


def batches(module, split):
    module.setup("fit" if split in ("train", "val") else split)
    return list(module._loader(split))


def labelled(root, **kwargs):
    return NYUv2(str(root), **({"batch_size": 2, "num_workers": 0} | kwargs))


def test_labelled_frames_by_the_official_splits(nyu):
    module = labelled(nyu)
    assert [s for b in batches(module, "test") for s in b["image_id"]] == ["0002", "0004"]
    module.setup("fit")
    assert module.datasets["train"].source.frames == [0, 2] and module.datasets["val"].source.frames == [1, 3]


def test_another_number_of_frames_is_warned_about(nyu):
    with pytest.warns(UserWarning, match="NYUv2 test has 2 images in .*; expected 654, 652 are missing"):
        labelled(nyu).setup("test")


def test_training_batch_of_labelled_frames(nyu):
    batch = batches(labelled(nyu), "train")[0]
    assert batch["image"].shape == (2, 3, 416, 544) and batch["depth"].shape == (2, 1, 416, 544)
    assert batch["intrinsics"].shape == (2, 3, 3)
    assert batch["intrinsics"][:, 0, 0].tolist() == pytest.approx([518.8579] * 2)


def test_test_images_are_whole_and_raw_depth_has_its_holes(nyu):
    batch = batches(labelled(nyu), "test")[0]
    assert batch["image"].shape == (2, 3, 480, 640)
    assert all((d[:, 100:110, 200:220] == 0).all() and d.shape == (1, 480, 640) for d in batch["depth"])
    assert torch.equal(batch["intrinsics"][0], NYU_CAMERA)
    filled = batches(labelled(nyu, depth="depths"), "test")[0]["depth"][0]
    assert (filled > 0).all()


def test_black_border_as_in_copies_of_bts(nyu):
    image = batches(labelled(nyu, black_border=True), "test")[0]["image"][0]
    plain = batches(labelled(nyu), "test")[0]["image"][0]
    expected = torch.zeros_like(plain)
    expected[:, 7:474, 7:632] = plain[:, 7:474, 7:632]
    assert torch.equal(image, expected)


def test_whole_frames_without_a_crop(nyu):
    batch = batches(labelled(nyu, crop=None, rotate=0.0, flip=0.0), "train")[0]
    assert batch["image"].shape == (2, 3, 480, 640) and torch.equal(batch["intrinsics"][0], NYU_CAMERA)


def test_missing_files(tmp_path, nyu):
    with pytest.raises(ValueError, match=r"No file .*splits\.mat"):
        labelled(tmp_path).setup("test")
    (tmp_path / "splits.mat").write_bytes((nyu / "splits.mat").read_bytes())
    with pytest.raises(ValueError, match=r"No file .*nyu_depth_v2_labeled\.mat"):
        labelled(tmp_path).setup("test")


def bts(root, **kwargs):
    return NYUv2BTS(str(root), **({"batch_size": 1, "num_workers": 0} | kwargs))


def test_frames_in_the_layout_of_bts(nyu_bts):
    module = bts(nyu_bts)
    train, test = batches(module, "train"), batches(module, "test")
    assert sorted(b["image_id"][0] for b in train) == [f"sync/kitchen_0028b/rgb_0000{i}" for i in (0, 1)]
    assert test[0]["image_id"] == ["official_splits/test/bathroom/rgb_00045"]
    values = np.array(Image.open(nyu_bts / "official_splits/test/bathroom/sync_depth_00045.png"))
    np.testing.assert_allclose(test[0]["depth"][0][0], values / 1000, rtol=1e-7)
    assert train[0]["depth"].shape == (1, 1, 416, 544)


def test_a_list_that_names_a_missing_pair(nyu_bts):
    (nyu_bts / "sync/kitchen_0028b/sync_depth_00001.png").unlink()
    with pytest.raises(ValueError, match=r"1 files that .*train_files_with_gt\.txt names are missing, first .*00001"):
        bts(nyu_bts).setup("fit")


def test_the_camera_is_that_of_the_frames(nyu):
    """The toolbox counts pixels from 1 at their middles: its ray of pixel 1 is ours of 0.5."""
    ours = (0.5 - NYU_CAMERA[0, 2]) / NYU_CAMERA[0, 0]
    assert float(ours) == pytest.approx((1 - 325.58244941119034) / 518.85790117450188, rel=1e-6)
    assert (normals_from_depth(torch.ones(1, 480, 640), NYU_CAMERA)[2, 1:-1, 1:-1] == -1).all()
