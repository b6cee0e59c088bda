import numpy as np
import pytest
import torch
from PIL import Image

from heads import SegmentationTask
from heads.resample import to_pixels


def loss(task, batch):
    task.log = lambda *args, **kwargs: None
    return task.training_step(batch, 0)


@pytest.fixture
def batch(data):
    data.setup("fit")
    return next(iter(data.train_dataloader()))


def test_loss_is_the_mean_over_pixels_that_are_not_ignored(task, batch):
    task.eval()  # BatchNorm must see the same statistics twice
    found = loss(task, batch)
    logits = to_pixels(task(batch["image"]), 8, (48, 64))
    expected = torch.nn.CrossEntropyLoss(ignore_index=255)(logits, batch["mask"])
    torch.testing.assert_close(found, expected)


def test_a_batch_of_ignored_pixels_gives_zero_and_finite_gradients(task, batch):
    found = loss(task, batch | {"mask": torch.full_like(batch["mask"], 255)})
    found.backward()
    assert found == 0
    assert all(p.grad.isfinite().all() for p in task.decoder.parameters())


def test_training_learns_and_leaves_the_backbone_bit_identical(task, data, trainer):
    before = {k: v.clone() for k, v in task.extractor.state_dict().items()}
    probe = torch.rand(1, 3, 48, 64)
    maps = task.extractor(probe)[0]
    run = trainer(max_epochs=8)
    run.validate(task, data, verbose=False)
    untrained = run.callback_metrics["val/mIoU"].item()
    run.fit(task, data)
    assert run.callback_metrics["val/mIoU"] > untrained + 0.1
    assert all(torch.equal(before[k], v) for k, v in task.extractor.state_dict().items())
    assert torch.equal(task.extractor(probe)[0], maps)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_head_is_float32_under_any_precision(checkpoint, data, trainer, precision):
    task = SegmentationTask(str(checkpoint), data.classes, (48, 64), precision=precision)
    trainer(max_epochs=1, precision="bf16-mixed").fit(task, data)
    assert {v.dtype for v in task.decoder.state_dict().values()} == {torch.float32, torch.int64}
    assert task.decoder.norm.running_mean.abs().sum() > 0


def test_scores_do_not_depend_on_the_batch_size(task, data, trainer):
    results = []
    for size in (1, 3):
        data.batch_size = size
        results.append(trainer().validate(task, data, verbose=False)[0])
    assert results[0] == results[1]


def test_predict_takes_any_picture_and_keeps_its_size(task, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    task.train()
    labels = task.predict(tmp_path / "a.png")
    assert task.training and labels.shape == (37, 53) and labels.dtype == torch.int64
    for same in (str(tmp_path / "a.png"), Image.fromarray(pixels), pixels, torch.from_numpy(pixels).permute(2, 0, 1)):
        assert torch.equal(task.predict(same), labels)


def test_predict_reads_pil_images_as_it_reads_files(task, tmp_path):
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 2**16, (37, 53), np.uint16))
    deep.save(tmp_path / "deep.png")
    assert torch.equal(task.predict(deep), task.predict(tmp_path / "deep.png"))


def test_predictions_are_plain_tensors(task):
    labels = task.predict(torch.zeros(3, 8, 8, dtype=torch.uint8))
    labels[labels == 0] = 1  # not allowed on tensors from inference mode
    assert not labels.requires_grad


@pytest.mark.parametrize(
    "bad", [torch.rand(3, 8, 8), np.zeros((8, 8), np.uint8), torch.zeros(1, 8, 8, dtype=torch.uint8)]
)
def test_predict_refuses_what_is_no_rgb_picture(task, bad):
    with pytest.raises(ValueError, match=r"expected uint8 RGB"):
        task.predict(bad)


@pytest.mark.parametrize("size", [(1, 1), (3, 2000)])
def test_predict_on_extreme_sizes(task, size):
    assert task.predict(torch.zeros(3, *size, dtype=torch.uint8)).shape == size


def test_no_class_list_and_no_layer_are_refused(checkpoint):
    with pytest.raises(ValueError, match="classes is None"):
        SegmentationTask(str(checkpoint), None)
    with pytest.raises(ValueError, match="out_indices is"):
        SegmentationTask(str(checkpoint), 3, layers=[])


def test_a_pil_image_is_turned_upright_like_its_file(task, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        assert task.predict(image).shape == task.predict(tmp_path / "a.jpg").shape == (40, 20)
