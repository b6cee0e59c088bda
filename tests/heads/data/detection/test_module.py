"""What every detection data module does, on COCOFolder and on real samples."""

import json
from pathlib import Path

import pytest
import torch

from heads import COCODetection, COCOFolder, VOCFolder
from heads.data.detection.module import DetectionDataModule

SAMPLES = Path(__file__).parents[5] / "shared" / "data"


def module(root, **kwargs):
    return COCOFolder(str(root), img_size=(48, 64), **({"batch_size": 2, "num_workers": 0} | kwargs))


def edit(root, split, change):
    path = root / "annotations" / f"{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_training_batch(coco_folder):
    data = module(coco_folder, masks=True)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert len(batches) == 2
    for batch in batches:
        assert batch["image"].shape[:2] == (2, 3) and max(batch["image"].shape[2:]) <= 64
        assert batch["image"].shape[2:] == tuple(max(sides) for sides in zip(*batch["size"], strict=True))
        for i in range(2):
            assert batch["geometry"][i].image_size == batch["image"].shape[2:]
            assert batch["instance_masks"][i].shape == (len(batch["boxes"][i]), *batch["size"][i])
    assert sorted(i for batch in batches for i in batch["image_id"]) == [97, 98, 99, 100]


def test_images_are_tested_one_at_a_time_and_in_order(coco_folder):
    data = module(coco_folder)
    data.setup("test")
    batches = list(data.test_dataloader())
    assert [batch["image_id"] for batch in batches] == [[100], [99], [98], [97]]
    assert [tuple(batch["image"].shape[2:]) for batch in batches] == [(48, 64), (64, 48), (36, 64), (48, 48)]


def test_in_larger_batches_boxes_come_back_all_the_same(coco_folder):
    data = module(coco_folder, eval_batch_size=4)
    data.setup("test")
    (batch,) = data.test_dataloader()
    assert batch["image"].shape == (4, 3, 64, 64)
    for i, found in enumerate(data.truth("test").by_image().values()):
        back = batch["geometry"][i].original_boxes(batch["boxes"][i])
        boxes = torch.tensor([a["bbox"] for a in found]).reshape(-1, 4)
        assert (back - torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)).abs().sum() < 0.01


@pytest.mark.parametrize("workers", [1, 2])
def test_same_samples_for_any_number_of_workers(coco_folder, workers):
    parts = []
    for count in (0, workers):
        data = module(coco_folder, masks=True, num_workers=count)
        data.setup("fit")
        parts.append(list(data.train_dataloader()))
    for alone, many in zip(*parts, strict=True):
        assert alone["image_id"] == many["image_id"] and torch.equal(alone["image"], many["image"])
        for key in ("boxes", "labels", "instance_masks"):
            assert all(torch.equal(a, b) for a, b in zip(alone[key], many[key], strict=True))


def test_the_truth_is_read_once_and_holds_what_the_file_has(coco_folder):
    data = module(coco_folder)
    truth = data.truth("val")
    assert data.truth("test") is truth and truth.names == list(data.classes) == ["cat", "dog", "cow"]
    assert truth.annotations[0]["bbox"] == [10.5, 20.25, 30.0, 15.5] and len(truth.images) == 4
    assert data.lvis is False and data.stacked == ("image",)


def test_what_a_number_depends_on_is_described(coco_folder):
    data = module(coco_folder, seed=3, min_visible=0.25)
    data.setup("test")
    assert data.describe("test") == {
        "data": "COCOFolder",
        "split": "val",
        "images": 4,
        "seed": 3,
        "recipe": "lsj",
        "scale": [0.1, 2.0],
        "min_visible": 0.25,
        "test_resize": "short side 48, long side at most 64",
        "eval_batch_size": 1,
        "annotations": "annotations/val.json",
    }
    protocol = module(coco_folder, recipe="resize", eval_batch_size=4).protocol
    resize = "short side 48, long side at most 64"
    assert protocol == {"recipe": "resize", "test_resize": resize, "eval_batch_size": 4}


@pytest.mark.parametrize("recipe", ["lsj", "resize", "plain"])
def test_a_portrait_is_tested_as_large_as_a_landscape(coco_folder, recipe):
    data = module(coco_folder, recipe=recipe)
    data.setup("test")
    assert [data.datasets["test"][0, i]["size"] for i in range(3)] == [(48, 64), (64, 48), (36, 64)]


def test_entries_that_were_passed_over_are_said_once_and_kept_for_the_result_file(coco_folder, recwarn):
    edit(coco_folder, "val", lambda content: content["annotations"][0].update(bbox=[1, 2, 3, 0]))
    with pytest.raises(ValueError, match=r"val\.json: .*annotation 7.*skip_invalid"):
        module(coco_folder)
    data = module(coco_folder, skip_invalid=True)
    with pytest.warns(UserWarning, match=r"Skipped in test: .*annotation 7") as said:
        data.setup("test")
        data.setup("test")
    assert len(said) == 1 and len(data.skipped["test"]) == 1 and len(data.truth("test").annotations) == 4
    recwarn.clear()


def test_what_is_doubtful_is_said_once_for_each_file(coco_folder):
    def change(content):
        content["annotations"].append(content["annotations"][0] | {"id": 50})

    edit(coco_folder, "val", change)
    data = module(coco_folder)
    with pytest.warns(UserWarning, match=r"val\.json: 1 of 6 objects are annotated twice") as said:
        for stage in ("fit", "validate", "test"):
            data.setup(stage)
    assert len(said) == 1


def test_a_class_without_an_object_is_a_warning_once_for_each_file(coco_folder):
    for split in ("train", "val"):
        edit(coco_folder, split, lambda content: content["categories"].append({"id": 99, "name": "yak"}))
    data = module(coco_folder)
    with pytest.warns(UserWarning) as said:
        for stage in ("fit", "validate", "test"):
            data.setup(stage)
    found = [str(one.message) for one in said]
    assert len(found) == 2 and all("No object of 'yak' is among its 5 annotations" in one for one in found)


def test_names_of_classes_that_differ_in_case_alone_are_said_unless_they_are_listed(coco_folder):
    for split in ("train", "val"):
        edit(coco_folder, split, lambda content: content["categories"][0].update(name="Dog"))
    with pytest.warns(UserWarning, match=r"val\.json has the classes 'dog' and 'Dog', which differ"):
        names = list(module(coco_folder).classes)
    module(coco_folder, classes=names).setup("fit")


def test_a_public_data_set_is_taken_as_it_is(coco):
    path = coco / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"].append(content["annotations"][0] | {"id": 50})
    path.write_text(json.dumps(content))
    with pytest.warns(UserWarning) as said:
        COCODetection(str(coco), num_workers=0).setup("test")
    assert ["Scores on it are not comparable" in str(one.message) for one in said] == [True]


def test_an_image_without_boxes_is_trained_on(coco_folder):
    data = module(coco_folder)
    data.setup("fit")
    assert len(data.datasets["train"]) == 4 and len(data.datasets["train"][0, 3]["labels"]) == 0


@pytest.mark.parametrize(
    ("split", "stage", "use"), [("train", "fit", "train on"), ("val", "fit", "find"), ("val", "test", "find")]
)
@pytest.mark.parametrize("crowds", [False, True])
def test_a_split_without_boxes_is_refused_before_anything_is_trained(coco_folder, split, stage, use, crowds):
    def change(content):
        content["annotations"] = [a for a in content["annotations"] if a["iscrowd"]] if crowds else []

    edit(coco_folder, split, change)
    message = rf"{split}\.json has no box of a single object in 4 images; expected some to {use}"
    message += r".*1 of 1 annotations have iscrowd 1.*set iscrowd to 0" if crowds else r".*Check that it is the"
    with pytest.raises(ValueError, match=message):
        module(coco_folder).setup(stage)


def test_a_missing_image_is_named(coco_folder):
    (coco_folder / "train" / "b.jpg").unlink()
    with pytest.raises(ValueError, match=r"train\.json names 4 images, and 1 of them are missing, first .*b\.jpg"):
        module(coco_folder).setup("fit")


def test_images_are_grouped_by_shape_in_training(coco_folder):
    data = module(coco_folder, recipe="plain")
    data.setup("fit")
    assert data.datasets["train"].aspect_ratios == [60 / 80, 80 / 60, 50 / 90, 1.0]
    assert sorted(batch["image_id"] for batch in data.train_dataloader()) == [[97, 99], [98, 100]]


def test_predict_needs_neither_root_nor_annotations_and_keeps_the_shape(coco_folder):
    data = COCOFolder(classes=["cat"], img_size=(48, 64), predict_images=str(coco_folder / "val"), num_workers=0)
    with pytest.warns(UserWarning, match="more"):  # a sub-folder is not searched
        data.setup("predict")
    batches = list(data.predict_dataloader())
    assert [batch["size"][0] for batch in batches] == [(48, 64), (64, 48), (48, 48)] and "boxes" not in batches[0]


def test_more_than_255_classes_are_possible():
    assert len(COCOFolder(classes=1203).classes) == 1203


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": "none"}, "recipe is 'none'"),
        ({"img_size": (1, 8)}, r"img_size is \(1, 8\)"),
        ({"scale": (2.0, 1.0)}, r"scale is \[2.0, 1.0\]"),
        ({"scale": (0.0, 1.0)}, r"scale is \[0.0, 1.0\]"),
        ({"min_visible": 1.5}, "min_visible is 1.5"),
        ({"classes": []}, "0 classes; expected at least 1"),
        ({"classes": ["a", "a"]}, "'a' twice"),
        ({"eval_batch_size": 0}, "eval_batch_size is 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        COCOFolder(**({"classes": ["a"]} | arguments))


def test_a_subclass_says_where_its_files_are():
    data = DetectionDataModule(["a"])
    with pytest.raises(NotImplementedError):
        data.truth("val")
    with pytest.raises(NotImplementedError):
        data.image_folder("val")


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs ../shared/data")
@pytest.mark.filterwarnings("ignore:.*are missing. Scores on it", "ignore:Skipped in")
def test_real_samples_are_read():
    coco = COCODetection(str(SAMPLES / "coco_sample"), (128, 128), masks=True, batch_size=4, num_workers=0)
    blood = VOCFolder(
        str(SAMPLES / "bccd" / "BCCD"), None, (128, 128), test_set="test", skip_invalid=True, num_workers=0
    )
    for data, images, boxes in ((coco, (26, 27), (181, 174)), (blood, (205, 87), None)):
        data.setup("fit")
        assert tuple(len(data.datasets[split]) for split in ("train", "val")) == images
        batch = next(iter(data.train_dataloader()))
        assert all((b[:, 2:] > b[:, :2]).all() for b in batch["boxes"])
        if boxes:
            assert (len(data.datasets["train"].objects.labels), len(data.truth("val").annotations)) == boxes
    assert list(blood.classes) == ["Platelets", "RBC", "WBC"]
    blood.setup("test")
    read = sum(len(blood.datasets[split].objects.labels) for split in ("train", "val", "test"))
    assert read + sum(len(lines) for lines in blood.skipped.values()) == 4888
