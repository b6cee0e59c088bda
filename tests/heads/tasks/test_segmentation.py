from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from heads import SegmentationTask
from heads.data.image_folder import described
from heads.data.module import collate
from heads.geometry.record import Geometry
from heads.geometry.resample import to_pixels


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


@pytest.fixture
def sliding(checkpoint):
    """Makes a probe on the tiny checkpoint that is tested in some way."""

    def make(**options):
        torch.manual_seed(0)
        return SegmentationTask(str(checkpoint), 3, (48, 64), **options).eval()

    return make


def photos(*sizes, seed=0):
    """A test batch of images of these heights and widths."""
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes]
    return collate([described(Path("a"), image, Geometry.of(tuple(image.shape[1:]))) for image in images])


def test_one_window_gives_the_labels_of_the_whole_image(sliding):
    batch = photos((48, 64), (40, 64))
    whole, windows = sliding().answer(batch), sliding(inference="slide").answer(batch)
    assert all(torch.equal(a, b) for a, b in zip(whole, windows, strict=True))


@pytest.mark.parametrize("window_batch", [1, 8])
def test_probabilities_are_averaged_where_windows_overlap(sliding, window_batch):
    task = sliding(inference="slide", window=(48, 64), stride=(48, 32), window_batch=window_batch)
    batch = photos((48, 96))
    left, right = (to_pixels(task(batch["image"][..., a : a + 64]), 8, (48, 64)).softmax(dim=1)[0] for a in (0, 32))
    expected = torch.cat([left[..., :32], (left[..., 32:] + right[..., :32]) / 2, right[..., 32:]], dim=-1)
    ((scores,),) = task.outputs(batch, [0], "test")
    torch.testing.assert_close(scores.cells, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(task.answer(batch)[0], scores.cells.argmax(dim=0))


def test_what_pads_an_image_to_its_batch_is_not_looked_at(sliding):
    task = sliding(inference="slide", window=(32, 32))
    together, alone = task.answer(photos((48, 64), (40, 96))), task.answer(photos((48, 64)))
    assert [tuple(labels.shape) for labels in together] == [(48, 64), (40, 96)]
    assert torch.equal(together[0], alone[0])


def test_mirror_images_and_scales_are_for_tests_not_for_validation(sliding):
    task, plain = sliding(flip_test=True, scales=[1.0, 1.5]), sliding()
    batch = photos((48, 64))
    ((seen,),) = task.outputs(batch, [0], "val")
    assert torch.equal(seen.cells, plain(batch["image"])[0]) and seen.reduction == 8
    ((tested,),) = task.outputs(batch, [0], "test")
    mirrored = {**batch, "image": batch["image"].flip(-1)}
    ((again,),) = task.outputs(mirrored, [0], "test")
    torch.testing.assert_close(tested.cells, again.cells.flip(-1), rtol=1e-4, atol=1e-5)
    assert tested.reduction == 1 and tested.cells.shape == (3, 48, 64)


def test_the_protocol_says_how_an_image_is_looked_at(sliding):
    assert {"inference": "whole", "flip_test": False, "scales": [1.0]}.items() <= sliding().protocol().items()
    protocol = sliding(inference="slide", scales=[0.5]).protocol()
    assert (protocol["window"], protocol["stride"], protocol["scales"]) == ([48, 64], [32, 42], [0.5])


def test_predict_keeps_the_shape_of_an_image_that_windows_slide_over(sliding, monkeypatch):
    task, sizes = sliding(inference="slide"), []
    answer = task.answer
    monkeypatch.setattr(task, "answer", lambda batch: sizes.append(batch["size"][0]) or answer(batch))
    image = torch.zeros(3, 30, 90, dtype=torch.uint8)
    assert task.predict(image).shape == task.predict(image, (50, 60)).shape == task.predict(image, 40).shape == (30, 90)
    assert sizes == [(48, 144), (50, 60), (40, 120)]


def test_windows_that_nothing_slides_are_refused(sliding):
    with pytest.raises(ValueError, match="but inference is 'whole'"):
        sliding(window=(32, 32))


def test_losses_by_option_train_and_reload_with_their_arguments(checkpoint, data, trainer, tmp_path):
    losses, loss_args = {"cross_entropy": 1.0, "dice": 0.5, "focal": 2.0}, {"class_weights": [1.0, 2.0, 3.0]}
    decoder = {"decoder": "segformer", "decoder_args": {"features": 8, "dropout": 0.1}}
    task = SegmentationTask(str(checkpoint), data.classes, (48, 64), losses=losses, loss_args=loss_args, **decoder)
    run = trainer(max_epochs=1)
    run.fit(task, data)
    run.save_checkpoint(tmp_path / "a.ckpt")
    again = SegmentationTask.load_from_checkpoint(tmp_path / "a.ckpt", map_location="cpu")
    assert again.criterion.terms == losses and again.criterion.class_weights == [1.0, 2.0, 3.0]
    image = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8)
    assert torch.equal(again.predict(image), task.predict(image))


def test_unknown_losses_and_arguments_are_refused(checkpoint):
    with pytest.raises(ValueError, match=r"terms \['dise'\]; expected some of cross_entropy, dice, focal"):
        SegmentationTask(str(checkpoint), 3, losses={"dise": 1.0})
    with pytest.raises(ValueError, match=r"loss_args {'gama': 1} do not fit the loss: .*gama"):
        SegmentationTask(str(checkpoint), 3, loss_args={"gama": 1})


@pytest.mark.parametrize("other", [{"decoder": "fpn"}, {"decoder_args": {"upsample": 2}}])
def test_a_checkpoint_is_refused_by_the_name_of_its_decoder(checkpoint, task, data, trainer, tmp_path, other):
    run = trainer(max_epochs=1)
    run.fit(task, data)
    run.save_checkpoint(tmp_path / "a.ckpt")
    another = SegmentationTask(str(checkpoint), data.classes, (48, 64), **other)
    with pytest.raises(ValueError, match=r"trained with {'decoder': 'linear', 'decoder_args': {}}; this task has"):
        trainer().test(another, data, ckpt_path=tmp_path / "a.ckpt")
    same = SegmentationTask(str(checkpoint), data.classes, (48, 64), decoder_args={})
    trainer().test(same, data, ckpt_path=tmp_path / "a.ckpt", verbose=False)
