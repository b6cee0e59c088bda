from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from heads import KITTIEigen

SAMPLES = Path(__file__).parents[5] / "shared" / "data" / "kitti_depth_mini" / "metric3d_demo"
pytestmark = pytest.mark.filterwarnings("ignore:.*are missing. Scores on it")


def module(root, **kwargs):
    return KITTIEigen(str(root), **({"batch_size": 1, "num_workers": 0} | kwargs))


def batches(data, split):
    data.setup("fit" if split in ("train", "val") else split)
    return list(data._loader(split))


def test_the_network_sees_the_benchmarks_crop_and_labels_keep_their_size(kitti):
    batches_ = batches(module(kitti), "test")
    assert len(batches_) == 1  # the image without depth is left out
    batch = batches_[0]
    path = next(kitti.rglob("image_02/data/*.png"))
    image = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float() / 255
    assert torch.equal(batch["image"][0], image[:, 23:375, 13:1229])
    values = np.array(Image.open(next(kitti.rglob("groundtruth/image_02/*.png"))))
    depth = batch["depth"][0][0]
    np.testing.assert_array_equal(depth[100:, 13:1229], (values / 256).astype(np.float32)[100:, 13:1229])
    assert (depth[:, :13] == 0).all() and (depth[:, 1229:] == 0).all() and (depth[:100] == 0).all()
    geometry = batch["geometry"][0]
    back = geometry.to_original(batch["image"][0])
    assert torch.equal(back[:, 23:, 13:1229], image[:, 23:, 13:1229]) and (back[:, :23] == 0).all()


def test_training_crop(kitti):
    batch = batches(module(kitti), "train")[0]
    assert batch["image"].shape == (1, 3, 352, 704) and batch["depth"].shape == (1, 1, 352, 704)


def test_an_image_that_is_no_kitti_image(kitti):
    path = next(kitti.rglob("image_02/data/*.png"))
    truth = next(kitti.rglob("groundtruth/image_02/*.png"))
    Image.fromarray(np.zeros((300, 400, 3), np.uint8)).save(path)
    Image.fromarray(np.full((300, 400), 5000, np.uint16)).save(truth)
    with pytest.raises(ValueError, match="smaller than KITTI's crop"):
        batches(module(kitti), "test")


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs ../shared/data/kitti_depth_mini")
def test_real_frames(tmp_path):
    root = tmp_path / "kitti"
    root.mkdir()
    (root / "drive").symlink_to(SAMPLES)
    names = ("0000000005", "0000000050")
    lines = [f"drive/image_02/data/{n}.png drive/proj_depth/groundtruth/image_02/{n}.png 707.0493" for n in names]
    (root / "eigen_test_files_with_gt.txt").write_text("\n".join(lines))
    (root / "data_depth_annotated").symlink_to(root)
    for batch in batches(module(root), "test"):
        depth = batch["depth"][0]
        assert depth.shape == (1, 375, 1242) and 10 < depth[depth > 0].median() < 20
