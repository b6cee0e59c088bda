"""Scoring of detections by both scorers, compared with pycocotools as in its demo and torchmetrics, all in one run.

Random ground truth like COCO's (80 classes, about 7 boxes per image) and detections, some near it, the others anywhere.
All contestants get the same entries in memory; torchmetrics gets them as tensors, one update per image, converted
before timing. Each run has its own process and a warm-up on 10 images; the rounds are interleaved. Peak is the growth
of the resident set (Linux). AP is shown with its difference from pycocotools; that of torchmetrics differs, because it
takes the thresholds of IoU and recall from float32.

    python benchmarks/detection.py scoring [--images 5000] [--detections 100] [--kind segm] [--rounds 3]
"""

import argparse
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from statistics import median

import numpy as np
import torch
from memory import peak_growth
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.detection import MeanAveragePrecision

from heads.data.detection.annotations import Annotations
from heads.metrics import coco_scores

SIZE, CLASSES, BOXES = (480, 640), 80, 7
Score = Callable[[], float]


def sample(images: int, detections: int, kind: str) -> tuple[Annotations, list[dict]]:
    rng = np.random.default_rng(0)
    frequency = 1 / np.arange(1, CLASSES + 1)
    draw = partial(rng.choice, np.arange(1, CLASSES + 1), p=frequency / frequency.sum())
    infos = [{"id": i, "file_name": "", "height": SIZE[0], "width": SIZE[1]} for i in range(1, images + 1)]
    annotations, results = [], []
    for info in infos:
        count = int(rng.poisson(BOXES))
        boxes, labels = random_boxes(rng, count), draw(size=count)
        crowd = rng.random(count) < 0.01
        for box, label, ignored in zip(boxes, labels, crowd, strict=True):
            annotation = {"id": len(annotations) + 1} | entry(info["id"], label, box, kind)
            annotations.append(annotation | {"area": float(box[2] * box[3] * 0.7), "iscrowd": int(ignored)})
        near = np.repeat(np.arange(count), 3)[:detections]
        moved = boxes[near] * rng.uniform(0.9, 1.1, (len(near), 4))
        found = np.concatenate([moved, random_boxes(rng, detections - len(near))])
        classes = np.concatenate([labels[near], draw(size=detections - len(near))])
        scores = np.concatenate([rng.beta(3, 2, len(near)), rng.beta(1, 4, detections - len(near))])
        for i in np.argsort(-scores):
            results.append(entry(info["id"], classes[i], found[i], kind) | {"score": float(np.float32(scores[i]))})
    categories = [{"id": c, "name": str(c)} for c in range(1, CLASSES + 1)]
    return Annotations("random", infos, categories, annotations), results


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    sides = np.exp(rng.uniform(np.log(8), np.log(400), (count, 2)))
    corners = rng.uniform(0, np.maximum(np.array(SIZE[::-1]) - sides, 1))
    return np.concatenate([corners, sides], axis=1)


def entry(image_id: int, label: int, box: np.ndarray, kind: str) -> dict:
    found = {"image_id": image_id, "category_id": int(label), "bbox": box.tolist()}
    if kind == "segm":
        x, y, w, h = found["bbox"]
        outline = [x + w / 4, y, x + 3 * w / 4, y, x + w, y + h / 2, x + w / 2, y + h, x, y + h / 2]
        (mask,) = run_lengths.frPyObjects([outline], *SIZE)
        found["segmentation"] = {"size": list(SIZE), "counts": mask["counts"].decode()}
    return found


def ours(scorer: str, truth: Annotations, results: list[dict], kind: str) -> Score:
    images = [image["id"] for image in truth.images]
    return lambda: next(iter(coco_scores(truth, results, images, kinds=(kind,), scorer=scorer).values.values()))


def demo(truth: Annotations, results: list[dict], kind: str) -> Score:
    if kind == "segm":
        for result in results:  # without a box, pycocotools takes the area from the mask
            del result["bbox"]

    def score() -> float:
        with redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = truth.coco()
            coco.createIndex()
            run = COCOeval(coco, coco.loadRes(results), kind)
            run.evaluate()
            run.accumulate()
            run.summarize()
        return float(run.stats[0])

    return score


def torchmetrics(truth: Annotations, results: list[dict], kind: str) -> Score:
    if kind != "bbox":
        raise SystemExit("torchmetrics takes masks as tensors of the whole image; it is compared on boxes only")
    names = {"bbox": "boxes", "category_id": "labels", "score": "scores", "area": "area", "iscrowd": "iscrowd"}

    def tensors(entries: list[dict], *keys: str) -> dict:
        found = {names[key]: torch.tensor([e[key] for e in entries], dtype=torch.float64) for key in keys}
        return found | {"boxes": found["boxes"].reshape(-1, 4), "labels": found["labels"].long()}

    by_image: dict[int, list[dict]] = {image["id"]: [] for image in truth.images}
    for result in results:
        by_image[result["image_id"]].append(result)
    pairs = [
        (
            tensors(by_image[image_id], "bbox", "category_id", "score"),
            tensors(entries, "bbox", "category_id", "area", "iscrowd"),
        )
        for image_id, entries in truth.by_image().items()
    ]

    def score() -> float:
        metric = MeanAveragePrecision(box_format="xywh", backend="pycocotools")
        for found, target in pairs:
            metric.update([found], [target])
        return float(metric.compute()["map"])

    return score


CONTESTANTS = {
    "coco_scores, pycocotools": partial(ours, "pycocotools"),
    "coco_scores, faster_coco_eval": partial(ours, "faster_coco_eval"),
    "pycocotools as in its demo": demo,
    "torchmetrics, pycocotools": torchmetrics,
}


def measure(name: str, args: argparse.Namespace) -> None:
    contestant = CONTESTANTS[name]
    contestant(*sample(10, args.detections, args.kind), args.kind)()  # warm-up: one-time loading and setup
    score = contestant(*sample(args.images, args.detections, args.kind), args.kind)
    with peak_growth() as grown:
        start = time.perf_counter()
        ap = score()
        seconds = time.perf_counter() - start
    print(json.dumps([seconds, grown[0] / 2**20, ap]))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--kind", choices=("bbox", "segm"), default="bbox")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.measure:
        measure(args.measure, args)
        return
    names = [name for name in CONTESTANTS if args.kind == "bbox" or "torchmetrics" not in name]
    options = [f"--{key}={getattr(args, key)}" for key in ("images", "detections", "kind")]
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for _ in range(args.rounds):
        for name in names:
            command = [sys.executable, __file__, "--measure", name, *options]
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[name].append(json.loads(run.stdout.splitlines()[-1]))
    print(f"{args.images} images x {args.detections} detections, {args.kind}, {args.rounds} rounds\n")
    print("| | s | MiB at peak | AP, difference |\n|---|---|---|---|")
    reference = found["pycocotools as in its demo"][0][2]
    for name, rows in found.items():
        seconds, size, ap = (median(column) for column in zip(*rows, strict=True))
        print(f"| {name} | {seconds:.1f} | {size:.0f} | {ap:.4f}, {ap - reference:+.0e} |")


if __name__ == "__main__":
    main()
