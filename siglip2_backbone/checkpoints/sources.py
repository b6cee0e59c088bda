"""From a source (a path or a Hugging Face id) to the files of a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..hub import HUB_ID, Fetch, download
from ..json_files import read_json
from ..wrapped_names import unwrapped
from .npz_files import StoredArray, read_npz_header
from .tensor_files import StoredTensor, read_header

Stored = StoredTensor | StoredArray

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_GGUF = (
    "a GGUF file, whose weights are quantised for llama.cpp and not supported; expected a .safetensors file. Pass the "
    "checkpoint that it was made from."
)
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
_SCHEMES = ("hf-hub:", "local-dir:")  # accepted by timm.create_model


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint's tensors and configuration, not interpreted yet.

    Args:
        source: The source as the user gave it, for messages.
        tensors: Every tensor by name in the file, without a prefix that all names share (see ``notes``).
        config: Contents of config.json, or ``None`` for a file without one.
        notes: Warnings to give when the tensors are read.
    """

    source: str
    tensors: Mapping[str, Stored]
    config: dict[str, Any] | None
    notes: tuple[str, ...] = ()


def open_files(source: str | Path, cache_dir: str | Path | None = None) -> CheckpointFiles:
    """Find a checkpoint's files and read their headers.

    Args:
        source: A directory or safetensors file in google's or timm's format, an npz file in big_vision's, or a Hugging
            Face id such as ``google/siglip2-base-patch16-256`` (``owner/name@revision`` for a revision). An existing
            path takes precedence. timm's prefixes ``hf-hub:`` and ``local-dir:`` are accepted.
        cache_dir: Folder of huggingface_hub's cache, if not the default one.

    Raises:
        ValueError: The source is missing, its files are damaged or of another format, or the hub cannot be reached.
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
    """A source without timm's prefix; ``local-dir:`` always precedes a path, never an id.

    Raises:
        ValueError: The source is empty, which would mean the working directory.
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
    notes: tuple[str, ...] = ()
    if (folder / _WHOLE).is_file():
        tensors = read_header(folder / _WHOLE)
        if (folder / _INDEX).is_file():
            notes = (f"{folder} has {_WHOLE} and {_INDEX}. {_WHOLE} is read, as by transformers; the shards are not.",)
    elif (folder / _INDEX).is_file():
        tensors = _sharded(folder / _INDEX)
    else:
        raise ValueError(_no_weights(folder))
    return _unwrapped(CheckpointFiles(str(folder), tensors, read_json(config_path), notes))


def _sharded(index: Path) -> dict[str, StoredTensor]:
    """The tensors of all shards; if several shards hold a name, the one in the index."""
    placed = _weight_map(index)
    shards = {shard: read_header(_existing(index.parent / shard)) for shard in sorted(set(placed.values()))}
    tensors: dict[str, StoredTensor] = {}
    for shard, found in shards.items():
        for name, stored in found.items():
            if name not in placed and name in tensors:
                raise ValueError(
                    f"{index.parent} holds the tensor {name} in {tensors[name].path.name} and in {shard}, and {_INDEX} "
                    "lists neither. Download or save the checkpoint again."
                )
            if placed.get(name, shard) == shard:
                tensors[name] = stored
    if absent := sorted(placed.keys() - tensors.keys()):
        raise ValueError(
            f"{index} lists the tensor {absent[0]} in {placed[absent[0]]}, which does not hold it. Download "
            "or save the checkpoint again."
        )
    return tensors


def _no_weights(folder: Path) -> str:
    if quantised := sorted(p.name for p in folder.iterdir() if p.suffix == ".gguf"):
        return f"{folder} has no {_WHOLE}, but {quantised[0]}: {_GGUF}"
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
    found = f" (found {', '.join(pickles)}: pickles are not read)" if pickles else ""
    return (
        f"{folder} has neither {_WHOLE} nor {_INDEX}{found}. Save the model again with "
        "save_pretrained(folder), which writes safetensors."
    )


def _open_file(path: Path) -> CheckpointFiles:
    if path.suffix == ".npz":
        return CheckpointFiles(str(path), read_npz_header(path), None)
    if path.suffix == ".gguf":
        raise ValueError(f"{path} is {_GGUF}")
    if path.suffix != ".safetensors":
        reason = (
            "a pickle can run code when it is loaded" if path.suffix in _PICKLES else "this format is not supported"
        )
        raise ValueError(
            f"{path} is not read, because {reason}; expected a .safetensors file, or an .npz file of big_vision. "
            "Convert it with transformers' save_pretrained, or pass the checkpoint's directory."
        )
    beside = path.parent / "config.json"
    config = read_json(beside) if beside.is_file() else None
    return _unwrapped(CheckpointFiles(str(path), read_header(path), config))


def _unwrapped(files: CheckpointFiles) -> CheckpointFiles:
    """The checkpoint with the tower's own names, if it was saved inside another module."""
    tensors, wrapper = unwrapped(files.tensors)
    if not wrapper:
        return files
    note = f"{files.source}: the names of all {len(tensors)} tensors begin with {wrapper!r}; this prefix is ignored."
    return replace(files, tensors=tensors, notes=(*files.notes, note))


def _weight_map(index: Path) -> dict[str, str]:
    """The shard of each tensor, a plain file name: an index must not point outside its folder."""
    weight_map = read_json(index, unique=True).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} has no weight_map; expected tensor names with the shard of each.")
    for name in weight_map.values():
        plain = isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors") and "\0" not in name
        if not plain:
            raise ValueError(
                f"{index} names the shard {str(name)!r}; expected the plain name of a .safetensors file beside it."
            )
    return weight_map


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path} is missing, though {_INDEX} names it. Download or copy the shard again.")
    return path


def _download(hub_id: str, cache_dir: str | Path | None) -> CheckpointFiles:
    folder = download(hub_id, "config.json", _fetch_all, cache_dir)
    try:
        return replace(_open_directory(folder), source=hub_id)
    except ValueError as error:  # damaged after the download: huggingface_hub does not check again
        raise ValueError(
            f"{hub_id} is damaged in huggingface_hub's cache: {error} To fetch it again, delete the folder "
            f"{folder.parent.parent} first."
        ) from error


def _fetch_all(fetch: Fetch) -> Path:
    """Fetch config and weights; return their folder."""
    from huggingface_hub.errors import EntryNotFoundError

    folder = fetch("config.json").parent
    try:
        fetch(_WHOLE)
    except EntryNotFoundError:  # sharded; offline the same error means that it is not in the cache
        for shard in sorted(set(_weight_map(fetch(_INDEX)).values())):
            fetch(shard)
    return folder
