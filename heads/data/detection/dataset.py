"""The dataset of images with boxes and instance masks, for any source of annotations."""

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
    """Images with their objects; images without objects are included.

    Besides the keys of every image, a sample holds ``boxes`` float32 ``(N, 4)`` xyxy px in the image as the network
    sees it, ``labels`` int64 ``(N,)`` from 0 in the order of the categories, ``iscrowd`` bool ``(N,)``, ``area``
    float32 ``(N,)`` [px2 of the original], with ``masks`` also ``instance_masks`` bool ``(N, H, W)``, and ``image_id``,
    the image's id in the annotations. Crowds are included: a training loss must exclude them.

    In training, objects of which the crop keeps too little are removed, see
    :func:`heads.data.detection.transforms.in_view`; an image may end up without objects. At test time all objects are
    kept, and the image is not padded.

    Args:
        annotations: The split.
        folder: Folder that ``file_name`` is relative to.
        fit: Size that test images are resized to fit into.
        transform: Augmentation of image, boxes, masks and geometry together; ``None`` at test time.
        masks: Read the instance masks.
        min_visible: Smallest fraction of a box's area that must stay in the crop.
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
                f"{self.ids[index]}; expected the same size. Its boxes belong to another version of the image: get "
                "that version, or save this one as it was annotated."
            )
        return image

    def _masks(self, index: int) -> Tensor:
        """Masks of an image at its original size, bool ``(N, H, W)``."""
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
        # without clamping the boxes keep their full extent through a crop: in_view compares it with the visible part
        boxes = tv_tensors.BoundingBoxes(objects["boxes"], format="XYXY", canvas_size=size, clamping_mode=None)
        joint: dict[str, Any] = {"image": tv_tensors.Image(image), "boxes": boxes, "geometry": Geometry.of(size)}
        if self.masks:
            joint["instance_masks"] = tv_tensors.Mask(objects["instance_masks"])
        with sample_seed(self.seed, key):
            joint = self.transform(joint)  # type: ignore[misc]  # not None in training
        geometry = joint.pop("geometry")
        joint = {name: values.as_subclass(Tensor) for name, values in joint.items()}
        sample = described(self.paths[key[1]], joint.pop("image"), geometry)
        return sample | _kept(objects | joint, sample["size"], self.min_visible)


def _kept(objects: dict[str, Tensor], size: Size, min_visible: float) -> dict[str, Tensor]:
    boxes, keep = in_view(objects["boxes"], objects.get("instance_masks"), size, min_visible)
    return {name: values[keep] for name, values in (objects | {"boxes": boxes}).items()}


class PackedObjects:
    """The objects of a split's images in a few arrays.

    Worker processes would gradually copy a list of dicts: reading a Python object writes its reference count, which
    copies the memory page that it shares with the parent, and COCO's training split has millions of objects.

    Args:
        annotations: The split.
        outlines: Whether to keep the segmentations, too.
    """

    def __init__(self, annotations: Annotations, outlines: bool) -> None:
        label = {category: i for i, category in enumerate(annotations.category_ids)}
        by_image = list(annotations.by_image().values())
        every = [annotation for group in by_image for annotation in group]
        boxes = np.array([annotation["bbox"] for annotation in every], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]  # in float64: xywh to xyxy
        self.boxes = torch.from_numpy(boxes).float()
        self.labels = torch.tensor([label[annotation["category_id"]] for annotation in every], dtype=torch.int64)
        self.iscrowd = torch.tensor([bool(annotation["iscrowd"]) for annotation in every], dtype=torch.bool)
        self.area = torch.tensor([annotation["area"] for annotation in every], dtype=torch.float32)
        self.ends = np.cumsum([0, *(len(group) for group in by_image)])
        # segmentations differ in length: one byte string for all, with the end of each image's part
        packed = [marshal.dumps([_outline(a) for a in group]) for group in by_image] if outlines else []
        self.bytes = b"".join(packed)
        self.byte_ends = np.cumsum([0, *(len(part) for part in packed)])

    def of(self, index: int) -> dict[str, Tensor]:
        """Boxes (xyxy [px] of the original), labels, crowd flags and areas of an image."""
        part = slice(int(self.ends[index]), int(self.ends[index + 1]))
        return {name: getattr(self, name)[part] for name in ("boxes", "labels", "iscrowd", "area")}

    def outlines(self, index: int) -> list[Entry]:
        """Id and segmentation of each object of an image."""
        part = self.bytes[self.byte_ends[index] : self.byte_ends[index + 1]]
        return list(marshal.loads(part))  # safe: packed by this class, not read from a file


def _outline(annotation: Entry) -> Entry:
    return {key: annotation.get(key) for key in ("id", "segmentation")}
