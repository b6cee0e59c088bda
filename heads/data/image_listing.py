"""Which files of a folder are images, and what is said of the others."""

import warnings
from collections.abc import Collection, Iterable
from pathlib import Path

from PIL import Image

Image.init()  # registers every format that the installed Pillow knows

# Pillow's names of the formats that photographs and label images come in. Its other decoders are never asked: that of
# EPS runs Ghostscript on what the file says, and others pass the content on to any decoder that takes it.
_PHOTOGRAPHS = frozenset(
    {"AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP"}
)
_NO_PHOTOGRAPHS = frozenset({".pfm"})  # measurements as floats, which Pillow registers with PPM

IMAGE_FORMATS = tuple(sorted(_PHOTOGRAPHS & set(Image.OPEN)))
IMAGE_SUFFIXES = frozenset(s for s, f in Image.registered_extensions().items() if f in _PHOTOGRAPHS) - _NO_PHOTOGRAPHS

_COUNTED = ("sub-folder", "dead link", "special file")  # kinds with a plural; the others are endings
_LEFT_BY_SYSTEMS = frozenset({"thumbs.db", "desktop.ini"})  # which nobody means as data, as hidden files


def list_images(folder: Path, others: Collection[str] = ()) -> list[Path]:
    """Images directly in a folder, sorted by name; one warning says what else is in it.

    Args:
        folder: The folder.
        others: Endings of files that are read as something else, which are not spoken of.

    Raises:
        ValueError: There is no such folder, it holds no image, or two images differ only in their suffix.
    """
    if not folder.is_dir():
        raise ValueError(f"No folder {folder}; expected one with images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    entries = sorted(folder.iterdir())
    paths = [p for p in entries if _is_shown(p) and p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    rest = set(entries) - set(paths)
    passed_over = what_they_are(p for p in rest if p.suffix.lower() not in others or not p.is_file())
    if not paths:
        found = f"it has {passed_over}; " if passed_over else ""
        raise ValueError(
            f"{folder} holds no image; {found}expected files that end in {', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    by_stem: dict[str, Path] = {}
    for path in paths:
        other = by_stem.setdefault(path.stem, path)
        if other is not path:
            raise ValueError(
                f"{other} and {path.name} differ only in their suffix; rename one, results go by the stem."
            )
    if passed_over:
        warnings.warn(
            f"{folder}: {len(paths)} images are read; passed over are {passed_over}. Save pictures of other formats as "
            "PNG or JPEG, and move those of sub-folders up.",
            stacklevel=2,
        )
    return paths


def what_they_are(paths: Iterable[Path]) -> str:
    """How many files of which ending, with the first name of each; also sub-folders and links to nothing.

    Hidden files and those that systems leave behind are not counted. Empty where nothing remains.
    """
    kinds: dict[str, list[str]] = {}
    for path in sorted(paths):
        if _is_shown(path):
            kinds.setdefault(_kind(path), []).append(path.name)
    return ", ".join(
        f"{len(names)} {kind}{'s' if len(names) > 1 and kind in _COUNTED else ''} "
        f"({names[0]}{', ...' if len(names) > 1 else ''})"
        for kind, names in sorted(kinds.items())
    )


def _kind(path: Path) -> str:
    if not path.is_file():
        return _COUNTED[0] if path.is_dir() else _COUNTED[2] if path.exists() else _COUNTED[1]
    return path.suffix.lower() or "without ending"


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.lower() not in _LEFT_BY_SYSTEMS
