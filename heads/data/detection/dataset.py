"""Images with boxes and instance masks as samples, whatever data set they come from."""

import marshal
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from ...geometry.record import Geometry
from ..image_folder import described, resized
from ..images import read_image
from ..sampling import EpochDataset, Sample, SampleKey, sample_seed
from ..sizes import Fit, Size
from .annotations import Annotations, Entry
from .instance_masks import instance_mask
from .transforms import in_view, resized_masks


class DetectionDataset(EpochDataset):
    """Images with their objects; every image of the annotations comes, with objects or without.

    Beside what every image has, a sample holds ``boxes`` float32 ``(N, 4)`` xyxy px in the image as the network sees
    it, ``labels`` int64 ``(N,)`` from 0 in the order of the categories, ``iscrowd`` bool ``(N,)``, ``area`` float32
    ``(N,)`` [px2 of the original], with ``masks`` also ``instance_masks`` bool ``(N, H, W)``, and ``image_id``, the
    number that the annotations give the image. Crowds are among the objects: who trains on them must leave them out.

    In training an object that the crop leaves too little of is gone, see
    :func:`heads.data.detection.transforms.in_view`, which may leave an image without objects. At test time all are
    there, and the image is not padded.

    Args:
        annotations: The split.
        folder: Folder that ``file_name`` starts from.
        fit: What test images are resized to.
        transform: Augmentation of image, boxes, masks and geometry together; ``None`` at test time.
        masks: Read the instance masks.
        min_visible: Smallest share of a box that a crop must leave.
        seed: Seed of the augmentation.

    Raises:
        ValueError: The folder or an image is missing.
    """

    def __init__(
        self,
        annotations: Annotations,
        folder: Path,
        fit: Fit,
        transform: v2.Transform | None = None,
        *,
        masks: bool = False,
        min_visible: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.source = annotations.source
        if not folder.is_dir():
            raise ValueError(f"No folder {folder}; expected the images of {self.source}.")
        self.paths = [folder / image["file_name"] for image in annotations.images]
        missing = [path for path in self.paths if not os.path.isfile(path)]  # of any name, even one too long for a file
        if missing:
            raise ValueError(
                f"{self.source} names {len(self.paths)} images, and {len(missing)} of them are missing, first "
                f"{missing[0]}. Get the rest of the data, or take them out of the annotations."
            )
        self.ids = [image["id"] for image in annotations.images]
        self.sizes = [(image["height"], image["width"]) for image in annotations.images]
        self.aspect_ratios = [height / width for height, width in self.sizes]
        self.objects = PackedObjects(annotations, masks)
        self.fit = fit
        self.transform = transform
        self.masks = masks
        self.min_visible = min_visible
        self.seed = seed

    def __len__(self) -> int:
        return len(self.paths)

    def sample(self, key: SampleKey) -> Sample:
        """An image with its objects, augmented in training."""
        index = key[1]
        image, objects = self._image(index), self.objects.of(index)
        if self.masks:
            objects["instance_masks"] = self._masks(index)
        sample = self._test(index, image, objects) if self.transform is None else self._train(key, image, objects)
        return sample | {"image_id": self.ids[index]}

    def _image(self, index: int) -> Tensor:
        path = self.paths[index]
        image = read_image(path)
        found, expected = tuple(image.shape[1:]), self.sizes[index]
        if found != expected:
            raise ValueError(
                f"{path} is {found} (height, width), upright as its EXIF says; {self.source} has {expected} for image "
                f"{self.ids[index]}; expected the same size. Its boxes belong to another version of the picture: get "
                "that one, or save this one as it was annotated."
            )
        return image

    def _masks(self, index: int) -> Tensor:
        """Masks of an image at its own size, bool ``(N, H, W)``."""
        height, width = self.sizes[index]
        found = [instance_mask(annotation, height, width) for annotation in self.objects.outlines(index)]
        return torch.stack(found) if found else torch.zeros(0, height, width, dtype=torch.bool)

    def _test(self, index: int, image: Tensor, objects: dict[str, Tensor]) -> Sample:
        sample = resized(self.paths[index], image, self.fit)
        objects["boxes"] = sample["geometry"].boxes(objects["boxes"])
        if self.masks:
            objects["instance_masks"] = resized_masks(objects["instance_masks"], sample["size"])
        return sample | objects

    def _train(self, key: SampleKey, image: Tensor, objects: dict[str, Tensor]) -> Sample:
        size = self.sizes[key[1]]
        # without a clamping mode torchvision forgets nothing of a box that a crop cuts
        boxes = tv_tensors.BoundingBoxes(objects["boxes"], format="XYXY", canvas_size=size, clamping_mode=None)
        joint: dict[str, Any] = {"image": tv_tensors.Image(image), "boxes": boxes, "geometry": Geometry.of(size)}
        if self.masks:
            joint["instance_masks"] = tv_tensors.Mask(objects["instance_masks"])
        with sample_seed(self.seed, key):
            joint = self.transform(joint)  # type: ignore[misc]  # there is one
        geometry = joint.pop("geometry")
        joint = {name: values.as_subclass(Tensor) for name, values in joint.items()}
        sample = described(self.paths[key[1]], joint.pop("image"), geometry)
        return sample | _kept(objects | joint, sample["size"], self.min_visible)


def _kept(objects: dict[str, Tensor], size: Size, min_visible: float) -> dict[str, Tensor]:
    boxes, keep = in_view(objects["boxes"], objects.get("instance_masks"), size, min_visible)
    return {name: values[keep] for name, values in (objects | {"boxes": boxes}).items()}


class PackedObjects:
    """The objects of a split's images in a few arrays.

    A list of dicts would be copied into every worker process bit by bit: reading a Python object writes its reference
    count, and COCO's training split is millions of them.

    Args:
        annotations: The split.
        outlines: Keep the segmentations, too.
    """

    def __init__(self, annotations: Annotations, outlines: bool) -> None:
        label = {category: i for i, category in enumerate(annotations.category_ids)}
        by_image = list(annotations.by_image().values())
        every = [annotation for group in by_image for annotation in group]
        boxes = np.array([annotation["bbox"] for annotation in every], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        self.boxes = torch.from_numpy(boxes).float()
        self.labels = torch.tensor([label[annotation["category_id"]] for annotation in every], dtype=torch.int64)
        self.iscrowd = torch.tensor([bool(annotation["iscrowd"]) for annotation in every], dtype=torch.bool)
        self.area = torch.tensor([annotation["area"] for annotation in every], dtype=torch.float32)
        self.ends = np.cumsum([0, *(len(group) for group in by_image)])
        packed = [marshal.dumps([_outline(a) for a in group]) for group in by_image] if outlines else []
        self.bytes = b"".join(packed)
        self.byte_ends = np.cumsum([0, *(len(part) for part in packed)])

    def of(self, index: int) -> dict[str, Tensor]:
        """Boxes (xyxy px of the original), labels, crowds and areas of an image."""
        part = slice(int(self.ends[index]), int(self.ends[index + 1]))
        return {name: getattr(self, name)[part] for name in ("boxes", "labels", "iscrowd", "area")}

    def outlines(self, index: int) -> list[Entry]:
        """Id and segmentation of each object of an image."""
        part = self.bytes[self.byte_ends[index] : self.byte_ends[index + 1]]
        return list(marshal.loads(part))  # what this process has packed itself


def _outline(annotation: Entry) -> Entry:
    return {key: annotation.get(key) for key in ("id", "segmentation")}
