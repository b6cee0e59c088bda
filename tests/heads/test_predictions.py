import numpy as np
import pytest
import torch
from PIL import Image

from heads.data.images import read_image, read_labels
from heads.predictions import PredictionWriter, write_labels, write_overlay

PALETTE = np.array([[10, 20, 30], [200, 100, 0]], np.uint8)


def test_labels_are_indices_with_the_classes_colours(tmp_path):
    labels = torch.tensor([[0, 1, 1], [1, 0, 0]])
    write_labels(labels, PALETTE, tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    assert image.mode == "P" and np.array_equal(np.array(image), labels.numpy())
    assert np.array_equal(np.array(image.convert("RGB")), PALETTE[labels.numpy()])


@pytest.mark.parametrize(("opacity", "expected"), [(0.0, [100, 100, 100]), (1.0, [200, 100, 0]), (0.5, [150, 100, 50])])
def test_overlay_blends_photograph_and_colours(tmp_path, opacity, expected):
    Image.new("RGB", (32, 16), (100, 100, 100)).save(tmp_path / "photo.png")
    write_overlay(torch.ones(16, 32, dtype=torch.int64), PALETTE, tmp_path / "photo.png", tmp_path / "o.jpg", opacity)
    overlay = np.array(Image.open(tmp_path / "o.jpg"))
    assert overlay.shape == (16, 32, 3) and np.abs(overlay.astype(int) - expected).max() <= 3  # JPEG rounds


def test_opacity_out_of_range_is_refused():
    with pytest.raises(ValueError, match="opacity is 2"):
        PredictionWriter(opacity=2)


def test_odd_images_are_predicted_at_their_own_size(task, trainer, tmp_path):
    from heads import SegmentationFolder

    photos = tmp_path / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (30, 44), np.uint8)
    Image.fromarray(pixels).save(photos / "grey.jpg")
    Image.fromarray(pixels.astype(np.uint16) * 257).save(photos / "deep.png")
    Image.fromarray(pixels).convert("CMYK").save(photos / "cmyk.jpg")
    Image.fromarray(pixels).convert("RGBA").save(photos / "alpha.png")
    Image.new("RGB", (1, 1)).save(photos / "one.png")
    Image.new("RGB", (20_000, 8)).save(photos / "wide.png")
    data = SegmentationFolder(classes=task.colours, img_size=(48, 64), predict_images=str(photos), num_workers=0)
    trainer(callbacks=[PredictionWriter()]).predict(task, data, return_predictions=False)
    for path in photos.iterdir():
        labels = read_labels(tmp_path / "predictions" / "labels" / f"{path.stem}.png")
        overlay = read_image(tmp_path / "predictions" / "overlays" / f"{path.stem}.jpg")
        assert labels.shape == overlay.shape[1:] == read_image(path).shape[1:]
        assert torch.equal(labels.long(), task.predict(path))
