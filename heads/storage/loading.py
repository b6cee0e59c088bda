"""Export heads, and load them from an export, local or on the hub, or from a training checkpoint.

No code in a file is executed.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from siglip2_backbone.files import file_sha256, whole_file
from siglip2_backbone.finite import refuse_not_finite
from siglip2_backbone.hub import HUB_ID, Fetch, download
from siglip2_backbone.json_files import read_json

from ..backbones.extractor import Extractor
from ..outputs.results import finite, result_of
from ..tasks.checkpointing import CARD, NOT_FINITE
from ..tasks.depth import DepthTask
from ..tasks.detection import DetectionTask
from ..tasks.head_task import HeadTask
from ..tasks.normals import NormalsTask
from ..tasks.segmentation import SegmentationTask
from ..tasks.stored_card import check_stored
from ..training.sweep import without_sweep
from .checkpoints import read_checkpoint
from .export_page import is_unedited, with_page
from .model_card import model_card
from .rebuilding import rebuilt
from .shared_card import without_paths

TASKS: dict[str, type[HeadTask]] = {
    task.task: task for task in (SegmentationTask, DepthTask, NormalsTask, DetectionTask)
}
FILES = WEIGHTS, DESCRIPTION, PAGE = "head.safetensors", "head.json", "README.md"
_NO_ID = {".ckpt", ".safetensors", ".json", ".pt", ".pth", ".bin"}  # suffixes of a path, not of a hub id


def load(source: str | Path, backbone: str | Path | Extractor | None = None) -> Any:
    """A trained task, ready for ``predict``.

    Args:
        source: A checkpoint of a training run, a directory that ``export`` wrote, or the Hugging Face id of one that
            ``push`` uploaded (``owner/name``, or ``owner/name@revision``). An existing path takes precedence.
        backbone: Location of the backbone's weights (path, name or Hugging Face id), or an existing Extractor; by
            default the location in training. An export stores no local path: pass the location of weights that were
            local files, unless they are the published ones of that name.

    Raises:
        ValueError: The file is damaged or not of this library, the backbone's weights differ from those in training,
            or the hub cannot be reached.
    """
    args, card, state = _read(source)
    if card.get("task") not in TASKS:
        raise ValueError(f"{source} holds a head for {card.get('task')!r}; this version knows {', '.join(TASKS)}.")
    return rebuilt(TASKS[card["task"]], args, card, state, str(source), backbone).eval()


def export(checkpoint: str | Path, directory: str | Path) -> Path:
    """Write the head of a training checkpoint as ``head.safetensors``, ``head.json`` and ``README.md``.

    The description holds the task, its arguments and classes, the backbone's name and fingerprint, and the scores on
    the validation split with their protocol. Test scores are added if the run's folder has a ``results.json`` of
    exactly this checkpoint.

    Args:
        checkpoint: A checkpoint of a training run.
        directory: Folder to write to; created if missing. An earlier export is replaced if its README.md is unedited.

    Returns:
        The path of ``head.safetensors``.

    Raises:
        ValueError: The checkpoint is damaged or not of this library, or the files cannot be written; an earlier
            export then stays unchanged.
    """
    path = Path(checkpoint).expanduser()
    args, card, state = _read_checkpoint(path)
    directory = Path(directory).expanduser()
    _check_places(directory)
    with ExitStack() as files:  # each is renamed into place once all are written
        page, description, weights = (
            files.enter_context(whole_file(directory / name)) for name in (PAGE, DESCRIPTION, WEIGHTS)
        )
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, weights)
        content = without_paths(_plain(card) | _tested(path) | {"arguments": args, "sha256": file_sha256(weights)})
        content, text = with_page(content)
        description.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        page.write_text(text, encoding="utf-8")
    return directory / WEIGHTS


def _plain(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card of a checkpoint with values that JSON can hold."""
    return {"protocol": {}} | dict(card) | {"metrics": {k: finite(v) for k, v in card.get("metrics", {}).items()}}


def _tested(checkpoint: Path) -> dict[str, Any]:
    """The test scores of exactly this checkpoint, if any; only segmentation has classes."""
    result = result_of(checkpoint)
    if result is None:
        return {}
    return {"test": {key: result[key] for key in ("metrics", "classes", "protocol") if key in result}}


def _check_places(directory: Path) -> None:
    """Refuse to replace anything but an earlier, unedited export."""
    for name in (WEIGHTS, DESCRIPTION):
        if (directory / name).exists() and not (directory / name).is_file():
            raise ValueError(f"{directory / name} is not a file. Move it away, or pass another folder.")
    page = directory / PAGE
    if not page.exists():
        return
    try:
        own = is_unedited(page.read_text(encoding="utf-8"), read_json(directory / DESCRIPTION))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        own = False
    if not own:
        raise ValueError(
            f"{page} is not as `siglip2 export` wrote it, so it is not replaced. Move it away, or pass another folder."
        )


def _read(source: str | Path) -> tuple[dict[str, Any], dict[str, Any], Mapping[str, Tensor]]:
    """Arguments, card and tensors of a path or Hugging Face id."""
    path = Path(source).expanduser()
    if path.is_dir():
        return read_export(path)
    is_id = isinstance(source, str) and HUB_ID.fullmatch(source) and path.suffix not in _NO_ID
    if path.exists():
        return _read_checkpoint(path)
    if not is_id:
        raise ValueError(
            f"No file or directory {source}; expected a .ckpt file of a training run, a directory that `siglip2 "
            "export` wrote, or its Hugging Face id (owner/name)."
        )
    return read_export(download(str(source), DESCRIPTION, _fetch))


def _fetch(fetch: Fetch) -> Path:
    fetch(WEIGHTS)
    return fetch(DESCRIPTION).parent


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any], Mapping[str, Tensor]]:
    """Arguments, card and tensors of a training checkpoint; for a sweep, those of its best head."""
    checkpoint = read_checkpoint(path)
    card, arguments, state = (checkpoint.get(key) for key in (CARD, "hyper_parameters", "state_dict"))
    try:
        check_stored(card, arguments, state)
    except ValueError as error:
        raise ValueError(
            f"{path} holds a damaged head ({error}). Pass a checkpoint that `siglip2 fit` wrote, or copy it again."
        ) from error
    assert card is not None and arguments is not None and state is not None
    arguments, state = without_sweep(arguments, card, state)
    refuse_not_finite(state, str(path), NOT_FINITE)
    return arguments, card, state


def read_export(folder: Path) -> tuple[dict[str, Any], dict[str, Any], Mapping[str, Tensor]]:
    """Arguments, card and tensors of an exported head.

    Raises:
        ValueError: A file is missing or damaged, the files belong to different exports, or weights are not finite.
    """
    for name in (WEIGHTS, DESCRIPTION):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}; expected a directory that `siglip2 export` wrote.")
    try:
        card = read_json(folder / DESCRIPTION)
        if card.get("sha256") != file_sha256(folder / WEIGHTS):
            raise ValueError(f"{DESCRIPTION} belongs to another {WEIGHTS}")
        state = load_file(folder / WEIGHTS)
        check_stored(card, card.get("arguments"), state)
        model_card(card)  # raises if an entry is missing
        arguments = dict(card["arguments"])
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ValueError(f"{folder} holds a damaged head ({error}). Export or copy it again.") from error
    refuse_not_finite(state, str(folder / WEIGHTS), NOT_FINITE)
    return arguments, card, state
