"""Pairs of image and label: by equal names in two folders, or by a list file."""

import os
import warnings
from pathlib import Path, PurePosixPath

from .image_listing import list_images, what_they_are

Pair = tuple[Path, Path]

_NONE = "None"  # a list's placeholder for a label that does not exist


def pair_folders(images: Path, labels: Path, suffixes: tuple[str, ...], unread: tuple[str, ...] = ()) -> list[Pair]:
    """Pair each image of a folder with the label of the same stem in another one; warnings list unused files of both.

    Args:
        images: Folder of images.
        labels: Folder of labels.
        suffixes: Suffixes of labels; the first one that exists is used.
        unread: Name endings of other files in a published layout, which the warnings leave out.

    Raises:
        ValueError: A folder is missing, or an image has no label.
    """
    paths = list_images(images, others=suffixes if labels.resolve() == images.resolve() else ())
    if not labels.is_dir():
        raise ValueError(f"No folder {labels}; expected the label {_names(suffixes)} of the images in {images}.")
    found = [next((p for s in suffixes if (p := labels / f"{path.stem}{s}").is_file()), None) for path in paths]
    without = [path for path, label in zip(paths, found, strict=True) if label is None]
    if without:
        raise ValueError(
            f"{len(without)} of {len(paths)} images in {images} have no label, first {without[0].name}: expected "
            f"{' or '.join(str(labels / (without[0].stem + s)) for s in suffixes)}. Add the label, or remove the "
            "image."
        )
    pairs = [(path, label) for path, label in zip(paths, found, strict=True) if label is not None]
    _say_what_is_left(images, labels, suffixes, unread, pairs)
    return pairs


def _say_what_is_left(
    images: Path, labels: Path, suffixes: tuple[str, ...], unread: tuple[str, ...], pairs: list[Pair]
) -> None:
    """Warn about labels without an image and about files that are not labels; a label of a later suffix is neither."""
    stems, taken = {path.stem for path, _ in pairs}, {path for pair in pairs for path in pair}
    left = [path for path in labels.iterdir() if path not in taken and not path.name.endswith(unread)]
    are_labels = {path for path in left if path.suffix in suffixes and path.is_file()}
    alone = what_they_are(path for path in are_labels if path.stem not in stems)
    if alone:
        warnings.warn(f"{labels}: labels without an image in {images} are not read: {alone}.", stacklevel=3)
    if labels.resolve() != images.resolve():  # in a folder of both, list_images has warned
        others = what_they_are(path for path in left if path not in are_labels)
        if others:
            warnings.warn(f"{labels}: read {len(pairs)} labels, skipped {others}.", stacklevel=3)


def _names(suffixes: tuple[str, ...]) -> str:
    return " or ".join(f"{suffix[1:].upper()}s" for suffix in suffixes)


def read_list(path: Path, content: str) -> list[str]:
    """The lines of a list file.

    Args:
        path: The list.
        content: Expected content, for messages.

    Raises:
        ValueError: The list is missing, cannot be read or is not text.
    """
    if not path.is_file():
        raise ValueError(f"No file {path}; expected a list with {content}.")
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text; expected a list with {content}.") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}); expected a list with {content}.") from error


def read_pair_list(path: Path, image_roots: tuple[Path, ...], label_roots: tuple[Path, ...]) -> list[Pair]:
    """The pairs of a list file: on each line an image, its label, and further columns, which are ignored.

    A leading slash is dropped, because some published lists put one before relative paths. A line with ``None`` as its
    label is left out.

    Args:
        path: The list.
        image_roots: Folders of images; the first one that holds the file is used.
        label_roots: The same for labels.

    Raises:
        ValueError: The list is missing, is not text or holds no pair, a line has fewer than two paths or leads out of
            the folders, or files are missing.
    """
    lines = read_list(path, "an image and its label on each line")
    rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    pairs: list[Pair] = []
    missing: list[Path] = []
    for number, row in rows:
        if len(row) < 2:
            raise ValueError(f"{path}, line {number}, is {' '.join(row)!r}; expected an image and its label.")
        if row[1] == _NONE:
            continue
        names = [_inside(name, f"{path}, line {number},") for name in row[:2]]
        image, label = _find(names[0], image_roots), _find(names[1], label_roots)
        missing += [found for found in (image, label) if not os.path.isfile(found)]
        pairs.append((image, label))
    if not pairs:
        raise ValueError(f"{path} holds no pair; expected an image and its label on each line.")
    if missing:
        raise ValueError(
            f"{len(missing)} files that {path} names are missing, first {missing[0]}. Get the rest of the data, or "
            "remove their lines from a copy of the list."
        )
    return pairs


def _inside(name: str, where: str) -> str:
    relative = PurePosixPath(name.lstrip("/"))
    if ".." in relative.parts:
        raise ValueError(f"{where} names {name}, which leads out of the dataset's folder; expected a path inside it.")
    return str(relative)


def _find(name: str, roots: tuple[Path, ...]) -> Path:
    paths = [root / name for root in roots]
    return next((path for path in paths if os.path.isfile(path)), paths[0])  # of any name, even one too long for a file
