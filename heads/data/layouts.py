"""Where a data set's files are: its folder, its lists, and how many there should be."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from .pairs import read_list


def base_folder(root: str | None, top: str, markers: Sequence[str]) -> Path:
    """The folder of a data set: ``root``, or one of the published folders below it.

    Args:
        root: What the user names.
        top: The folders that the published archive begins with.
        markers: Folders below them; by one of these they are known.

    Raises:
        ValueError: ``root`` is not set, or no folder has a marker in it.
    """
    if root is None:
        raise ValueError(f"data.root is not set; expected the folder {top}.")
    start, parts = Path(root).expanduser(), Path(top).parts
    for first in range(len(parts), -1, -1):
        base = start.joinpath(*parts[first:])
        if any((base / marker).is_dir() for marker in markers):
            return base
    raise ValueError(f"No folder {' or '.join(markers)} in {start}; expected data.root to be the folder {top}.")


def warn_of_count(what: str, found: int, where: str, published: int) -> None:
    """Warn where a split is not as large as published.

    Args:
        what: Data set and split.
        found: Images that there are.
        where: Folder or file that has them.
        published: Images that there should be.
    """
    missing = published - found
    if missing:
        rank_zero_warn(
            f"{what} has {found} images in {where}, published are {published}: {abs(missing)} are "
            f"{'missing' if missing > 0 else 'too many'}. Scores on it are not comparable with published ones."
        )


def first_folder(base: Path, names: Iterable[str]) -> Path:
    """The first of some folders that is there; the first name where none is."""
    found = [base / name for name in names]
    return next((folder for folder in found if folder.is_dir()), found[0])


def listed(path: Path, images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """The pairs that a list file names, one stem a line: a JPEG and a label PNG.

    Raises:
        ValueError: The list is missing or empty, a name is no plain file name, or a file that it names is missing.
    """
    names = listed_names(path, images)
    pairs = [(images / f"{name}.jpg", masks / f"{name}.png") for name in names]
    missing = [file for pair in pairs for file in pair if not file.is_file()]
    if missing:
        raise ValueError(
            f"{path} names {len(names)} images, and {len(missing)} files of them are missing, first {missing[0]}. "
            "Unpack the data set again, or take the names out of the list."
        )
    return pairs


def listed_names(path: Path, folder: Path) -> list[str]:
    """The names that a list file holds, one stem a line.

    Args:
        path: The list.
        folder: Where the files of these names are, for messages.

    Raises:
        ValueError: The list is missing or empty, or a name is no plain file name.
    """
    lines = read_list(path, "one name of an image without suffix on each line")
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ValueError(f"{path} names no image; expected one name without suffix a line.")
    outside = [name for name in names if Path(name).name != name or "\\" in name]
    if outside:
        raise ValueError(
            f"{path} names {outside[0]!r}; expected names without folders, as in 2007_000033: nothing outside "
            f"{folder} is read."
        )
    return names


def data_root(root: str | None) -> Path:
    """The folder of a data set.

    Raises:
        ValueError: None is named, or it is not there.
    """
    if root is None:
        raise ValueError("data.root is not set; expected the folder of the data set.")
    path = Path(root).expanduser()
    if not path.is_dir():
        raise ValueError(f"No folder {path}; expected the folder of the data set (data.root).")
    return path


def check_count(what: str, found: int, published: int) -> None:
    """Warn if a split is not as large as the one that published figures were measured on."""
    if found != published:
        warnings.warn(
            f"{what} has {found} images, the published split {published}: figures cannot be compared.", stacklevel=2
        )
