"""Detection and instance segmentation: a detector on the maps, scored as COCO does."""

import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..backbones.extractor import Extractor
from ..data.classes import ClassSpec, class_colours
from ..data.detection.annotations import Annotations
from ..data.detection.instance_masks import instance_mask
from ..data.detection.interface import DetectionData
from ..data.interface import check_data
from ..data.sizes import Fit, Size
from ..detectors import Detections, Limits, Target, build_detector
from ..geometry.record import Geometry
from ..metrics.coco_results import write_results
from ..metrics.coco_scores import MASK, Kind, Scorer, check_scorer
from ..metrics.detection import DetectionResults, scores_of
from ..outputs.detection import DetectionFiles
from ..outputs.detection_entries import entries_of, original
from ..outputs.options import Drawing
from .finite import finite_maps, finite_output
from .head_task import HeadTask
from .results import Scored

RESULTS = "detections.json"
_SCORES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"]
_SCORES += [f"AR{which}" for which in ("1", "10", "100", "300", "s", "m", "l")]


class DetectionTask(HeadTask):
    """Boxes, and with ``mask_rcnn`` masks, of the objects in an image.

    Args:
        backbone: A SigLIP 2 directory, file, model name or Hugging Face id, or any other timm name.
        classes: Number of classes, their names, or names with colours, in the order of the labels. From the command
            line the data module sets them.
        img_size: Height and width [px] that an image is resized to fit into, its shape kept. From the command line the
            data module sets it.
        detector: faster_rcnn, mask_rcnn, retinanet or fcos, torchvision's, which are best on a pyramid; or
            set_prediction, a DETR-style decoder, which reads the patch tokens of a plain tower.
        detector_args: Further arguments of the detector, see :mod:`heads.detectors`.
        score_threshold: Lowest score of a detected box; the detector's own by default.
        nms_threshold: Highest IoU of two detected boxes of one class; the detector's own by default.
        max_detections: Boxes per image, those with the highest scores; COCO counts 100, LVIS 300.
        scorer: pycocotools, or faster_coco_eval, whose numbers are the same. LVIS takes faster_coco_eval.
        shared: What all tasks share: how the backbone is read and how the task is trained, see
            :class:`heads.tasks.head_task.HeadTask`.

    Raises:
        ValueError: An argument is out of range or an unknown name.
    """

    task = "detection"
    reads = DetectionData
    head = "detector"
    monitor = ("AP", "max")
    units: ClassVar = dict.fromkeys([prefix + name for prefix in ("", MASK) for name in _SCORES], "%")

    def __init__(
        self,
        backbone: str | Extractor,
        classes: ClassSpec,
        img_size: tuple[int, int] = (512, 512),
        *,
        detector: Literal["faster_rcnn", "mask_rcnn", "retinanet", "fcos", "set_prediction"] = "faster_rcnn",
        detector_args: dict[str, Any] | None = None,
        score_threshold: float | None = None,
        nms_threshold: float | None = None,
        max_detections: int = 100,
        scorer: Scorer = "pycocotools",
        **shared: Any,
    ) -> None:
        self.colours = class_colours(classes, most=None)
        limits = Limits(score_threshold, nms_threshold, max_detections)

        def head(extractor: Extractor) -> nn.Module:
            channels, reductions = extractor.channels, extractor.reductions
            return build_detector(detector, channels, reductions, len(self.colours), limits, **(detector_args or {}))

        own = {"classes": self.colours, "detector": detector, "detector_args": detector_args, "scorer": scorer}
        super().__init__(backbone, head, own | asdict(limits), img_size, **shared)
        self.scorer = scorer
        self.files = DetectionFiles(self.colours)

    def protocol(self) -> dict[str, Any]:
        """The base protocol with what is kept of the boxes, and who counts."""
        names = (*(field.name for field in fields(Limits)), "scorer")
        return super().protocol() | {name: self.hparams[name] for name in names}

    def setup(self, stage: str) -> None:
        """As every task; several processes do not wait for gradients of a level that the detector does not read.

        Raises:
            ValueError: The data cannot be trained on or scored with these options; said before the first batch.
        """
        super().setup(stage)
        if stage != "predict":
            data: DetectionData | None = self.trainer.datamodule  # type: ignore[attr-defined]
            check_scorer(self.scorer, lvis=data is not None and data.lvis)
            self._check_masks(data is None or data.masks)
        detector: Any = self.decoders[0]
        unread = tuple(f"extractor.backbone.levels.{i}." for i in detector.unread)
        if self.extractor.pyramid:
            self._ddp_params_and_buffers_to_ignore += [n for n, _ in self.named_parameters() if n.startswith(unread)]

    # Training: the detector's own losses.

    @property
    def has_masks(self) -> bool:
        """Whether the detector is trained on masks and finds them."""
        detector: Any = self.decoders[0]
        return bool(detector.has_masks)

    def head_loss(self, maps: list[Tensor], batch: dict[str, Any], head: int) -> Tensor:
        """The sum of a detector's losses, each of which is logged."""
        losses = self.decode(maps, head, *self._frame(batch), self._targets(batch))
        size = len(batch["image"])
        if head == self.best_head:
            self.log_dict({f"train/{name}": loss.detach() for name, loss in losses.items()}, batch_size=size)
        total: Tensor = torch.stack(list(losses.values())).sum()
        return total

    def _targets(self, batch: dict[str, Any]) -> list[Target]:
        """What is in each image; a crowd is no object to learn from."""
        self._check_masks("instance_masks" in batch)
        targets: list[Target] = []
        for i, (boxes, labels) in enumerate(zip(batch["boxes"], batch["labels"], strict=True)):
            single = ~batch["iscrowd"][i].bool()
            target = {"boxes": boxes[single], "labels": labels[single]}
            if self.has_masks:
                target["masks"] = batch["instance_masks"][i][single]
            targets.append(target)
        return targets

    def _check_masks(self, has_masks: bool) -> None:
        if self.has_masks and not has_masks:
            raise ValueError(
                f"{self.hparams['detector']} needs masks for training and scores, and the data module provides none. "
                "Set data.masks to true, or choose the detector faster_rcnn."
            )

    @staticmethod
    def _frame(batch: dict[str, Any]) -> tuple[tuple[int, int], list[tuple[int, int]]]:
        """Height and width of the batch, and of each of its images [px]."""
        height, width = batch["image"].shape[-2:]
        return (int(height), int(width)), [(int(h), int(w)) for h, w in batch["size"]]

    # Measuring: boxes at the original size, beside the annotation file.

    def forward(self, image: Tensor) -> list[Detections]:
        """What the best head finds in images ``(B, 3, H, W)`` in [0, 1], in their pixels."""
        size = (int(image.shape[-2]), int(image.shape[-1]))
        found: list[Detections] = self.decode(self.maps({"image": image}), None, size, [size] * len(image))
        return found

    def outputs(self, batch: dict[str, Any], heads: Sequence[int], stage: str) -> list[list[Detections]]:
        """What each head finds in each image of the batch, in the batch's own pixels."""
        maps = finite_maps(self, batch)
        return [finite_output(self, maps, head, *self._frame(batch)) for head in heads]

    def postprocess(self, output: list[Detections], batch: dict[str, Any]) -> list[dict[str, Any]]:
        """What is found in each image, in its original pixels, see :func:`heads.outputs.detection_entries.original`."""
        geometries: list[Geometry] = batch["geometry"]
        return [original(found, geometry) for found, geometry in zip(output, geometries, strict=True)]

    def new_metrics(self) -> DetectionResults:
        """What was found in a split."""
        return DetectionResults()

    def update(self, metric: DetectionResults, output: list[Detections], batch: dict[str, Any]) -> None:
        """Keep what was found in a batch."""
        category_ids = self._truth("test" if self.trainer.testing else "val").category_ids
        for image_id, found in zip(batch["image_id"], self.postprocess(output, batch), strict=True):
            metric.update(image_id, entries_of(found, image_id, category_ids))

    def scores(self, metric: DetectionResults, stage: str) -> Scored:
        """COCO's or LVIS's scores of the split, and a table of the classes.

        Raises:
            ValueError: There is nothing to score.
        """
        data: DetectionData = self.trainer.datamodule  # type: ignore[attr-defined]
        kinds: list[Kind] = ["bbox", "segm"] if self.has_masks else ["bbox"]
        truth = self._truth(stage)
        gathered = metric.gathered()
        scores = scores_of(gathered, truth, kinds=kinds, scorer=self.scorer, lvis=data.lvis)
        if math.isnan(scores.values["AP"]) and len(gathered[1]) == len(truth.images):  # a part may be without boxes
            raise ValueError(f"No image of the {stage} split has a box ({truth.source}), so there is nothing to score.")
        values = {name: torch.tensor(value, device=self.device) for name, value in scores.values.items()}
        entries = gathered[0] if stage == "test" else ()  # of COCO with masks they are half a gigabyte
        return Scored(values, {"classes": scores.classes}, entries)

    def _truth(self, stage: str) -> Annotations:
        """The annotations of a split.

        Raises:
            ValueError: There is no data module, or its annotations have other classes.
        """
        data: DetectionData = self.trainer.datamodule  # type: ignore[attr-defined]
        check_data(data, DetectionData, self.task)  # a run on plain loaders has none
        truth = data.truth(stage)
        if truth.names != list(self.colours):
            raise ValueError(
                f"{truth.source} has the classes {truth.names}; this task has {list(self.colours)}. Pass those of the "
                "data."
            )
        return truth

    def write_test(self, scored: Scored, folder: Path) -> None:
        """The detections of a test as COCO's result file."""
        write_results(scored.entries, folder / RESULTS)

    # Predicting.

    def test_size(self) -> Fit:
        """What an image is resized to fit into; the long side lies along its own."""
        return Fit(self.img_size, turns=True)

    def predict(self, image: Any, size: Size | int | Fit | None = None) -> dict[str, Any]:
        """What is found in one image, in its own pixels.

        Args:
            image: A path, a PIL image, an array ``(H, W, 3)`` uint8, or a tensor ``(3, H, W)`` uint8.
            size: Height and width, or the short side, its shape kept [px]; by default it is resized to fit into
                img_size.

        Returns:
            On the CPU: ``boxes`` float32 ``(N, 4)`` xyxy [px], ``scores`` ``(N,)`` from the highest down, ``labels``
            int64 ``(N,)``, of a detector with masks ``masks`` bool ``(N, H, W)``, and ``size``, the image's height and
            width [px].

        Raises:
            ValueError: The image cannot be read or is none of these.
        """
        found: dict[str, Any] = super().predict(image, size)
        if "segmentations" in found:
            masks = [instance_mask({"segmentation": rle}, *found["size"]) for rle in found.pop("segmentations")]
            found["masks"] = torch.stack(masks) if masks else torch.zeros(0, *found["size"], dtype=torch.bool)
        return found

    def write(self, answer: dict[str, Any], photo: Path, folder: Path, drawing: Drawing) -> None:
        """``drawings/NAME.jpg``, and a part of ``detections.json``."""
        self.files.write(answer, photo, folder, drawing)

    def write_together(self, folder: Path) -> None:
        """``detections.json``: the images, the classes and what was found, as COCO's annotations with a score each."""
        self.files.write_together(folder)
