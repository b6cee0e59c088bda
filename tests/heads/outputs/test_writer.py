import numpy as np
import pytest
import torch
from PIL import Image

from heads import DepthTask, SegmentationFolder, SegmentationTask
from heads.data.image_folder import resized
from heads.data.images import read_image, read_labels
from heads.data.module import collate
from heads.geometry.resample import scores_at
from heads.geometry.upsampling import Upsampling
from heads.outputs.segmentation import write_labels, write_overlay, write_probabilities
from heads.outputs.writer import PredictionWriter

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


@pytest.mark.parametrize("averaged", [False, True])
def test_scores_are_the_probabilities_that_the_labels_were_read_from(checkpoint, scenes, trainer, tmp_path, averaged):
    torch.manual_seed(0)
    task = SegmentationTask(str(checkpoint), 3, (24, 40), flip_test=averaged)
    data = SegmentationFolder(classes=3, img_size=(24, 40), predict_images=str(scenes / "val"), num_workers=0)
    trainer(callbacks=[PredictionWriter(scores=True)]).predict(task, data, return_predictions=False)
    for path in sorted((scenes / "val").iterdir()):
        scores = np.load(tmp_path / "predictions" / "scores" / f"{path.stem}.npy")
        assert scores.dtype == np.float16 and scores.shape == (3, 48, 64)
        batch = collate([resized(path, read_image(path), (24, 40))])
        ((found,),) = task.eval().outputs(batch, [0], "predict")
        plain = scores_at(found.cells[None], found.reduction, batch["geometry"][0])[0]
        plain = plain if averaged else plain.softmax(dim=0)
        assert np.abs(scores - plain.detach().numpy()).max() < 1e-3
        assert np.abs(scores.sum(axis=0, dtype=np.float32) - 1).max() < 2e-3
        labels = read_labels(tmp_path / "predictions" / "labels" / f"{path.stem}.png").numpy()
        assert (np.take_along_axis(scores, labels[None].astype(int), 0)[0] == scores.max(axis=0)).all()


def test_scores_are_not_written_unless_asked_for(task, data, trainer, tmp_path, capsys):
    trainer(callbacks=[PredictionWriter()]).predict(task, data, return_predictions=False)
    assert {p.name for p in (tmp_path / "predictions").iterdir()} == {"labels", "overlays"}
    assert f"Predictions written to {tmp_path / 'predictions'}" in capsys.readouterr().out


def test_scores_of_a_task_without_classes_are_refused(checkpoint, data, trainer, tmp_path):
    run = trainer(callbacks=[PredictionWriter(scores=True)])
    with pytest.raises(ValueError, match=r"predictions\.scores is true, but DepthTask has no class scores"):
        run.predict(DepthTask(str(checkpoint), (48, 64)), data)
    assert not (tmp_path / "predictions").exists()


def test_scores_that_cannot_be_written_leave_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    cells = torch.randn(2, 3, 4)
    upsampling = Upsampling.to_image(cells, 8, (24, 32))
    write_probabilities(cells, upsampling, path, logits=True)
    before = path.read_bytes()
    monkeypatch.setattr(Upsampling, "band", full_disk)
    with pytest.raises(ValueError, match=r"a\.npy cannot be written .*No space left"):
        write_probabilities(cells, upsampling, path, logits=True)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def full_disk(*arguments):
    raise OSError(28, "No space left on device")
