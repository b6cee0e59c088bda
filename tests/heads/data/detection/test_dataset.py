import json

import numpy as np
import pytest
import torch
from PIL import Image

from heads.data.detection.annotations import Annotations
from heads.data.detection.dataset import DetectionDataset, PackedObjects
from heads.data.detection.transforms import detection_transform, mask_boxes
from heads.data.image_folder import ImageFolder
from heads.data.sizes import Fit

NAMES = ["a.jpg", "b.jpg", "more/c.jpg", "d.jpg"]


@pytest.fixture
def split(coco_folder):
    """Annotations and image folder; the annotations are what the json holds."""
    content = json.loads((coco_folder / "annotations" / "val.json").read_text())
    categories = sorted(content["categories"], key=lambda category: category["id"])
    return Annotations("val.json", content["images"], categories, content["annotations"]), coco_folder / "val"


def dataset(split, recipe=None, size=(48, 64), scale=(0.1, 2.0), **kwargs):
    transform = recipe and detection_transform(size, scale, recipe)
    return DetectionDataset(*split, Fit(size), transform, **kwargs)


def test_a_sample_is_as_documented(split):
    sample = dataset(split, masks=True)[0, 0]
    assert sample["image"].shape == (3, 48, 64) and sample["image"].dtype == torch.float32
    assert sample["image_id"] == 100 and sample["path"].endswith("a.jpg")
    assert sample["original_size"] == (60, 80) and sample["size"] == (48, 64)
    expected = torch.tensor([[10.5, 20.25, 40.5, 35.75], [0, 0, 40, 30], [50, 10, 70, 50]]) * 0.8
    torch.testing.assert_close(sample["boxes"], expected, atol=1e-5, rtol=0)
    assert sample["labels"].tolist() == [0, 1, 1] and sample["labels"].dtype == torch.int64
    assert sample["iscrowd"].tolist() == [False, True, False] and sample["iscrowd"].dtype == torch.bool
    assert sample["area"].tolist() == [232.5, 600, 400] and sample["area"].dtype == torch.float32
    assert sample["instance_masks"].shape == (3, 48, 64) and sample["instance_masks"].dtype == torch.bool
    assert (mask_boxes(sample["instance_masks"]) - expected)[[0, 2]].abs().max() < 1


def test_masks_are_read_when_asked_for(split):
    assert "instance_masks" not in dataset(split)[0, 0]


def test_an_image_without_objects_is_there(split):
    for recipe in (None, "lsj"):
        sample = dataset(split, recipe, masks=True)[0, 3]
        assert sample["boxes"].shape == (0, 4) and sample["boxes"].dtype == torch.float32
        assert sample["instance_masks"].shape == (0, *sample["size"]) and len(sample["labels"]) == 0


def test_labels_go_by_the_ids_of_the_categories(split):
    assert [dataset(split)[0, i]["labels"].tolist() for i in range(4)] == [[0, 1, 1], [2], [0], []]


@pytest.mark.parametrize("recipe", ["lsj", "resize", "plain"])
def test_everything_in_a_training_sample_is_of_the_objects_that_are_left(split, recipe):
    data, sizes, gone = dataset(split, recipe, masks=True), set(), 0
    for epoch in range(40):
        sample = data[epoch, 0]
        count, (height, width) = len(sample["labels"]), sample["size"]
        assert all(len(sample[key]) == count for key in ("boxes", "iscrowd", "area"))
        assert sample["instance_masks"].shape == (count, height, width) and sample["image"].shape[1:] == (height, width)
        box = sample["boxes"]
        assert (box >= 0).all() and (box[:, 2] <= width).all() and (box[:, 3] <= height).all()
        inside = (mask_boxes(sample["instance_masks"]) - box).abs()  # the mask of each is still its own
        assert count == 0 or inside[~sample["iscrowd"]].numel() == 0 or inside[~sample["iscrowd"]].max() <= 1
        assert {(int(label), area) for label, area in zip(sample["labels"], sample["area"].tolist(), strict=True)} <= {
            (0, 232.5),
            (1, 600.0),
            (1, 400.0),
        }
        sizes.add((height, width))
        gone += count < 3
    assert (gone > 0) == (recipe == "lsj") and (len(sizes) > 1) == (recipe != "plain")


def test_objects_move_with_the_image(coco_folder):
    """A white box on black is found where its box and its mask say, in every recipe."""
    annotation = {"id": 1, "image_id": 5, "category_id": 1, "bbox": [30, 20, 40, 25], "area": 1000, "iscrowd": 0}
    annotation["segmentation"] = [[30, 20, 70, 20, 70, 45, 30, 45]]
    image = {"id": 5, "file_name": "box.png", "height": 90, "width": 120}
    pixels = np.zeros((90, 120, 3), np.uint8)
    pixels[20:45, 30:70] = 255
    Image.fromarray(pixels).save(coco_folder / "box.png")
    split = Annotations("one", [image], [{"id": 1, "name": "box"}], [annotation]), coco_folder
    found = 0
    for recipe in ("lsj", "resize", "plain", None):
        data = dataset(split, recipe, (96, 128), scale=(0.5, 2.0), masks=True)
        for epoch in range(15):
            sample = data[epoch, 0]
            bright = sample["image"][0] > 0.5
            if len(sample["boxes"]):
                assert (mask_boxes(bright[None])[0] - sample["boxes"][0]).abs().max() <= 1
                assert (bright ^ sample["instance_masks"][0]).float().mean() < 0.01
                found += 1
    assert found > 50


def test_test_images_are_those_that_predict_reads(split):
    data = dataset(split, size=(40, 64))
    folder = ImageFolder(data.paths, Fit((40, 64)))
    for i in range(4):
        assert torch.equal(data[0, i]["image"], folder[0, i]["image"])
        assert torch.equal(data[0, i]["geometry"], folder[0, i]["geometry"])
    assert [tuple(folder[0, i]["image"].shape[1:]) for i in range(4)] == [(40, 53), (40, 30), (36, 64), (40, 40)]


def test_at_test_time_every_box_is_there_and_comes_back(split):
    data = dataset(split, size=(5, 5))
    sample = data[0, 0]
    assert len(sample["boxes"]) == 3
    back = sample["geometry"].original_boxes(sample["boxes"])
    assert (back - data.objects.of(0)["boxes"]).abs().max() < 0.01


def test_a_crop_must_leave_as_much_as_asked(split):
    def counts(min_visible):
        data = dataset(split, "lsj", scale=(2.0, 2.0), min_visible=min_visible)
        return sum(len(data[epoch, 0]["labels"]) for epoch in range(20))

    assert counts(0.9) < counts(0.3) < counts(0.0)


def test_augmentation_depends_on_seed_epoch_and_index(split):
    def boxes(epoch, seed=0):
        return dataset(split, "lsj", seed=seed)[epoch, 2]["geometry"].tolist()

    assert boxes(1) == boxes(1) != boxes(2) and boxes(1) != boxes(1, seed=1)


def test_a_missing_image_is_named_at_the_start(split):
    (split[1] / "more" / "c.jpg").unlink()
    with pytest.raises(ValueError, match=r"val\.json names 4 images, and 1 of them are missing, first .*c\.jpg"):
        dataset(split)


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000 + "x", "\ud800.jpg", "more", "."])
def test_a_name_that_no_image_can_have_is_that_of_a_missing_one(split, name):
    split[0].images[1]["file_name"] = name
    with pytest.raises(ValueError, match=r"val\.json names 4 images, and 1 of them are missing, first "):
        dataset(split)


def test_an_image_of_another_size_is_refused_by_both_names(split):
    Image.open(split[1] / "b.jpg").resize((61, 80)).save(split[1] / "b.jpg")
    with pytest.raises(ValueError, match=r"b\.jpg is \(80, 61\) .*val\.json has \(80, 60\) for image 99"):
        dataset(split)[0, 1]


def test_sizes_are_compared_upright(split):
    """As the annotation tools show a picture; one that was annotated lying on its side is refused."""
    path, exif = split[1] / "a.jpg", Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((80, 60, 3), np.uint8)).save(path, exif=exif)  # shown, it is 60 x 80
    assert dataset(split)[0, 0]["original_size"] == (60, 80)
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(path, exif=exif)
    with pytest.raises(ValueError, match=r"a\.jpg is \(80, 60\) \(height, width\), upright as its EXIF says"):
        dataset(split)[0, 0]


def test_a_damaged_image_is_named(split):
    path = split[1] / "a.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"a\.jpg is (damaged|not an image)"):
        dataset(split)[0, 0]


def test_packed_objects_are_those_of_each_image(split):
    annotations = split[0]
    annotations.annotations.reverse()  # of several images in turn, as in COCO
    packed = PackedObjects(annotations, outlines=True)
    for i, (image, group) in enumerate(annotations.by_image().items()):
        assert image == 100 - i
        xywh = [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in packed.of(i)["boxes"].tolist()]
        assert xywh == [a["bbox"] for a in group] and packed.of(i)["area"].tolist() == [a["area"] for a in group]
        assert packed.outlines(i) == [{"id": a["id"], "segmentation": a["segmentation"]} for a in group]
