"""Average precision and recall of detections, by pycocotools or faster-coco-eval."""

import io
import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..data.detection.annotations import Annotations, Entry
from ..data.detection.instance_masks import mask_problem
from .coco_results import check_results

Kind = Literal["bbox", "segm"]
Scorer = Literal["pycocotools", "faster_coco_eval"]

MASK = "mask_"  # prefix of mask scores
_AREAS = ("", "s", "m", "l")  # all; small, below 32^2 px; medium, below 96^2 px; large
_AP50, _AP75 = 0, 5  # indices of IoU 0.5 and 0.75 in 0.5, 0.55, ..., 0.95
_MOST = {False: (1, 10, 100), True: (300,)}  # detections that count: COCO's per image and class, LVIS's per image
_AT_ONCE = 2_000_000  # images times classes in one run of a scorer, about 1 kB each: all of COCO, a tenth of LVIS
_ALMOST_ONE = 1 / (1 + np.spacing(1))  # pycocotools' precision of a single correct detection


@dataclass(frozen=True)
class CocoScores:
    """CocoScores in [0, 1]; NaN where there is no ground truth.

    Args:
        values: AP (mean over IoU 0.5 to 0.95), AP50, AP75; APs, APm, APl by area; AR1, AR10, AR100; ARs, ARm, ARl.
            For LVIS AR300 instead of these three AR, and APr, APc, APf by frequency. Mask scores have the prefix mask_.
        classes: AP, AP50 and AR100 (LVIS: AR300) of each class by its name; mask scores have the prefix mask_.
    """

    values: dict[str, float]
    classes: dict[str, dict[str, float]]


def coco_scores(
    truth: Annotations,
    results: Sequence[Entry],
    image_ids: Collection[int],
    *,
    kinds: Sequence[Kind] = ("bbox",),
    scorer: Scorer = "pycocotools",
    lvis: bool = False,
) -> CocoScores:
    """Score detections as COCO or LVIS does. Prints nothing, and leaves ``truth`` and ``results`` unchanged.

    Both scorers agree to the last digit. Masks are small, medium or large by their own area, as in detectron2 and
    mmdetection; pycocotools alone uses the area of the box where a result has both. Crowds and the order of equal
    scores follow pycocotools: the lower image id first, within an image the order of ``results``.

    LVIS: the 300 best detections of an image count. Detections of a class that is neither annotated in the image nor
    verified as absent are ignored; so are false positives of a class that is not annotated exhaustively there.

    Args:
        truth: The annotations, as in their file.
        results: Entries of COCO's result format, see :func:`heads.metrics.coco_results.check_results`.
        image_ids: Images that were evaluated, with or without detections; all others are ignored.
        kinds: Score boxes (bbox), masks (segm), or both.
        scorer: pycocotools, or faster_coco_eval (an extra; LVIS needs it).
        lvis: Score as LVIS does.

    Raises:
        ValueError: An option is unknown, a result is invalid, an image is not in ``truth``, or a field that LVIS needs
            is missing.

    Source: cocodataset/cocoapi and lvis-dataset/lvis-api @ 04e89fd; detectron2's coco_evaluation.py for the area of
    masks. Unlike theirs, the precision of a first correct detection is 1, not 1 - 2^-52.
    """
    check_scorer(scorer, lvis=lvis)
    if not kinds or set(kinds) - set(get_args(Kind)):
        raise ValueError(f"kinds is {kinds!r}; expected bbox, segm or both.")
    check_results(results, truth, masks="segm" in kinds)
    seen = set(image_ids)
    truth = _looked_at(truth, seen)
    results = [entry for entry in results if entry["image_id"] in seen]
    if "segm" in kinds:
        _check_masks(truth)
    if lvis:
        _check_lvis(truth)
        results = _verified(truth, _best(results, _MOST[lvis][-1]))
    values: dict[str, float] = {}
    classes: dict[str, dict[str, float]] = {name: {} for name in truth.names}
    for kind in kinds:
        precision, recall = _evaluate(truth, results, kind, scorer, lvis)
        prefix = MASK if kind == "segm" else ""
        found = _values(precision, recall, _MOST[lvis])
        if lvis:
            found |= _by_frequency(precision, truth)
        values |= {prefix + name: value for name, value in found.items()}
        for name, row in zip(truth.names, _by_class(precision, recall, _MOST[lvis][-1]), strict=True):
            classes[name] |= {prefix + key: value for key, value in row.items()}
    return CocoScores(values, classes)


def _looked_at(truth: Annotations, image_ids: set[int]) -> Annotations:
    """Only these images: given an empty list of image ids, the scorers would evaluate all images."""
    if unknown := image_ids - {image["id"] for image in truth.images}:
        raise ValueError(f"image_ids has {min(unknown)}, but {truth.source} has no such image. Pass ids of its images.")
    images = [image for image in truth.images if image["id"] in image_ids]
    return replace(truth, images=images, annotations=[a for a in truth.annotations if a["image_id"] in image_ids])


def _evaluate(
    truth: Annotations, results: Sequence[Entry], kind: Kind, scorer: Scorer, lvis: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Precision by IoU, recall, class, area and limit of detections; recall by IoU, class, area and limit."""
    index, evaluation, options = COCO, COCOeval, {}
    if scorer == "faster_coco_eval":
        index, evaluation = _faster_coco_eval()
        options = {"lvis_style": lvis}
    with redirect_stdout(io.StringIO()):  # pycocotools prints each step
        pair = [_indexed(index, truth, a) for a in (_truth_entries(truth, kind), _result_entries(results, kind))]
        found = []
        for category_ids in _parts(truth):
            run = evaluation(*pair, kind, **options)
            run.params.catIds, run.params.maxDets = category_ids, list(_MOST[lvis])
            run.evaluate()
            run.accumulate()
            found.append((np.asarray(run.eval["precision"]), np.asarray(run.eval["recall"])))
    precision, recall = (np.concatenate(parts, axis=-3) for parts in zip(*found, strict=True))  # axis of the classes
    # pycocotools adds 2^-52 to the number of detections, which is only visible where that number is 1
    return np.where(precision == _ALMOST_ONE, 1.0, precision), recall


def _parts(truth: Annotations) -> list[list[int]]:
    """Class ids in groups that are scored together: classes are independent, and each takes memory."""
    ids, count = truth.category_ids, max(1, _AT_ONCE // max(1, len(truth.images)))
    return [ids[start : start + count] for start in range(0, len(ids), count)]


def _faster_coco_eval() -> tuple[Any, Any]:
    try:
        import faster_coco_eval  # type: ignore[import-untyped]  # an extra: pycocotools gives the same for COCO
    except ImportError as error:
        raise ValueError(
            "scorer=faster_coco_eval needs faster-coco-eval: pip install 'siglip2-backbone[coco]'."
        ) from error
    return faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster


def _indexed(index: Any, truth: Annotations, annotations: list[Entry]) -> Any:
    """A scorer's COCO object, built without ``loadRes``, which fails on an empty list and modifies the entries."""
    coco = index()
    coco.dataset = {"images": truth.images, "categories": truth.categories, "annotations": annotations}
    coco.createIndex()
    return coco


def _truth_entries(truth: Annotations, kind: Kind) -> list[Entry]:
    """Copies, since scorers modify them. Ids start at 1: an annotation with id 0 would count as unmatched."""
    keys = ["image_id", "category_id", "bbox", "area", "iscrowd"] + ["segmentation"] * (kind == "segm")
    return [{"id": i} | {key: entry[key] for key in keys} for i, entry in enumerate(truth.annotations, start=1)]


def _result_entries(results: Sequence[Entry], kind: Kind) -> list[Entry]:
    """Copies with the fields that a scorer needs as well: an id, and the area of the box or of the mask."""
    key = "segmentation" if kind == "segm" else "bbox"
    if kind == "segm":  # one by one: under numpy 2 pycocotools accepts at most 255 at once
        areas = [int(run_lengths.area(entry[key])) for entry in results]
    else:
        areas = [entry[key][2] * entry[key][3] for entry in results]
    return [
        {"id": i, "image_id": e["image_id"], "category_id": e["category_id"], "score": e["score"], key: e[key]}
        | {"area": area, "iscrowd": 0}
        for i, (e, area) in enumerate(zip(results, areas, strict=True), start=1)
    ]


def _best(results: list[Entry], count: int) -> list[Entry]:
    """The highest scores of each image over all classes; faster-coco-eval would keep as many for each class."""
    images: dict[int, list[Entry]] = defaultdict(list)
    for entry in results:
        images[entry["image_id"]].append(entry)
    return [e for found in images.values() for e in sorted(found, key=lambda e: -e["score"])[:count]]


def _verified(truth: Annotations, results: list[Entry]) -> list[Entry]:
    """Drop results of a class that is neither annotated in the image nor verified as absent.

    faster-coco-eval drops them too, but first reads the sizes of images without ground truth.
    """
    looked_for = {(image["id"], category) for image in truth.images for category in image["neg_category_ids"]}
    looked_for |= {(annotation["image_id"], annotation["category_id"]) for annotation in truth.annotations}
    return [entry for entry in results if (entry["image_id"], entry["category_id"]) in looked_for]


def _values(precision: np.ndarray, recall: np.ndarray, most: tuple[int, ...]) -> dict[str, float]:
    return {
        "AP": _mean(precision[..., 0, -1]),
        "AP50": _mean(precision[_AP50, ..., 0, -1]),
        "AP75": _mean(precision[_AP75, ..., 0, -1]),
        **{f"AP{area}": _mean(precision[..., i, -1]) for i, area in enumerate(_AREAS) if area},
        **{f"AR{count}": _mean(recall[..., 0, i]) for i, count in enumerate(most)},
        **{f"AR{area}": _mean(recall[..., i, -1]) for i, area in enumerate(_AREAS) if area},
    }


def _by_frequency(precision: np.ndarray, truth: Annotations) -> dict[str, float]:
    groups = np.array([category["frequency"] for category in truth.categories])
    return {f"AP{group}": _mean(precision[:, :, groups == group, 0, -1]) for group in "rcf"}


def _by_class(precision: np.ndarray, recall: np.ndarray, most: int) -> list[dict[str, float]]:
    return [
        {
            "AP": _mean(precision[:, :, k, 0, -1]),
            "AP50": _mean(precision[_AP50, :, k, 0, -1]),
            f"AR{most}": _mean(recall[:, k, 0, -1]),
        }
        for k in range(precision.shape[2])
    ]


def _mean(values: np.ndarray) -> float:
    """Mean of the defined values; the scorers write -1 where there is no ground truth."""
    values = values[values > -1]
    return float(values.mean()) if values.size else math.nan


def check_scorer(scorer: Scorer, *, lvis: bool = False) -> None:
    """Check a scorer before it is needed.

    Raises:
        ValueError: The scorer is unknown, not installed, or cannot score LVIS.
    """
    if scorer not in get_args(Scorer):
        raise ValueError(f"scorer is {scorer!r}; expected one of {', '.join(get_args(Scorer))}.")
    if lvis and scorer != "faster_coco_eval":
        raise ValueError(f"scorer is {scorer!r}, which cannot score LVIS. Pass scorer faster_coco_eval.")
    if scorer == "faster_coco_eval":
        _faster_coco_eval()


def _check_masks(truth: Annotations) -> None:
    """Reject invalid masks, which are not checked when a file is read for its boxes.

    pycocotools reads past the end of run lengths that do not fill their image, and may never return.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth.images}
    for annotation in truth.annotations:
        if problem := mask_problem(annotation.get("segmentation"), *sizes[annotation["image_id"]]):
            raise ValueError(
                f"{truth.source} cannot score masks: annotation {annotation['id']} {problem}. Correct it, or score "
                "boxes."
            )


def _check_lvis(truth: Annotations) -> None:
    for image in truth.images:
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            if key not in image:
                raise ValueError(
                    f"{truth.source} is not an LVIS file: image {image['id']} has no {key}. Score it as COCO does."
                )
    for category in truth.categories:
        if category.get("frequency") not in ("r", "c", "f"):
            raise ValueError(
                f"{truth.source} is not an LVIS file: category {category['id']} has frequency "
                f"{category.get('frequency')!r}; expected r, c or f. Score it as COCO does."
            )
