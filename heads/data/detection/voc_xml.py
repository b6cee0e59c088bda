"""Pascal VOC's boxes: one XML file an image, read without a DTD and checked."""

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
_REMEDY = "Correct it, leave the object out, or set skip_invalid to pass over it."


@dataclass(frozen=True)
class _Object:
    """An object as its file has it: its place there, and its box or what is wrong with it."""

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

    Images, annotations and categories are numbered from 1, in the order of the files, of the objects in them and of
    the classes. VOC's corners are pixels that belong to the box and are counted from ``first_pixel``, so its left edge
    is at xmin - first_pixel and it is xmax - xmin + 1 wide; its own scoring measures boxes so. Boxes inside the parts
    of an object are not read.

    COCO's scoring has no counterpart to VOC's difficult objects, which count neither as found nor as missed:
    pycocotools ignores crowds alone, and matches any number of boxes with one. Here they count like others, with
    ``difficult`` 1 in their entry, or are left out, so that to find one is a mistake.

    Args:
        files: The XML files.
        images: Folder of the images: the one that a file names, or else one that is called like the file. Where both
            are there and differ, nothing says which one the boxes belong to.
        source: What messages and the result call the whole.
        classes: Names of the classes, in the order of the labels; by default those found, sorted.
        first_pixel: What the first pixel is counted as: 1 by VOC, 0 by some tools that write its format.
        skip_invalid: Pass over objects whose box is wrong, and list them in ``skipped``.
        keep_difficult: Keep the objects that are marked as difficult.

    Raises:
        ValueError: A file is missing, damaged, of another kind or has a DTD; a tag is missing; a name is none of the
            classes; an image is missing, or named where another one is called like the file; or a box is wrong.

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
        refuse(source, renamed, "XML files", "Correct <filename>, or take it out: then the name of the XML counts.")
    names = _names([o for objects in found for o in objects], source, classes)
    invalid = [f"{o.place} {o.problem}" for objects in found for o in objects if o.problem]
    if invalid and not skip_invalid:
        refuse(source, invalid, "objects", _REMEDY)
    annotations = _annotations(found, names, keep_difficult=keep_difficult)
    if invalid and not annotations:
        refuse(source, invalid, "objects", "That leaves none.")
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    return Annotations(source, rows, categories, annotations, invalid)


def _check_options(files: Sequence[Path], source: str, classes: Sequence[str] | None, first_pixel: int) -> None:
    if not files:
        raise ValueError(f"{source} holds no XML file; expected one for each image, as Pascal VOC has them.")
    if first_pixel not in (0, 1):
        raise ValueError(f"first_pixel is {first_pixel}; expected 1, as VOC counts pixels, or 0.")
    if classes is not None and (not classes or len(set(classes)) != len(classes)):
        raise ValueError(f"classes is {list(classes)}; expected at least one name, and each once.")


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
            "XML without. Remove them, if you trust the file."
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path} is no XML that can be read, or truncated ({error}). Write it again.") from error
    if root.tag != "annotation":
        raise ValueError(f"{path} begins with <{root.tag}>; expected <annotation>, as Pascal VOC's files begin.")
    return root


def _side(root: Element, tag: str, path: Path) -> int:
    value = _number(root.findtext(f"size/{tag}"))
    if value is None or not 0 < value <= LONGEST or value != int(value):
        raise ValueError(
            f"{path} has {_shown(root.findtext(f'size/{tag}'), f'<size><{tag}>')}; expected a whole number of pixels "
            f"from 1 to {LONGEST}. Write the size of the image there."
        )
    return int(value)


def _known_images(folder: Path) -> dict[str, str]:
    """Names of the images in a folder by name and by stem; a name wins over a stem."""
    if not folder.is_dir():
        raise ValueError(f"No folder {folder}; expected the images that Pascal VOC's XML files name.")
    names = sorted((p.name for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), reverse=True)
    return {Path(name).stem: name for name in names} | {name: name for name in names}


def _image_name(root: Element, path: Path, images: Path, known: dict[str, str]) -> str:
    """The image that a file names, or else one that is called like the file."""
    name = (root.findtext("filename") or "").strip()
    if "/" in name or "\\" in name or name in (".", "..") or name[1:2] == ":":
        raise ValueError(
            f"{path} has <filename> {name}, which leaves the image folder {images}; expected an image's plain name."
        )
    found = known.get(name) or known.get(path.stem)
    if found is None:
        named = f"neither {name}, which it names, nor" if name else "no <filename> and not"
        raise ValueError(
            f"{path} has no image in {images}: {named} {path.stem} with {', '.join(sorted(IMAGE_SUFFIXES))} is there. "
            "Get the image, or leave the file out."
        )
    return found


def _renamed(name: str, path: Path, known: dict[str, str]) -> list[str]:
    """Whether a file names another image than the one that is called like it, as after both have been renamed."""
    called = known.get(path.stem)
    if called is None or Path(name).stem == Path(called).stem:
        return []
    return [f"{path} has <filename> {name}, and {called}, which is called like the XML, is there as well; expected one"]


def _check_doubled(rows: list[Entry], files: Sequence[Path]) -> None:
    first: dict[str, Path] = {}
    for row, path in zip(rows, files, strict=True):
        other = first.setdefault(row["file_name"], path)
        if other is not path:
            raise ValueError(f"{path} and {other} are both about {row['file_name']}; expected one XML file an image.")


def _objects(root: Element, path: Path, size: tuple[int, int], first_pixel: int) -> Iterator[_Object]:
    for number, element in enumerate(root.findall("object"), 1):
        name = (element.findtext("name") or "").strip()
        if not name:
            raise ValueError(f"{path}, object {number}, has no <name>; expected the name of its class. Write it there.")
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
    """xmin, ymin, xmax and ymax of an object itself, or what is wrong with them."""
    box = element.find("bndbox")  # a child: those below <part> are boxes of hands, feet and heads
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
    lowest = min(left, top)
    if lowest <= first_pixel - 1:
        zero = first_pixel == 1 and lowest > -1
        hint = ". If the file counts pixels from 0, set first_pixel to 0" if zero else ""
        return f"has {shown}; expected pixels counted from {first_pixel}{hint}"
    if any(end + 1 - first_pixel > side + ROUNDING for end, side in zip((right, bottom), size, strict=True)):
        return f"has {shown}, which leaves its image of {size[0]} x {size[1]} px; expected corners inside it"
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
        ValueError: A name is none of them, or there is none.
    """
    if classes is None:
        names = sorted({o.name for o in objects})
        if not names:
            raise ValueError(f"{source} has no object in any file; expected some, or set classes to their names.")
        return names
    strange = [o for o in objects if o.name not in set(classes)]
    if strange:
        near = difflib.get_close_matches(strange[0].name, classes, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        lines = [f"{o.place} is none of the classes; expected one of {', '.join(classes)}" for o in strange]
        refuse(source, lines, "objects", f"Add it to classes, or correct the file.{meant}")
    return list(classes)
