import math

import pytest
import torch
import torch.nn.functional as F

import heads
from heads import DepthTask, GeneratedScenes
from heads.geometry.resample import to_pixels


@pytest.fixture
def data():
    return GeneratedScenes((48, 64), train_images=4, val_images=2, test_images=2, batch_size=2, num_workers=0)


@pytest.fixture
def batch(data):
    data.setup("fit")
    return next(iter(data.train_dataloader()))


@pytest.fixture
def build(checkpoint):
    def make(**options):
        torch.manual_seed(0)
        return DepthTask(str(checkpoint), (48, 64), **({"warmup_steps": 2} | options))

    return make


def training_loss(task, batch):
    task.log = lambda *args, **kwargs: None
    return task.training_step(batch, 0)


def test_the_loss_is_taken_at_the_pixels_of_interpolated_depth(build, batch):
    task = build(sig_warmup_steps=0, sig_weight=10, gradient_weight=0.5).eval()
    depth = F.interpolate(task(batch["image"]), size=(48, 64), mode="bilinear")
    expected = 10 * task.sig(depth, batch["depth"]) + 0.5 * task.gradient(depth, batch["depth"])
    torch.testing.assert_close(training_loss(task, batch), expected)


def test_expectation_comes_before_interpolation(build, batch):
    task = build().eval()
    task.decoder.decoder.classifier.weight.data *= 100  # such that the two orders differ
    maps = task.extractor(batch["image"])
    found = task.pixels(task.decode(maps), (48, 64))
    logits = to_pixels(task.decoder.decoder(maps), 8, (48, 64))
    other = torch.einsum("bkhw,k->bhw", logits.relu() + 0.1, task.decoder.bins) / (logits.relu() + 0.1).sum(1)
    assert found.shape == (2, 1, 48, 64) and (found[:, 0] - other).abs().max() > 1e-3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layers": [0, 1, 2, 3], "decoder_args": {"batch_norm": False, "upsample": 4}, "gradient_weight": 0.5},
        {"layers": [0, 1, 2, 3], "decoder": "dpt", "decoder_args": {"features": 8}, "output": "regression"},
        {"bins": 5},
        {"pooled": True, "output": "relative"},
        {"output": "relative", "relative_alignment": "median", "decoder": "dpt", "decoder_args": {"features": 8}},
    ],
)
def test_every_kind_of_head_trains_tests_and_predicts(build, data, trainer, options, tmp_path):
    task = build(flip_test=True, **options)
    run = trainer(max_epochs=1)
    run.fit(task, data)
    (scores,) = run.test(task, data, verbose=False)
    assert all(math.isfinite(score) for score in scores.values()) and scores["test/excluded"] == 0
    depth = task.predict(torch.zeros(3, 31, 45, dtype=torch.uint8))
    assert depth.shape == (31, 45) and depth.dtype == torch.float32
    if options.get("output") != "relative":
        assert 0.001 <= depth.min() and depth.max() <= 10


def test_readings_beyond_the_range_or_missing_move_no_gradient(build, batch):
    for wrong in (0.0, 11.0, math.nan, math.inf):
        task = build(gradient_weight=0.5, sig_warmup_steps=0)
        loss = training_loss(task, batch | {"depth": torch.full_like(batch["depth"], wrong)})
        loss.backward()
        assert loss == 0 and all((p.grad == 0).all() for p in task.decoder.parameters())


def test_the_mirror_image_is_flipped_back_before_it_is_averaged(build):
    image = torch.randint(0, 256, (3, 45, 61), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain, both = build(), build(flip_test=True)
    mean = (plain.predict(image) + plain.predict(image.flip(-1)).flip(-1)) / 2
    torch.testing.assert_close(both.predict(image), mean)
    assert (plain.predict(image) - mean).abs().max() > 1e-6
    torch.testing.assert_close(both.predict(image), both.predict(image.flip(-1)).flip(-1))


def test_flipping_is_for_tests_and_not_for_validation(build, data, trainer):
    scores = {}
    for flip in (False, True):
        task = build(flip_test=flip)
        data.counts["val"] = data.counts["test"]
        scores[flip] = [trainer().validate(task, data, verbose=False)[0], trainer().test(task, data, verbose=False)[0]]
    assert scores[False][0] == scores[True][0]
    assert scores[False][1] != scores[True][1]


def test_scores_do_not_depend_on_the_batch_size(build, data, trainer):
    task, results = build(), []
    for size in (1, 2):
        data.batch_size = size
        results.append(trainer().test(task, data, verbose=False)[0])
    assert results[0] == pytest.approx(results[1], rel=1e-6)


def test_the_warm_up_counts_steps_however_many_heads_there_are(build, data, trainer):
    for sweep in (None, {"lr": [1e-3, 1e-2]}):
        task = build(sweep=sweep)
        trainer(max_epochs=1).fit(task, data)
        assert task.sig.steps == 2


def test_the_best_head_of_a_sweep_is_the_one_with_the_smallest_error(build, data, trainer, tmp_path):
    task = build(sweep={"lr": [1e-3, 0.3]})
    run = trainer(max_epochs=1)
    run.fit(task, data)
    assert task.best_head == task.sweep_scores.index(min(task.sweep_scores))
    run.save_checkpoint(tmp_path / "sweep.ckpt")
    alone = heads.load(tmp_path / "sweep.ckpt")
    image = torch.zeros(3, 48, 64, dtype=torch.uint8)
    assert alone.sig.steps == 2 and torch.equal(alone.predict(image), task.predict(image))
    heads.export(tmp_path / "sweep.ckpt", tmp_path / "head")
    assert torch.equal(
        heads.load(tmp_path / "head", task.extractor.arguments["backbone"]).predict(image), task.predict(image)
    )


def test_a_head_for_another_range_is_refused(build, data, trainer, tmp_path):
    run = trainer(max_epochs=1)
    run.fit(build(), data)
    run.save_checkpoint(tmp_path / "a.ckpt")
    for options in ({"depth_range": (0.001, 80.0)}, {"output": "regression"}):
        with pytest.raises(ValueError, match=r"was trained for .*'depth_range': \[0.001, 10.0\].*; this task has"):
            trainer().test(build(**options), data, ckpt_path=tmp_path / "a.ckpt", verbose=False)
    trainer().test(build(flip_test=True), data, ckpt_path=tmp_path / "a.ckpt", verbose=False)


def test_a_label_of_another_shape_is_refused_and_not_read_sideways(build, batch):
    task = build().eval()
    turned = batch | {"depth": batch["depth"].transpose(-1, -2)}
    with pytest.raises(ValueError, match=r"its label \(64, 48\)"):
        task.update(task.new_metrics(), task(batch["image"]), turned)


@pytest.mark.parametrize("output", ["bins", "relative"])
def test_loss_and_head_are_float32_under_mixed_precision(build, data, trainer, output):
    task = build(output=output, gradient_weight=0.5)
    seen, loss = [], task.loss
    task.loss = lambda depth, batch: seen.append((depth.dtype, loss(depth, batch).dtype)) or loss(depth, batch)
    trainer(max_epochs=1, precision="bf16-mixed").fit(task, data)
    assert set(seen) == {(torch.float32, torch.float32)}


def test_data_that_reach_beyond_the_range_of_the_head_are_warned_about(build, data, trainer):
    data.depth_range = (0.1, 20.0)
    with pytest.raises(
        UserWarning, match=r"data\.depth_range is \[0\.1, 20\.0\], model.* depths above 10 m are neither"
    ):
        trainer().test(build(), data, verbose=False)
    trainer().test(build(depth_range=(0.001, 20.0)), data, verbose=False)


def test_a_split_without_readings_is_refused(build, data, trainer):
    task = build(depth_range=(50.0, 60.0))
    with pytest.raises(ValueError, match="No image of the test split has a valid depth"):
        trainer().test(task, data, verbose=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "classes"}, "output is 'classes'"),
        ({"depth_range": (0, 10)}, r"depth_range is \[0, 10\]; expected two distances above 0"),
        ({"bins": 0}, "bins is 0; expected at least 2"),
        ({"sig_weight": 0}, "expected sig_weight above 0"),
        ({"gradient_weight": -1}, "the others at least 0"),
        ({"output": "relative", "alignment": "scale"}, "relative depth is always fitted"),
        ({"alignment": "inverse_scale_and_shift"}, "for the output 'bins'"),
        ({"crop": "eigen"}, "crop is 'eigen'"),
        ({"relative_alignment": "mean"}, "alignment is 'mean'"),
        ({"decoder": "dpt", "layers": [0, 1]}, "four layers of one reduction, or one; got 2"),
    ],
)
def test_what_does_not_fit_is_refused(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
