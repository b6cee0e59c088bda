"""Read and check Pascal VOC's boxes: one XML file per image, without DTDs."""

import difflib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ..image_listing import IMAGE_SUFFIXES
from .annotation_checks import LONGEST, refuse
from .annotations import Annotations, Entry
from .instance_masks import ROUNDING

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_REMEDY = "Correct it, leave the object out, or set skip_invalid to skip it."


@dataclass(frozen=True)
class _Object:
    """An object as read from its file: its place there, and its box or the problem with it."""

    place: str
    name: str
    difficult: bool
    box: list[float]
    problem: str


def read_voc(
    files: Sequence[Path],
    images: Path,
    source: str,
    *,
    classes: Sequence[str] | None = None,
    first_pixel: int = 1,
    skip_invalid: bool = False,
    keep_difficult: bool = True,
) -> Annotations:
    """Read XML files like VOC's ``Annotations/2007_000063.xml``.

    Images, annotations and categories are numbered from 1, in the order of the files, of their objects and of the
    classes. VOC's corners are pixels inside the box, counted from ``first_pixel``: the left edge is at
    xmin - first_pixel, and the width is xmax - xmin + 1, as in VOC's own scoring. Boxes of the parts of an object are
    not read.

    In VOC's scoring, difficult objects count neither as found nor as missed. COCO's scoring has no counterpart:
    pycocotools ignores only crowds, and matches any number of boxes with one. Here difficult objects count like others,
    with ``difficult`` 1 in their entry, or are left out, and then a detection of one is a false positive.

    Args:
        files: The XML files.
        images: Folder of the images. The image of a file is the one in its ``<filename>``, or else the one with the
            stem of the file. Two different images are an error, because the boxes could belong to either.
        source: Name of the whole in messages and in the result.
        classes: Names of the classes, in the order of the labels; by default those found, sorted.
        first_pixel: Coordinate of the first pixel: 1 in VOC, 0 in files of some tools.
        skip_invalid: Skip objects with an invalid box, and list them in ``skipped``.
        keep_difficult: Keep objects marked as difficult.

    Raises:
        ValueError: A file is missing, damaged, of another kind or has a DTD; a tag is missing; a class name is
            unknown; an image is missing or ambiguous; or a box is invalid.

    Source: Everingham et al., IJCV 2010; VOCevaldet.m of the VOC2012 development kit.
    """
    _check_options(files, source, classes, first_pixel)
    known = _known_images(images)
    rows: list[Entry] = []
    found: list[list[_Object]] = []
    renamed: list[str] = []
    for number, path in enumerate(files, 1):
        root = _read_root(path)
        width, height = (_side(root, tag, path) for tag in ("width", "height"))
        name = _image_name(root, path, images, known)
        renamed += _renamed(name, path, known)
        rows.append({"id": number, "file_name": name, "width": width, "height": height})
        found.append(list(_objects(root, path, (width, height), first_pixel)))
    _check_doubled(rows, files)
    if renamed:
        refuse(
            source, renamed, "XML files", "Correct <filename>, or remove it to use the image with the name of the XML."
        )
    names = _names([o for objects in found for o in objects], source, classes)
    invalid = [f"{o.place} {o.problem}" for objects in found for o in objects if o.problem]
    if invalid and not skip_invalid:
        refuse(source, invalid, "objects", _REMEDY)
    annotations = _annotations(found, names, keep_difficult=keep_difficult)
    if invalid and not annotations:
        refuse(source, invalid, "objects", "No valid object is left.")
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    return Annotations(source, rows, categories, annotations, invalid)


def _check_options(files: Sequence[Path], source: str, classes: Sequence[str] | None, first_pixel: int) -> None:
    if not files:
        raise ValueError(f"{source} holds no XML file; expected one for each image, as in Pascal VOC.")
    if first_pixel not in (0, 1):
        raise ValueError(f"first_pixel is {first_pixel}; expected 1, as in VOC, or 0.")
    if classes is not None and (not classes or len(set(classes)) != len(classes)):
        raise ValueError(f"classes is {list(classes)}; expected at least one name, each once.")


def _annotations(found: list[list[_Object]], names: list[str], *, keep_difficult: bool) -> list[Entry]:
    ids = {name: number for number, name in enumerate(names, 1)}
    annotations: list[Entry] = []
    for image_id, objects in enumerate(found, 1):
        for o in objects:
            if o.problem or (o.difficult and not keep_difficult):
                continue
            entry: Entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": ids[o.name], "bbox": o.box}
            entry |= {"area": o.box[2] * o.box[3], "iscrowd": 0}
            annotations.append(entry | {"difficult": 1} if o.difficult else entry)
    return annotations


def _read_root(path: Path) -> Element:
    if not path.is_file():
        raise ValueError(f"No file {path}; expected annotations of an image in Pascal VOC's XML.")
    try:
        root: Element = fromstring(path.read_bytes(), forbid_dtd=True)
    except DefusedXmlException as error:
        raise ValueError(
            f"{path} has a DTD or entities ({type(error).__name__}), which are never resolved; expected Pascal VOC's "
            "XML without them. Remove them if you trust the file."
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path} is truncated or cannot be read as XML ({error}). Write the file again.") from error
    if root.tag != "annotation":
        raise ValueError(f"{path} begins with <{root.tag}>; expected <annotation>, as in Pascal VOC.")
    return root


def _side(root: Element, tag: str, path: Path) -> int:
    value = _number(root.findtext(f"size/{tag}"))
    if value is None or not 0 < value <= LONGEST or value != int(value):
        raise ValueError(
            f"{path} has {_shown(root.findtext(f'size/{tag}'), f'<size><{tag}>')}; expected a whole number of pixels "
            f"from 1 to {LONGEST}. Enter the size of the image."
        )
    return int(value)


def _known_images(folder: Path) -> dict[str, str]:
    """File names of the images in a folder, by name and by stem; a name takes precedence over a stem."""
    if not folder.is_dir():
        raise ValueError(f"No folder {folder}; expected the images that Pascal VOC's XML files name.")
    names = sorted((p.name for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), reverse=True)
    return {Path(name).stem: name for name in names} | {name: name for name in names}


def _image_name(root: Element, path: Path, images: Path, known: dict[str, str]) -> str:
    """The image that a file names, or else the one with the stem of the file."""
    name = (root.findtext("filename") or "").strip()
    if "/" in name or "\\" in name or name in (".", "..") or name[1:2] == ":":
        raise ValueError(
            f"{path} has <filename> {name}, which leaves the image folder {images}; expected a plain file name."
        )
    found = known.get(name) or known.get(path.stem)
    if found is None:
        named = f"neither {name}, its <filename>, nor" if name else "it has no <filename>, and no"
        raise ValueError(
            f"{path} has no image in {images}: {named} {path.stem} with {', '.join(sorted(IMAGE_SUFFIXES))} exists. "
            "Add the image, or leave the XML file out."
        )
    return found


def _renamed(name: str, path: Path, known: dict[str, str]) -> list[str]:
    """The problem if a file names one image and another image has its stem, as after renaming."""
    called = known.get(path.stem)
    if called is None or Path(name).stem == Path(called).stem:
        return []
    return [
        f"{path} has <filename> {name}, but {called}, with the name of the XML, exists as well; expected one of them"
    ]


def _check_doubled(rows: list[Entry], files: Sequence[Path]) -> None:
    first: dict[str, Path] = {}
    for row, path in zip(rows, files, strict=True):
        other = first.setdefault(row["file_name"], path)
        if other is not path:
            raise ValueError(f"{path} and {other} are both for {row['file_name']}; expected one XML file per image.")


def _objects(root: Element, path: Path, size: tuple[int, int], first_pixel: int) -> Iterator[_Object]:
    for number, element in enumerate(root.findall("object"), 1):
        name = (element.findtext("name") or "").strip()
        if not name:
            raise ValueError(f"{path}, object {number}, has no <name>; expected the name of its class. Add it.")
        corners, problem = _corners(element)
        if not problem:
            problem = _corner_problem(corners, size, first_pixel)
        left, top, right, bottom = corners or [0.0] * 4
        yield _Object(
            place=f"{path.name}, object {number} ({name}),",
            name=name,
            difficult=(element.findtext("difficult") or "").strip() == "1",
            box=[left - first_pixel, top - first_pixel, right - left + 1, bottom - top + 1],
            problem=problem,
        )


def _corners(element: Element) -> tuple[list[float], str]:
    """xmin, ymin, xmax and ymax of an object, or the problem with them."""
    box = element.find("bndbox")  # direct children only: boxes below <part> are hands, feet and heads
    if box is None:
        return [], "has no <bndbox>; expected one with xmin, ymin, xmax and ymax"
    numbers = [_number(box.findtext(tag)) for tag in _CORNERS]
    found = [number for number in numbers if number is not None]
    if len(found) == len(_CORNERS):
        return found, ""
    wrong = next(tag for tag, number in zip(_CORNERS, numbers, strict=True) if number is None)
    return [], f"has {_shown(box.findtext(wrong), f'<bndbox><{wrong}>')}; expected a number of pixels"


def _corner_problem(corners: list[float], size: tuple[int, int], first_pixel: int) -> str:
    left, top, right, bottom = corners
    shown = ", ".join(f"{tag} {value:g}" for tag, value in zip(_CORNERS, corners, strict=True))
    if right <= left or bottom <= top:
        return f"has {shown}; expected xmax above xmin and ymax above ymin"
    lowest = min(left, top)  # corners may be fractions: less than 1 px before the first pixel is rounding
    if lowest <= first_pixel - 1:
        zero = first_pixel == 1 and lowest > -1
        hint = ". If the file counts pixels from 0, set first_pixel to 0" if zero else ""
        return f"has {shown}; expected pixels counted from {first_pixel}{hint}"
    if any(end + 1 - first_pixel > side + ROUNDING for end, side in zip((right, bottom), size, strict=True)):
        return f"has {shown}, which extends beyond its image of {size[0]} x {size[1]} px; expected corners inside it"
    return ""


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _shown(text: str | None, tag: str) -> str:
    return f"no {tag}" if text is None else f"{tag} {text.strip()!r}"


def _names(objects: list[_Object], source: str, classes: Sequence[str] | None) -> list[str]:
    """The classes in the order of their labels.

    Raises:
        ValueError: An object has an unknown class, or there are no objects to take classes from.
    """
    if classes is None:
        names = sorted({o.name for o in objects})
        if not names:
            raise ValueError(
                f"{source} has no object in any file; expected at least one, or data.classes with the names."
            )
        return names
    strange = [o for o in objects if o.name not in set(classes)]
    if strange:
        near = difflib.get_close_matches(strange[0].name, classes, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        lines = [f"{o.place} has an unknown class; expected one of {', '.join(classes)}" for o in strange]
        refuse(source, lines, "objects", f"Add it to classes, or correct the file.{meant}")
    return list(classes)
