"""Where the files of a dataset are: its folder, its list files, and the expected number of images."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from .pairs import read_list


def data_root(root: str | None, expected: str = "the folder of the dataset", instead: str = "") -> Path:
    """The folder that a dataset lies in.

    Args:
        root: The folder that the user sets.
        expected: What it is, for the messages.
        instead: What may be set in its place.

    Raises:
        ValueError: It is not set, or is no folder.
    """
    if root is None:
        raise ValueError(f"data.root is not set; expected {expected}{instead and f', or {instead}'}.")
    path = Path(root).expanduser()
    if not path.is_dir():
        raise ValueError(f"No folder {path}; expected data.root to be {expected}.")
    return path


def base_folder(root: str | None, top: str, markers: Sequence[str]) -> Path:
    """The folder of a dataset: ``root``, or one of the published folders below it.

    Args:
        root: The folder that the user sets.
        top: Leading folders of the published archive.
        markers: Folders below them; one of these identifies the dataset.

    Raises:
        ValueError: ``root`` is not set or does not exist, or no folder contains a marker.
    """
    start, parts = data_root(root, f"the folder {top}"), Path(top).parts
    for first in range(len(parts), -1, -1):
        base = start.joinpath(*parts[first:])
        if any((base / marker).is_dir() for marker in markers):
            return base
    raise ValueError(f"No folder {' or '.join(markers)} in {start}; expected data.root to be the folder {top}.")


def warn_of_count(what: str, found: int, where: str, published: int) -> None:
    """Warn if the size of a split differs from the published one.

    Args:
        what: Dataset and split.
        found: Number of images found.
        where: Folder or file of the images.
        published: Published number of images.
    """
    missing = published - found
    if missing:
        rank_zero_warn(
            f"{what} has {found} images in {where}; expected {published}, {abs(missing)} are "
            f"{'missing' if missing > 0 else 'too many'}. Scores on it are not comparable with published ones."
        )


def first_folder(base: Path, names: Iterable[str]) -> Path:
    """The first of several folders that exists; the first one if none does."""
    found = [base / name for name in names]
    return next((folder for folder in found if folder.is_dir()), found[0])


def listed(path: Path, images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """The pairs of a list file, one stem per line: a JPEG and a label PNG.

    Raises:
        ValueError: The list is missing or empty, a name is not a plain file name, or a listed file is missing.
    """
    names = listed_names(path, images)
    pairs = [(images / f"{name}.jpg", masks / f"{name}.png") for name in names]
    missing = [
        file for pair in pairs for file in pair if not os.path.isfile(file)
    ]  # of any name, even one too long for a file
    if missing:
        raise ValueError(
            f"{path} names {len(names)} images, but {len(missing)} of their files are missing, first {missing[0]}. "
            "Unpack the dataset again, or remove the names from the list."
        )
    return pairs


def listed_names(path: Path, folder: Path) -> list[str]:
    """The names in a list file, one stem per line.

    Args:
        path: The list.
        folder: Folder of the named files, for messages.

    Raises:
        ValueError: The list is missing or empty, or a name is not a plain file name.
    """
    lines = read_list(path, "one image name without suffix per line")
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ValueError(f"{path} names no image; expected one name without suffix per line.")
    outside = [name for name in names if Path(name).name != name or "\\" in name]
    if outside:
        raise ValueError(
            f"{path} names {outside[0]!r}; expected names without folders, such as 2007_000033. Files outside "
            f"{folder} are not read."
        )
    return names
