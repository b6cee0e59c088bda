import numpy as np
import pytest
import torch
from PIL import Image

from heads import DepthFolder, NormalsFolder
from heads.data.module import collate

SIZE = (24, 32)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def root(tmp_path):
    """Three training and two validation images whose red is their depth in decimetres, and their normals."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            decimetres = rng.integers(10, 60, SIZE, np.uint16)
            decimetres[:2] = 0
            image = np.stack([decimetres, np.full(SIZE, i), np.zeros(SIZE)], axis=-1).astype(np.uint8)
            save(tmp_path / split / f"{i}.png", image)
            save(tmp_path / f"{split}_depth" / f"{i}.png", decimetres * np.uint16(100))
            normals = np.broadcast_to(np.array([200, 128, 20], np.uint8), (*SIZE, 3)).copy()
            normals[:2] = 0
            save(tmp_path / f"{split}_normals" / f"{i}.png", normals)
    return tmp_path


def depth(root, **kwargs):
    return DepthFolder(str(root), SIZE, **({"batch_size": 2, "num_workers": 0} | kwargs))


def normals(root, **kwargs):
    return NormalsFolder(str(root), SIZE, **({"batch_size": 2, "num_workers": 0} | kwargs))


def batches(module, split="train"):
    module.setup("fit" if split in ("train", "val") else split)
    return list(module._loader(split))


def test_training_batch_of_depth(root):
    batch = batches(depth(root, colour=0.0))[0]
    assert batch["depth"].shape == (2, 1, *SIZE) and batch["depth"].dtype == torch.float32
    torch.testing.assert_close(batch["image"][:, :1] * 25.5, batch["depth"])
    assert "intrinsics" not in batch and len(batch["geometry"]) == 2


def test_depth_moves_with_its_image_through_the_whole_augmentation(root):
    for batch in batches(depth(root, crop=(16, 20), rotate=5.0, colour=0.0)):
        assert batch["image"].shape[2:] == batch["depth"].shape[2:] == (16, 20)
        read = batch["depth"] > 0
        error = (batch["image"][:, :1] * 25.5 - batch["depth"])[read].abs()
        assert read.float().mean() > 0.6 and error.median() < 1.6  # images are blended where they are turned
    turned = [b["geometry"][0].original_size for b in batches(depth(root, crop=(16, 20), rotate=5.0))]
    assert set(turned) == {SIZE}


def test_depth_is_tested_at_its_own_size(root):
    module = DepthFolder(str(root), (12, 20), num_workers=0, intrinsics=[30.0, 30.0, 16.0, 12.0])
    batch = batches(module, "val")[0]
    assert batch["image"].shape == (2, 3, 12, 20) and [d.shape for d in batch["depth"]] == [(1, *SIZE)] * 2
    assert batch["image_id"] == ["val/0", "val/1"]
    assert batch["intrinsics"][0].tolist() == [[18.75, 0, 10], [0, 15, 6], [0, 0, 1]]


def test_known_cameras_are_stacked_in_training(root):
    batch = batches(depth(root, intrinsics=[30.0, 30.0, 10.0, 12.0], flip=1.0))[0]
    assert batch["intrinsics"].shape == (2, 3, 3) and batch["intrinsics"][0, 0].tolist() == [30, 0, 22]


def test_training_batch_of_normals(root):
    still, flipped = (batches(normals(root, flip=p, colour=0.0, axes=("right", "down", "away")))[0] for p in (0, 1))
    assert still["normal"].shape == (2, 3, *SIZE)
    assert (still["normal"][:, :, :2] == 0).all() and (still["normal"][:, 0, 2:] > 0.5).all()
    assert torch.equal(flipped["normal"][:, 0], -still["normal"][:, 0])
    assert torch.equal(flipped["normal"][:, 1:], still["normal"][:, 1:])


def test_augmentation_depends_on_seed_and_epoch_and_leaves_the_global_state_alone(root):
    modules = [depth(root, rotate=20.0), depth(root, rotate=20.0), depth(root, rotate=20.0, seed=1)]
    for module in modules:
        module.setup("fit")
    state = torch.get_rng_state()
    image, same, other = (module.datasets["train"][3, 2]["image"] for module in modules)
    assert torch.equal(image, same) and not torch.equal(image, other)
    assert not torch.equal(image, modules[0].datasets["train"][4, 2]["image"])
    assert torch.equal(torch.get_rng_state(), state)


def test_same_samples_for_any_number_of_workers(root):
    for alone, many in zip(
        batches(depth(root, rotate=9.0)), batches(depth(root, rotate=9.0, num_workers=2)), strict=True
    ):
        assert alone["path"] == many["path"]
        assert torch.equal(alone["image"], many["image"]) and torch.equal(alone["depth"], many["depth"])


def test_list_files_in_place_of_folders(root):
    (root / "list.txt").write_text("/train/1.png /train_depth/1.png 518.8\n/val/0.png /val_depth/0.png 518.8\n")
    module = depth(root, val_list="list.txt")
    assert [s for b in batches(module, "val") for s in b["image_id"]] == ["train/1", "val/0"]
    assert module.protocol["list"] == "list.txt"


def test_arrays_in_place_of_pictures(root):
    for path in sorted((root / "val_depth").iterdir()):
        np.save(path.with_suffix(".npy"), np.array(Image.open(path)) / 1000)
        path.unlink()
    a, b = batches(depth(root), "val")[0]["depth"]
    assert 1 <= a[a > 0].min() and a.max() < 6 and (b[:, :2] == 0).all()


def test_another_unit_is_warned_about_before_training(root):
    with pytest.warns(UserWarning, match=r"outside depth_range \[0.001, 10.0\].*scale"):
        depth(root, depth_scale=1).setup("validate")


def test_predict_needs_no_labels_and_no_root(root):
    module = DepthFolder(predict_images=str(root / "val"), num_workers=0)
    assert "depth" not in batches(module, "predict")[0]


def fails(module, message, split="train"):
    with pytest.raises(ValueError, match=message):
        batches(module, split)


def test_image_and_depth_of_different_size(root):
    save(root / "train_depth" / "1.png", np.ones((8, 9), np.uint16))
    fails(
        depth(root, batch_size=1), r"The depth of .*1\.png is \(8, 9\) \(height, width\), its image 1\.png \(24, 32\)"
    )


def test_depth_of_8_bits_and_depth_without_a_reading(root):
    save(root / "train_depth" / "0.png", np.ones(SIZE, np.uint8))
    fails(depth(root, batch_size=1), r"0\.png has mode L")
    save(root / "train_depth" / "0.png", np.zeros(SIZE, np.uint16))
    fails(depth(root, batch_size=1), r"0\.png holds no reading")


def test_missing_root_folders_and_labels(root, tmp_path):
    fails(DepthFolder(num_workers=0), r"data\.root is not set")
    fails(DepthFolder(str(root / "gone"), num_workers=0), r"No folder .*gone")
    fails(depth(root, train_depth="gone"), r"No folder .*gone; expected the label PNGs or NPYs")
    (root / "train_normals" / "2.png").unlink()
    fails(normals(root), r"1 of 3 images .* first 2\.png")
    fails(DepthFolder(num_workers=0), r"data\.predict_images is not set", "predict")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth_range": (2.0, 1.0)}, r"depth_range is \[2\.0, 1\.0\]"),
        ({"depth_range": (1.0, 1.0)}, r"depth_range is \[1\.0, 1\.0\]"),
        ({"depth_scale": 0.0}, r"depth_scale is 0\.0"),
        ({"intrinsics": [1.0, 2.0]}, "expected fx, fy, cx and cy"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_bad_arguments(root, arguments, message):
    with pytest.raises(ValueError, match=message):
        depth(root, **arguments)


def test_bad_axes_and_sizes(root):
    with pytest.raises(ValueError, match="axes is"):
        normals(root, axes=("x", "y", "z"))
    with pytest.raises(ValueError, match="img_size is"):
        DepthFolder(str(root), (0, 4))


def test_samples_of_one_size_collate(root):
    module = depth(root)
    module.setup("fit")
    assert collate([module.datasets["train"][0, i] for i in range(2)], module.stacked)["depth"].shape == (2, 1, *SIZE)
