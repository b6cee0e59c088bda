"""The detections that `siglip2 predict` writes: drawings, and one JSON file in COCO's format."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from siglip2_backbone.files import whole_file

from ..data.detection.annotations import Entry
from ..data.detection.instance_masks import instance_mask, mask_area
from ..data.images import read_image
from ..training.distributed import gather_objects
from .detection_entries import entries_of
from .encoded import write_picture
from .options import Drawing

DETECTIONS = "detections.json"


class DetectionFiles:
    """Draws photographs one by one, and writes their detections together.

    Args:
        colours: The classes with their colours, in the order of the labels.
    """

    def __init__(self, colours: Mapping[str, Sequence[int]]) -> None:
        self.colours = colours
        self._photos: list[tuple[str, dict[str, Any]]] = []

    def write(self, found: dict[str, Any], photo: Path, folder: Path, drawing: Drawing) -> None:
        """Write ``drawings/NAME.jpg``, and keep the detections for ``detections.json``.

        Raises:
            ValueError: A file cannot be written.
        """
        drawn = draw(found, Image.fromarray(read_image(photo).permute(1, 2, 0).numpy()), self.colours, drawing)
        write_picture(drawn, folder / "drawings" / f"{photo.stem}.jpg", quality=90)
        self._photos.append((photo.name, found))

    def write_together(self, folder: Path) -> None:
        """Write ``detections.json`` with the detections of all processes; each process writes the same file.

        Raises:
            ValueError: The file cannot be written.
        """
        photos = [photo for found in gather_objects(self._photos) for photo in found]
        self._photos = []
        with whole_file(folder / DETECTIONS) as partial:
            partial.write_text(json.dumps(coco_dataset(photos, list(self.colours))) + "\n", encoding="utf-8")


def coco_dataset(photos: Sequence[tuple[str, dict[str, Any]]], names: Sequence[str]) -> dict[str, Any]:
    """Photographs and their detections as a dataset in COCO's format, whose annotations have a score.

    Args:
        photos: File names, each with the result of :func:`heads.outputs.detection_entries.original`.
        names: The classes; their ids are 1, 2 and so on.
    """
    images: list[Entry] = []
    annotations: list[Entry] = []
    for image_id, (name, found) in enumerate(sorted(photos, key=lambda photo: photo[0]), 1):
        height, width = found["size"]
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for entry in entries_of(found, image_id, range(1, len(names) + 1)):
            rle = entry.get("segmentation")
            area = mask_area(rle, height, width) if rle else entry["bbox"][2] * entry["bbox"][3]
            annotations.append({"id": len(annotations) + 1, **entry, "area": area, "iscrowd": 0})
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    return {"images": images, "categories": categories, "annotations": annotations}


def draw(
    found: dict[str, Any], photo: Image.Image, colours: Mapping[str, Sequence[int]], drawing: Drawing
) -> Image.Image:
    """Draw boxes, names, scores and masks on a photograph, the highest scores on top."""
    shown = [i for i, score in enumerate(found["scores"].tolist()) if score >= drawing.threshold][::-1]
    names, rgb = list(colours), np.array(list(colours.values()), dtype=np.uint8)
    labels = found["labels"].tolist()
    pixels = np.array(photo)
    if "segmentations" in found:
        for i in shown:
            inside = instance_mask({"segmentation": found["segmentations"][i]}, *pixels.shape[:2]).numpy()
            mixed = (1 - drawing.opacity) * pixels[inside] + drawing.opacity * rgb[labels[i]]
            pixels[inside] = mixed.round().astype(np.uint8)
    photo = Image.fromarray(pixels)
    pen, width = ImageDraw.Draw(photo), max(1, round(min(photo.size) / 250))
    height = max(10, min(photo.size) / 32)
    font = ImageFont.load_default(height)
    for i in shown:
        left, top, right, bottom = found["boxes"][i].tolist()
        colour = tuple(rgb[labels[i]].tolist())
        last = max(left, right - 1), max(top, bottom - 1)  # Pillow includes the last pixel, a box excludes it
        pen.rectangle((left, top, *last), outline=colour, width=width)
        text = f"{' '.join(names[labels[i]].split())} {found['scores'][i].item():.2f}"  # Pillow anchors one line only
        left = max(0, min(left, photo.width - pen.textlength(text, font=font)))
        frame = pen.textbbox((left, top), text, font=font, anchor="lb" if top > height + width else "lt")
        pen.rectangle(frame, fill=colour)
        pen.text(frame[:2], text, fill="black" if sum(colour) > 380 else "white", font=font, anchor="lt")
    return photo
