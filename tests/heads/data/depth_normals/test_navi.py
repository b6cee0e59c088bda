import json

import numpy as np
import pytest
import torch
from PIL import Image

from heads import NAVI
from heads.data.depth_normals.navi import object_window, relative_depth

pytestmark = pytest.mark.filterwarnings("ignore:.*are missing. Scores on it")


def module(root, **kwargs):
    return NAVI(str(root), **({"img_size": (64, 64), "stride": 1, "batch_size": 2, "num_workers": 0} | kwargs))


def batches(data, split):
    data.setup("fit" if split in ("train", "val") else split)
    return list(data._loader(split))


def test_multiview_scenes_train_and_the_wild_set_tests(navi):
    data = module(navi)
    data.setup("fit")
    names = [view.name for view in data.datasets["train"].source.views]
    scenes = ("multiview-00-pixel_5", "multiview-01-canon")
    assert names == [f"dino/{scene}/00{i}" for scene in scenes for i in range(2)]
    assert [v.name for v in data.datasets["val"].source.views] == ["dino/wild_set/000", "dino/wild_set/001"]


def test_each_nth_view(navi):
    data = module(navi, stride=3)
    data.setup("fit")
    assert [v.name[-3:] for v in data.datasets["train"].source.views] == ["000", "001"]


def test_photographs_are_turned_upright_and_cut_to_the_object(navi):
    batch = batches(module(navi, relative=False), "test")[0]
    assert batch["image"].shape == (2, 3, 64, 64) and batch["depth"][0].shape == (1, 512, 512)
    image, depth = batch["image"][0], batch["depth"][0]
    # 40 wide and 20 high: the square is 40 px, the object fills its middle rows from side to side
    assert (image[:, 20:44, 2:-2] > 0.6).all() and (image[:, :12] < 0.3).all()
    assert (depth[:, 132:380, :] > 0).all() and (depth[:, :120] == 0).all()
    np.testing.assert_allclose(depth[0, 256, [0, 511]], [0.5, 0.7], rtol=2e-3)
    assert (depth[0, 256].diff() >= 0).all()


def test_relative_depth_of_an_object(navi):
    depth = batches(module(navi), "test")[0]["depth"][0]
    read = depth[depth > 0]
    assert read.min() == pytest.approx(0.01) and read.max() == pytest.approx(1.0)


def test_relative_depth_is_that_of_probe3d():
    depth = torch.tensor([[[0.0, 0.5, 0.6, 0.7]]])
    torch.testing.assert_close(relative_depth(depth), torch.tensor([[[0, 0.01, 0.505, 1.0]]]))
    flat = torch.tensor([[[0.0, 0.5, 0.502]]])
    torch.testing.assert_close(relative_depth(flat), torch.tensor([[[0, 0.01, 0.208]]]))
    assert (relative_depth(torch.zeros(1, 2, 2)) == 0).all()


def test_focal_lengths_follow_the_image_and_its_cut(navi):
    matrix = batches(module(navi), "test")[0]["intrinsics"][0]
    focal = 3000 * 60 / 3000 * 64 / 40  # of the 60 px image, cut to 40 px and shown at 64
    assert matrix[0, 0] == pytest.approx(focal) and matrix[1, 1] == pytest.approx(focal)
    assert matrix[0, 2] == pytest.approx((30 - 10) * 1.6) and matrix[1, 2] == pytest.approx((40 - 10) * 1.6)


def test_normals_come_from_the_depth(navi):
    batch = batches(module(navi, targets=["normal"]), "test")[0]
    assert "depth" not in batch
    normal = batch["normal"][0]
    valid = normal.norm(dim=0) > 0
    assert normal.shape == (3, 512, 512) and valid.any()
    # farther away to the right, like the left wall of a corridor: it looks to the right, and not up or down
    assert normal[0][valid].mean() > 0.3 and normal[1][valid].abs().mean() < 0.25 and normal[2][valid].mean() < -0.2


def test_training_batch_of_both(navi):
    batch = batches(module(navi, targets=["depth", "normal"], crop=1.0), "train")[0]
    assert batch["depth"].shape == (2, 1, 64, 64) and batch["normal"].shape == (2, 3, 64, 64)
    assert batch["intrinsics"].shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((20, 40, 10, 50), (10, 10, 40, 40)),
        ((10, 20, 0, 30), (10, 0, 30, 30)),  # at the edge it is moved no farther than it must be
        ((65, 70, 50, 60), (60, 50, 10, 10)),
        ((30, 31, 30, 31), (30, 30, 2, 2)),
    ],
)
def test_square_around_the_object(box, window):
    depth = torch.zeros(80, 60)
    depth[box[0] : box[1], box[2] : box[3]] = 1
    assert object_window(depth) == window


def test_without_an_object_it_is_the_middle_square():
    assert object_window(torch.zeros(80, 60)) == (10, 0, 60, 60)


def edit(navi, change):
    path = navi / "dino/wild_set/annotations.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[0].pop("camera"), r"annotations\.json is damaged or another file \(KeyError"),
        (lambda rows: rows[0].update(filename="../../x.jpg"), r"annotations\.json names '\.\./\.\./x\.jpg'"),
        (lambda rows: rows[0].update(filename="9.jpg"), r"No file .*9\.jpg, which .*annotations\.json names"),
        (lambda rows: rows[0].update(filename="9" * 300), r"No file .*999, which .*annotations\.json names"),
        (lambda rows: rows[0].update(filename="a\0b"), r"No file .*, which .*annotations\.json names"),
        (lambda rows: rows[0].update(image_size=[[4000], [3000]]), r"annotations\.json is damaged .*image_size \[\[4"),
        (lambda rows: rows[0].update(image_size=[4000, 0]), r"annotations\.json is damaged .*image_size \[4000, 0\]"),
        (lambda rows: rows[0].update(image_size=["a", "b"]), r"annotations\.json is damaged .*image_size"),
        (lambda rows: rows[0].update(image_size=[4000]), r"annotations\.json is damaged .*image_size \[4000\]"),
        (lambda rows: rows[0]["camera"].update(focal_length=0), r"annotations\.json is damaged .*focal_length 0\.0"),
        (lambda rows: rows[0]["camera"].update(focal_length=float("nan")), r"is damaged .*focal_length nan"),
        (lambda rows: rows[0]["camera"].update(focal_length=10**400), r"is damaged .*OverflowError"),
    ],
)
def test_annotations_that_are_damaged(navi, change, message):
    edit(navi, change)
    with pytest.raises(ValueError, match=message):
        module(navi).setup("test")


def test_folders_that_are_not_navi(navi, tmp_path):
    (navi / "dino/wild_set/annotations.json").unlink()
    with pytest.raises(ValueError, match=r"No file .*annotations\.json"):
        module(navi).setup("test")
    with pytest.raises(ValueError, match="holds no object"):
        module(navi / "custom_splits").setup("test")


def test_depth_that_is_not_turned_like_its_image(navi):
    path = navi / "dino/wild_set/depth/000.png"
    Image.fromarray(np.rot90(np.array(Image.open(path))).copy()).save(path)
    with pytest.raises(
        ValueError, match=r"000\.png is \(60, 80\) \(height, width\), its image 000\.jpg \(80, 60\).*EXIF orientation 6"
    ):
        batches(module(navi), "test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"targets": []}, "expected depth, normal or both"),
        ({"targets": ["colour"]}, "expected depth, normal or both"),
        ({"stride": 0}, "stride is 0; expected a whole number of at least 1"),
    ],
)
def test_bad_arguments(navi, arguments, message):
    with pytest.raises(ValueError, match=message):
        module(navi, **arguments)
