"""Which files of a folder are images, and a summary of the others."""

import warnings
from collections.abc import Collection, Iterable
from pathlib import Path

from PIL import Image

Image.init()  # registers every format of the installed Pillow

# Pillow's names for the formats of photographs and label images. Its other decoders are never called: the EPS decoder
# runs Ghostscript on the file's code, and others pass the content on to any decoder that accepts it.
_PHOTOGRAPHS = frozenset(
    {"AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP"}
)
_NO_PHOTOGRAPHS = frozenset({".pfm"})  # float measurements, which Pillow registers with PPM

IMAGE_FORMATS = tuple(sorted(_PHOTOGRAPHS & set(Image.OPEN)))
IMAGE_SUFFIXES = frozenset(s for s, f in Image.registered_extensions().items() if f in _PHOTOGRAPHS) - _NO_PHOTOGRAPHS

_COUNTED = ("sub-folder", "dead link", "special file")  # kinds with a plural; the others are suffixes
_LEFT_BY_SYSTEMS = frozenset({"thumbs.db", "desktop.ini"})  # written by operating systems, never data


def list_images(folder: Path, others: Collection[str] = ()) -> list[Path]:
    """Images directly in a folder, sorted by name; one warning summarises the files that are skipped.

    Args:
        folder: The folder.
        others: Suffixes of files with another reader, which the warning leaves out.

    Raises:
        ValueError: The folder is missing, it holds no image, or two images differ only in their suffix.
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
                f"{other} and {path.name} differ only in their suffix; expected different stems, which name results. "
                "Rename one."
            )
    if passed_over:
        warnings.warn(
            f"{folder}: read {len(paths)} images, skipped {passed_over}. Save images of other formats as PNG or "
            "JPEG, and move images out of sub-folders.",
            stacklevel=2,
        )
    return paths


def what_they_are(paths: Iterable[Path]) -> str:
    """The number of files of each suffix, with the first name of each; also sub-folders and dead links.

    Hidden files and files of operating systems are not counted. Empty if nothing remains.
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
    return path.suffix.lower() or "without suffix"


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.lower() not in _LEFT_BY_SYSTEMS
