"""From what a user types (a path or a Hugging Face id) to the files of a checkpoint."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .hub import HUB_ID, Fetch, download
from .npz_files import StoredArray, read_npz_header
from .tensor_files import StoredTensor, read_header

Stored = StoredTensor | StoredArray

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
_SCHEMES = ("hf-hub:", "local-dir:")  # as timm.create_model takes them


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint's tensors and configuration, nothing interpreted yet.

    Args:
        source: What the user named, for messages.
        tensors: Every tensor by the file's own name.
        config: Contents of config.json, or ``None`` where a file came alone.
    """

    source: str
    tensors: Mapping[str, Stored]
    config: dict[str, Any] | None


def open_checkpoint(source: str | Path, cache_dir: str | Path | None = None) -> CheckpointFiles:
    """Find a checkpoint's files and read their headers.

    Args:
        source: A directory or safetensors file in google's or timm's format, an npz file of big_vision's, or a Hugging
            Face id such as ``google/siglip2-base-patch16-256`` (``owner/name@revision`` for a revision). A path that
            exists wins. timm's prefixes ``hf-hub:`` and ``local-dir:`` may stand before it.
        cache_dir: Folder of huggingface_hub's cache, where not the usual one.

    Raises:
        ValueError: Nothing is there, the files are damaged or of another format, or the hub cannot be reached.
    """
    source = without_scheme(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return _open_directory(path)
    if path.is_file():
        return _open_file(path)
    is_id = isinstance(source, str) and HUB_ID.fullmatch(source)
    if not is_id or path.suffix in {".safetensors", ".npz", *_PICKLES}:
        raise ValueError(
            f"No file or directory {source}; expected a checkpoint directory (config.json and {_WHOLE}), a "
            ".safetensors file, an .npz file, or a Hugging Face id such as google/siglip2-base-patch16-256."
        )
    return _download(str(source), cache_dir)


def without_scheme(source: str | Path) -> str | Path:
    """A source without timm's ``hf-hub:``; after ``local-dir:`` stands a path, and never an id.

    Raises:
        ValueError: Nothing is named, which would be read as the working directory.
    """
    if source in ("", *_SCHEMES):
        raise ValueError(f"The source is {source!r}; expected a path, a model name or a Hugging Face id.")
    if not isinstance(source, str) or not source.startswith(_SCHEMES):
        return source
    scheme, _, rest = source.partition(":")
    return rest if scheme == "hf-hub" else Path(rest)


def _open_directory(folder: Path) -> CheckpointFiles:
    config_path = folder / "config.json"
    if not config_path.is_file():
        arrays = sorted(folder.glob("*.npz"))
        remedy = f"Pass {arrays[0]} itself" if arrays else "Copy config.json from the checkpoint's page on the hub"
        raise ValueError(
            f"{folder} has no config.json; expected a checkpoint directory with config.json and {_WHOLE}, as "
            f"transformers' save_pretrained writes it. {remedy}."
        )
    if (folder / _WHOLE).is_file():
        tensors = read_header(folder / _WHOLE)
    elif (folder / _INDEX).is_file():
        shards = _shards(folder / _INDEX)
        tensors = {k: v for shard in shards for k, v in read_header(_existing(folder / shard)).items()}
    else:
        raise ValueError(_no_weights(folder))
    return CheckpointFiles(str(folder), tensors, _read_json(config_path))


def _no_weights(folder: Path) -> str:
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
    found = f" (found {', '.join(pickles)}: pickles are not read)" if pickles else ""
    return (
        f"{folder} has neither {_WHOLE} nor {_INDEX}{found}. Save the model again with "
        "save_pretrained(folder), which writes safetensors."
    )


def _open_file(path: Path) -> CheckpointFiles:
    if path.suffix == ".npz":
        return CheckpointFiles(str(path), read_npz_header(path), None)
    if path.suffix != ".safetensors":
        reason = "a pickle can run code when it is loaded" if path.suffix in _PICKLES else "this format is not known"
        raise ValueError(
            f"{path} is not read, because {reason}; expected a .safetensors file, or an .npz file of big_vision. "
            "Convert it with transformers' save_pretrained, or pass the checkpoint's directory."
        )
    beside = path.parent / "config.json"
    return CheckpointFiles(str(path), read_header(path), _read_json(beside) if beside.is_file() else None)


def _shards(index: Path) -> list[str]:
    """Names of the shards, each a plain file name: an index must not lead out of its folder."""
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} has no weight_map; expected tensor names with the shard each lies in.")
    shards = sorted({str(name) for name in weight_map.values()})
    for name in shards:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(
                f"{index} names the shard {name!r}; expected the plain name of a .safetensors file beside it."
            )
    return shards


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path} is missing, though {_INDEX} names it. Download or copy the shard again.")
    return path


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON ({error}). Download or copy it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a JSON object.")
    return content


def _download(hub_id: str, cache_dir: str | Path | None) -> CheckpointFiles:
    folder = download(hub_id, "config.json", _fetch_all, cache_dir)
    try:
        return replace(_open_directory(folder), source=hub_id)
    except ValueError as error:  # whole when it arrived, and damaged since: huggingface_hub does not look again
        raise ValueError(
            f"{hub_id} is damaged in huggingface_hub's cache: {error} To fetch it again, delete the folder "
            f"{folder.parent.parent} first."
        ) from error


def _fetch_all(fetch: Fetch) -> Path:
    """Fetch config and weights whole; the folder that they lie in."""
    from huggingface_hub.errors import EntryNotFoundError

    folder = fetch("config.json").parent
    try:
        fetch(_WHOLE)
    except EntryNotFoundError:  # sharded; offline the same error says that it is not in the cache
        for shard in _shards(fetch(_INDEX)):
            fetch(shard)
    return folder
