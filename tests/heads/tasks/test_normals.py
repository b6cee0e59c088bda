import math

import pytest
import torch
import torch.nn.functional as F

from heads import GeneratedScenes, NormalsTask
from heads.losses import AngularLoss, UncertaintyLoss


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
        return NormalsTask(str(checkpoint), (48, 64), **({"warmup_steps": 2} | options))

    return make


def picture(height, width):
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("uncertainty", [False, True])
def test_the_loss_is_that_of_bicubic_normals(build, batch, uncertainty):
    task = build(uncertainty=uncertainty).eval()
    task.log = lambda *args, **kwargs: None
    output = task(batch["image"])
    assert output.shape[1] == 3 + uncertainty
    torch.testing.assert_close(output[:, :3].norm(dim=1), torch.ones(2, 6, 8))
    expected = (UncertaintyLoss() if uncertainty else AngularLoss())(
        F.interpolate(output, size=(48, 64), mode="bicubic"), batch["normal"]
    )
    torch.testing.assert_close(task.training_step(batch, 0), expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"uncertainty": True, "layers": [0, 1, 2, 3]},
        {"layers": [0, 1, 2, 3], "decoder": "dpt", "decoder_args": {"features": 8}},
    ],
)
def test_every_kind_of_head_trains_tests_and_predicts_unit_vectors(build, data, trainer, options):
    task = build(flip_test=True, **options)
    run = trainer(max_epochs=1)
    run.fit(task, data)
    (scores,) = run.test(task, data, verbose=False)
    assert all(math.isfinite(score) for score in scores.values()) and scores["test/excluded"] == 0
    normals = task.predict(picture(31, 45))
    assert normals.dtype == torch.float32
    torch.testing.assert_close(normals.norm(dim=0), torch.ones(31, 45))


def test_the_mirror_image_turns_x_round(build):
    plain, both, image = build(), build(flip_test=True), picture(48, 64)  # which need not be resized
    mirror = plain.predict(image.flip(-1)).flip(-1) * torch.tensor([-1.0, 1, 1]).view(3, 1, 1)
    expected = F.normalize(plain.predict(image) + mirror, dim=0)
    torch.testing.assert_close(both.predict(image), expected, atol=1e-4, rtol=0)
    again = both.predict(image.flip(-1)).flip(-1) * torch.tensor([-1.0, 1, 1]).view(3, 1, 1)
    torch.testing.assert_close(both.predict(image), again, atol=1e-4, rtol=0)


def test_scores_are_taken_at_the_labels_own_size(build, batch):
    task = build().eval()
    metric = task.new_metrics()
    perfect = batch | {"normal": task.postprocess(task(batch["image"]), batch)}
    task.update(metric, task(batch["image"]), perfect)
    assert metric.compute()["RMSE"] < 1e-3
    with pytest.raises(ValueError, match=r"its label \(3, 40, 64\)"):
        task.update(metric, task(batch["image"]), batch | {"normal": torch.ones(2, 3, 40, 64)})


def test_pixels_without_a_normal_move_no_gradient(build, batch):
    for wrong in (0.0, math.nan):
        task = build()
        task.log = lambda *args, **kwargs: None
        loss = task.training_step(batch | {"normal": torch.full_like(batch["normal"], wrong)}, 0)
        loss.backward()
        assert loss == 0 and all((p.grad == 0).all() for p in task.decoder.parameters())


def test_a_split_without_normals_is_refused(build, data, trainer, monkeypatch):
    monkeypatch.setattr("heads.metrics.normals.valid_normals", lambda n: torch.zeros(n.shape[-2:], dtype=torch.bool))
    with pytest.raises(ValueError, match="No image of the test split has a valid normal"):
        trainer().test(build(), data, verbose=False)
