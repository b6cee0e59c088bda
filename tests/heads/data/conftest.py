"""Data sets in the layouts and encodings they are published in, small and made anew for each test."""

import json

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from heads import COCODetection

FRAMES = 4


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def nyu_arrays():
    """Images (N, H, W, 3), depths (N, H, W) [m] and normals (N, H, W, 3), x to the right, y down, z forward."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (FRAMES, 480, 640, 3), np.uint8)
    depths = rng.uniform(1, 9, (FRAMES, 480, 640)).astype(np.float32)
    depths[:, 100:110, 200:220] = 0
    normals = rng.normal(size=(FRAMES, 480, 640, 3)) * [1, 1, 0.1] - [0, 0, 2]
    return images, depths, (normals / np.linalg.norm(normals, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def nyu(tmp_path_factory):
    """``nyu_depth_v2_labeled.mat`` as MATLAB 7.3 writes it, its axes in reverse, with splits and Ladicky's normals."""
    root = tmp_path_factory.mktemp("nyu")
    images, depths, normals = nyu_arrays()
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = images.transpose(0, 3, 2, 1)  # (N, 3, 640, 480)
        file["rawDepths"] = depths.transpose(0, 2, 1)  # (N, 640, 480)
        file["depths"] = np.where(depths == 0, 5, depths).transpose(0, 2, 1)
    with h5py.File(root / "norm_gt_l.mat", "w") as file:
        file["norm_gt_l"] = normals.transpose(0, 3, 2, 1)
    splits = {"trainNdxs": np.array([[1], [3]]), "testNdxs": np.array([[2], [4]])}  # counted from 1, as published
    scipy.io.savemat(root / "splits.mat", splits)
    return root


@pytest.fixture
def nyu_bts(tmp_path):
    """BTS's layout: lists with leading slashes, training frames below ``sync``, test frames in their own folder."""
    rng = np.random.default_rng(1)
    for folder, scene, numbers in (("sync", "kitchen_0028b", (0, 1)), ("official_splits/test", "bathroom", (45,))):
        for i in numbers:
            place = tmp_path / folder / scene
            save(place / f"rgb_{i:05d}.jpg", rng.integers(0, 256, (480, 640, 3), np.uint8))
            save(place / f"sync_depth_{i:05d}.png", rng.integers(500, 9000, (480, 640), np.uint16))
    train = [f"/kitchen_0028b/rgb_{i:05d}.jpg /kitchen_0028b/sync_depth_{i:05d}.png 518.8579" for i in (0, 1)]
    (tmp_path / "nyudepthv2_train_files_with_gt.txt").write_text("\n".join(train) + "\n")
    test = "bathroom/rgb_00045.jpg bathroom/sync_depth_00045.png 518.8579\n"
    (tmp_path / "nyudepthv2_test_files_with_gt.txt").write_text(test)
    return tmp_path


@pytest.fixture
def kitti(tmp_path):
    """KITTI's own folders with BTS's lists, in which one test image has no depth."""
    rng = np.random.default_rng(2)
    drive, number = "2011_09_26_drive_0002_sync", "0000000069"
    save(
        tmp_path / "2011_09_26" / drive / "image_02/data" / f"{number}.png",
        rng.integers(0, 256, (375, 1242, 3), np.uint8),
    )
    depth = rng.integers(256, 80 * 256, (375, 1242), np.uint16)
    depth[:100] = 0
    truth = f"{drive}/proj_depth/groundtruth/image_02/{number}.png"
    save(tmp_path / "data_depth_annotated" / "val" / truth, depth)
    line = f"2011_09_26/{drive}/image_02/data/{number}.png {truth} 721.5377\n"
    (tmp_path / "eigen_train_files_with_gt.txt").write_text(line)
    (tmp_path / "eigen_test_files_with_gt.txt").write_text(
        line + "2011_09_26/2011_09_26_drive_0009_sync/image_02/data/0000000384.png None 721.5377\n"
    )
    return tmp_path


@pytest.fixture
def navi(tmp_path):
    """An object of NAVI with two multiview scenes and a wild set, and one without wild set, which does not count."""
    for scene in ("dino/multiview-00-pixel_5", "dino/multiview-01-canon", "dino/wild_set", "lone/multiview-00-pixel_5"):
        navi_scene(tmp_path / scene)
    (tmp_path / "custom_splits").mkdir()
    return tmp_path


def navi_scene(folder):
    """Two photographs that lie on their side, as cameras store them, with upright depth of a slanted plane."""
    rows = []
    for i in range(2):
        name = f"{i:03d}"
        upright = np.full((80, 60, 3), 30, np.uint8)
        upright[20:40, 10:50] = 200
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by a quarter, clockwise, to show it
        save(folder / "images" / f"{name}.jpg", np.rot90(upright, 1).copy(), exif=exif, quality=95)
        millimetres = np.linspace(500, 700, 40)[None].repeat(20, axis=0)
        encoded = np.zeros((80, 60), np.uint16)
        encoded[20:40, 10:50] = np.round(65535 * 10 / millimetres)
        save(folder / "depth" / f"{name}.png", encoded)
        camera = {"q": [1, 0, 0, 0], "t": [0, 0, 0], "focal_length": 3000.0, "camera_model": "pixel_5"}
        rows.append({"filename": f"{name}.jpg", "image_size": [4000, 3000], "camera": camera, "split": "train"})
    (folder / "annotations.json").write_text(json.dumps(rows))


SIZES = {"a.jpg": (60, 80), "b.jpg": (80, 60), "more/c.jpg": (50, 90), "d.jpg": (64, 64)}  # height, width


def coco_json(names=("cat", "dog", "cow"), sizes=SIZES):
    """COCO's json of four images: three objects on the first, one of them a crowd, one on the next two, none on d.jpg.

    Category ids have gaps and are not in order; masks are an RLE for the crowd, else polygons.
    """
    ids = [2 * number + 1 for number in range(len(names))]
    categories = [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)]
    images = [
        {"id": 100 - i, "file_name": name, "height": height, "width": width}
        for i, (name, (height, width)) in enumerate(sizes.items())
    ]
    annotations = []
    places = [(0, 0, [10.5, 20.25, 30.0, 15.5]), (0, 1, [0, 0, 40, 30]), (0, 1, [50, 10, 20, 40])]
    for image, label, box in [*places, (1, 2, [5, 30, 40, 45]), (2, 0, [20.75, 10, 60, 30])]:
        left, top, width, height = box
        right, bottom = left + width, top + height
        annotations.append(
            {
                "id": len(annotations) + 7,
                "image_id": images[image]["id"],
                "category_id": ids[label % len(ids)],
                "bbox": box,
                "area": width * height / 2,
                "iscrowd": 0,
                "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
            }
        )
    annotations[1] |= {"iscrowd": 1, "segmentation": {"size": [60, 80], "counts": [0, 30 * 60, 50 * 60]}}
    return {"images": images, "annotations": annotations, "categories": categories[::-1]}


def write_coco(path, folder, content=None, sizes=SIZES):
    """The json, and its images below a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content or coco_json(sizes=sizes)))
    for name, size in sizes.items():
        save(folder / name, np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))


@pytest.fixture
def coco_folder(tmp_path):
    """An own data set in COCO's format, as COCOFolder expects it by default."""
    for split in ("train", "val"):
        write_coco(tmp_path / "annotations" / f"{split}.json", tmp_path / split)
    return tmp_path


@pytest.fixture
def coco(tmp_path):
    """COCO 2017 with four images a split, its 80 categories, and a box without height in train, as published."""
    for split in ("train", "val"):
        content = coco_json(list(COCODetection().classes))
        if split == "train":
            flat = content["annotations"][0] | {"id": 2206849, "bbox": [9.98, 20.0, 30.0, 0.0]}
            content["annotations"].append(flat)
        write_coco(tmp_path / "annotations" / f"instances_{split}2017.json", tmp_path / f"{split}2017", content)
    return tmp_path


@pytest.fixture
def lvis(tmp_path):
    """LVIS v1 with five classes; an image of val lies in COCO's training folder, and files have no file_name."""
    for split in ("train", "val"):
        content = coco_json([f"thing_{i}" for i in range(5)])
        for category, frequency in zip(content["categories"], "rcffr", strict=True):
            category["frequency"] = frequency
        for image, folder in zip(content["images"], ("train2017", "val2017", "val2017", "val2017"), strict=True):
            name = f"{folder}/{split}_{image['id']}.jpg"
            save(tmp_path / name, np.zeros((image["height"], image["width"], 3), np.uint8))
            del image["file_name"]
            image |= {"coco_url": f"http://images.cocodataset.org/{name}", "not_exhaustive_category_ids": []}
            image["neg_category_ids"] = [1, 3]
        (tmp_path / f"lvis_v1_{split}.json").write_text(json.dumps(content))
    return tmp_path


def write_voc(base, lists, names, first=1):
    """Images of 60 x 80 px in VOC's layout; each has a box of each name, from pixel 10, 20 to 40, 50 of ``first``."""
    for name in dict.fromkeys(name for held in lists.values() for name in held):
        save(base / "JPEGImages" / f"{name}.jpg", np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
        box = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>".format(
            *(pixel + first for pixel in (10, 20, 40, 50))
        )
        objects = "".join(
            f"<object><name>{kind}</name><difficult>{i % 2}</difficult>{box}</object>" for i, kind in enumerate(names)
        )
        size = "<size><width>80</width><height>60</height><depth>3</depth></size>"
        path = base / "Annotations" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>")
    for held, stems in lists.items():
        path = base / "ImageSets" / "Main" / f"{held}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{stem}\n" for stem in stems))


VOC_LISTS = {"train": ["a", "b"], "val": ["c"], "trainval": ["a", "b", "c"], "test": ["d", "e"]}


@pytest.fixture
def voc(tmp_path):
    """VOCdevkit with five images a year."""
    for year in (2007, 2012):
        write_voc(tmp_path / "VOCdevkit" / f"VOC{year}", VOC_LISTS, ["cat", "dog"])
    return tmp_path


@pytest.fixture
def voc_folder(tmp_path):
    """An own data set in VOC's layout with two classes."""
    write_voc(tmp_path, VOC_LISTS, ["WBC", "RBC"])
    return tmp_path
