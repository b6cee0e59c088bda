import math
import sys

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

import heads
from heads import COCOFolder, DetectionTask, GeneratedScenes, SegmentationFolder
from heads.data.images import read_image
from heads.outputs.writer import PredictionWriter
from siglip2_backbone.preprocess import denormalize

SIZE = (48, 64)
SMALL = {"features": 32}


@pytest.fixture
def data():
    return GeneratedScenes(SIZE, train_images=4, val_images=3, test_images=3, batch_size=2, num_workers=0)


@pytest.fixture
def build(checkpoint, data):
    def make(detector="faster_rcnn", **options):
        torch.manual_seed(0)
        classes = options.pop("classes", data.classes)
        shared = {"detector": detector, "detector_args": SMALL, "warmup_steps": 2, "pyramid": "resample"}
        return DetectionTask(str(checkpoint), classes, SIZE, **(shared | options))

    return make


@pytest.fixture
def batch(data):
    data.setup("fit")
    return next(iter(data.train_dataloader()))


def quiet(task):
    task.log = task.log_dict = lambda *args, **kwargs: None
    return task


def never_run(task):
    def outputs(*args):
        raise AssertionError("a batch was run")

    task.outputs = task.training_step = outputs
    return task


def truth_as_found(change=lambda found: found):
    """In place of a task's outputs: what is in each image, changed."""

    def outputs(batch, heads, stage):
        found = [
            change({"boxes": boxes, "labels": labels, "scores": torch.linspace(1, 0.5, len(labels))})
            for boxes, labels in zip(batch["boxes"], batch["labels"], strict=True)
        ]
        return [found for _ in heads]

    return outputs


def test_the_loss_is_the_sum_of_the_detectors_losses_each_of_which_is_logged(build, batch):
    task = build().train()
    logged = {}
    task.log = lambda name, value, **kwargs: logged.update({name: value})
    task.log_dict = lambda values, **kwargs: logged.update(values)
    task.on_fit_start()
    torch.manual_seed(0)
    loss = task.training_step(batch, 0)
    names = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    assert logged.keys() == {f"train/{name}" for name in names} | {"train/loss"}
    torch.testing.assert_close(loss, sum(logged[f"train/{name}"] for name in names))


def test_a_crowd_is_no_object_to_learn_from(build, batch):
    task = quiet(build("mask_rcnn").train())
    batch["iscrowd"][0][1] = True
    targets = task._targets(batch)
    assert len(targets[0]["labels"]) == len(batch["labels"][0]) - 1 == len(targets[0]["masks"])
    assert torch.equal(targets[0]["boxes"][1], batch["boxes"][0][2])
    assert torch.equal(targets[1]["labels"], batch["labels"][1])


def test_a_detector_of_masks_says_that_the_data_have_none(build, batch):
    del batch["instance_masks"]
    with pytest.raises(ValueError, match=r"mask_rcnn needs masks .* the data module provides none\. Set data\.masks"):
        quiet(build("mask_rcnn").train()).training_step(batch, 0)


@pytest.mark.parametrize("run", ["training", "testing"])
def test_padding_holds_the_backbones_mean(build, batch, run):
    task = quiet(build())
    task.extractor.mean = (0.1, 0.2, 0.3)
    batch["size"] = [(48, 64), (40, 30)]
    before = batch["image"].clone()
    seen, maps = [], task.extractor._maps
    task.extractor._maps = lambda x: seen.append(denormalize(x, task.extractor.mean, task.extractor.std)) or maps(x)
    if run == "training":
        task.train().training_step(batch, 0)
    else:
        task.eval().outputs(batch, [0], "test")
    (image,) = seen
    torch.testing.assert_close(image[0], before[0])
    torch.testing.assert_close(image[1, :, :40, :30], before[1, :, :40, :30])
    for beyond in (image[1, :, 40:], image[1, :, :, 30:]):
        assert (beyond == torch.tensor([0.1, 0.2, 0.3])[:, None, None]).all()
    assert torch.equal(batch["image"], before)


def scored(task, data, trainer, change=lambda found: found):
    task.outputs = truth_as_found(change)
    (scores,) = trainer().test(task, data, verbose=False)
    return {name.removeprefix("test/"): score for name, score in scores.items()}


def test_what_is_there_scores_1(build, data, trainer):
    scores = scored(build(), data, trainer)
    assert scores["AP"] == scores["AP50"] == scores["AP75"] == scores["AR100"] == 1


def test_other_labels_score_next_to_nothing(build, data, trainer):
    scores = scored(build(), data, trainer, lambda found: found | {"labels": (found["labels"] + 1) % 4})
    assert scores["AP"] < 0.1


def test_nothing_found_scores_0_without_a_warning(build, data, trainer):
    scores = scored(build(), data, trainer, lambda found: {name: values[:0] for name, values in found.items()})
    assert scores["AP"] == 0 == scores["AR100"]


def test_boxes_of_resized_images_are_scored_and_written_at_the_original_size(build, coco_of_scenes, trainer, tmp_path):
    data = COCOFolder(str(coco_of_scenes), None, (96, 64), num_workers=0)
    task = build(classes=data.classes)
    assert scored(task, data, trainer)["AP"] == 1
    task.write_test(task.tested, tmp_path)
    truth = COCO(str(coco_of_scenes / "annotations" / "val.json"))
    found = truth.loadRes(str(tmp_path / "detections.json"))
    for entry in truth.anns.values():
        near = [e for e in found.anns.values() if e["image_id"] == entry["image_id"]]
        assert min(np.abs(np.subtract(e["bbox"], entry["bbox"])).max() for e in near) < 0.01


def test_both_scorers_score_a_test_alike(build, data, trainer):
    found = []
    for scorer in ("pycocotools", "faster_coco_eval"):
        task = build("mask_rcnn", scorer=scorer, score_threshold=0.0)
        found.append(trainer().test(task, data, verbose=False)[0])
    assert {"test/AP", "test/mask_AP", "test/mask_APs"} <= found[0].keys()
    assert all(a == b or (a != a and b != b) for a, b in zip(found[0].values(), found[1].values(), strict=True))


def test_scores_of_each_class_go_to_a_table(build, data, trainer):
    task = build()
    scored(task, data, trainer)
    table = task.tested.tables["classes"]
    seen = {data.truth("test").names[a["category_id"] - 1] for a in data.truth("test").annotations}
    assert list(table) == list(data.classes)
    assert all(row["AP"] == 1 if name in seen else math.isnan(row["AP"]) for name, row in table.items())


@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn", "retinanet", "fcos", "set_prediction"])
def test_a_fit_changes_the_head_and_ends_with_a_checkpoint_that_predicts_the_same(
    build, data, trainer, tmp_path, detector
):
    args = {"set_prediction": {"dim": 32, "layers": 2, "queries": 10}, "fcos": {"features": 64}}
    plain = {"pyramid": None} if detector == "set_prediction" else {}
    task = build(detector, detector_args=args.get(detector, SMALL), score_threshold=0.0, max_detections=5, **plain)
    before = {name: tensor.clone() for name, tensor in task.kept_state().items()}
    run = trainer(max_epochs=1)
    run.fit(task, data)
    assert any(not torch.equal(before[name], tensor) for name, tensor in task.kept_state().items())
    assert not any(name.startswith("extractor.") for name in before)
    run.save_checkpoint(tmp_path / "end.ckpt")
    image = torch.randint(0, 256, (3, 90, 70), dtype=torch.uint8)
    found, again = task.predict(image), heads.load(tmp_path / "end.ckpt").predict(image)
    assert 0 < len(found["scores"]) <= 5 and (found["boxes"] <= torch.tensor([70, 90, 70, 90])).all()
    assert all(torch.equal(found[name], again[name]) for name in ("boxes", "scores", "labels"))
    assert (found["scores"].diff() <= 0).all()
    if detector == "mask_rcnn":
        assert found["masks"].shape == (len(found["scores"]), 90, 70) and found["masks"].dtype == torch.bool


def test_a_checkpoint_of_another_detector_is_refused_and_other_limits_are_not(build, data, trainer, tmp_path):
    task, run = build(), trainer(max_epochs=1)
    run.fit(task, data)
    run.save_checkpoint(tmp_path / "end.ckpt")
    with pytest.raises(ValueError, match=r"trained with \{'detector': 'faster_rcnn'.*this task has .*'retinanet'"):
        trainer().test(build("retinanet"), data, ckpt_path=tmp_path / "end.ckpt")
    trainer().test(build(max_detections=3), data, ckpt_path=tmp_path / "end.ckpt", verbose=False)


def test_an_image_is_found_in_alone_what_is_found_in_it_by_the_trainer(build, scenes, trainer, tmp_path):
    task = build(score_threshold=0.0)
    data = SegmentationFolder(classes=3, img_size=SIZE, predict_images=str(scenes / "val"), num_workers=0)
    with pytest.raises(ValueError, match=r"opacity is 0\.5, threshold 2; expected 0 to 1"):
        PredictionWriter(threshold=2)
    trainer(callbacks=[PredictionWriter(threshold=0.0)]).predict(task, data, return_predictions=False)
    dataset = COCO(str(tmp_path / "predictions" / "detections.json"))
    for image in dataset.imgs.values():
        entries = dataset.imgToAnns[image["id"]]
        found = task.predict(scenes / "val" / image["file_name"])
        assert [e["score"] for e in entries] == pytest.approx(found["scores"].tolist())
        assert [e["category_id"] - 1 for e in entries] == found["labels"].tolist()
        drawing = read_image(tmp_path / "predictions" / "drawings" / image["file_name"].replace("png", "jpg"))
        assert drawing.shape[1:] == (image["height"], image["width"]) == (48, 64)


def test_called_with_images_it_finds_in_their_pixels_what_predict_finds(build):
    task = build(score_threshold=0.0).eval()
    image = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8)
    (found,) = task(image[None] / 255)
    torch.testing.assert_close(found["boxes"], task.predict(image)["boxes"])


def test_validation_needs_no_test_split(build, coco_of_scenes, trainer):
    data = COCOFolder(str(coco_of_scenes), None, SIZE, test_annotations="annotations/none.json", num_workers=0)
    trainer(max_epochs=1).fit(build(classes=data.classes), data)


def test_a_sweep_trains_detectors_beside_each_other(build, data, trainer):
    task = build(sweep={"lr": [1e-4, 1e-3]})
    trainer(max_epochs=1).fit(task, data)
    assert len(task.decoders) == 2 and all(score is not None for score in task.sweep_scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detector": "yolo"}, "detector is 'yolo'; expected one of faster_rcnn"),
        ({"detector_args": {"depth": 3}}, "do not fit the detector 'faster_rcnn'"),
        ({"score_threshold": 1.5}, "score_threshold is 1.5"),
        ({"max_detections": 0}, "max_detections 0"),
        ({"classes": None}, "classes is None"),
    ],
    ids=str,
)
def test_bad_options_are_refused(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_other_classes_than_the_datas_are_refused(build, data, trainer):
    with pytest.raises(ValueError, match=r"generated scenes, test has the classes \['box'.*this task has \['a', 'b'\]"):
        trainer().test(build(classes=["a", "b"]), data)


def test_data_without_annotations_are_refused(build, data, trainer, scenes):
    other = SegmentationFolder(str(scenes), 3, SIZE, ignore_values=[7], num_workers=0)
    with pytest.raises(
        ValueError, match=r"SegmentationFolder has no lvis, masks, truth\(\); expected a data module for detection"
    ):
        trainer().test(build(), other)


def test_a_split_without_boxes_is_refused(build, data, trainer):
    data.truth("test").annotations.clear()
    with pytest.raises(ValueError, match=r"No image of the test split has a box \(generated scenes, test\)"):
        trainer().test(build(), data)


def test_a_part_of_a_split_may_be_without_boxes(build, data, trainer):
    truth = data.truth("val")
    truth.annotations[:] = [a for a in truth.annotations if a["image_id"] == truth.images[-1]["id"]]
    run = trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    run.fit(build(), data)
    assert math.isnan(run.callback_metrics["val/AP"])


def test_a_fit_does_not_read_the_test_split(build, coco_of_scenes, trainer):
    data = COCOFolder(str(coco_of_scenes), None, SIZE, test_annotations="not_there_yet.json", num_workers=0)
    run = trainer(max_epochs=1, limit_train_batches=1, num_sanity_val_steps=1)
    run.fit(build(classes=data.classes), data)
    assert run.callback_metrics["val/AP"] >= 0


def test_lvis_needs_its_scorer(build, data, trainer):
    data.lvis = True
    task = never_run(build())
    with pytest.raises(ValueError, match=r"scorer is 'pycocotools', which cannot score LVIS"):
        trainer().test(task, data)


def test_a_scorer_that_is_not_installed_is_refused_before_the_first_batch(build, data, trainer, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    task = never_run(build(scorer="faster_coco_eval"))
    with pytest.raises(ValueError, match=r"needs faster-coco-eval: pip install 'siglip2-backbone\[coco\]'"):
        trainer().test(task, data)


@pytest.mark.parametrize("run", ["fit", "validate", "test"])
def test_a_detector_of_masks_is_refused_before_the_first_batch_where_masks_are_not_read(
    build, coco_of_scenes, trainer, run
):
    data = COCOFolder(str(coco_of_scenes), None, SIZE, num_workers=0)
    task = never_run(build("mask_rcnn", classes=data.classes))
    with pytest.raises(
        ValueError, match=r"mask_rcnn needs masks for training and .*Set data\.masks to true, or choose"
    ):
        getattr(trainer(), run)(task, data)
