"""Fuzz the readers with damaged small files: each reader must read the content or raise a ValueError.

No reader may raise another error, take more than 1 GB or 10 s, or accept a file that the format's own library
(safetensors, numpy) refuses. Each reader runs in its own process with bounded memory. Exits with status 1 on a failure.

    python benchmarks/fuzz_readers.py [--count N] [--seed N] [READER ...]
"""

import argparse
import contextlib
import copy
import json
import multiprocessing
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import heads
from siglip2_backbone import create_backbone
from siglip2_backbone.checkpoints.npz_files import read_npz_header, read_slices
from siglip2_backbone.checkpoints.tensor_files import DTYPES, read_header
from siglip2_backbone.conversion import to_transformers, transformers_configs
from siglip2_backbone.files import file_sha256
from siglip2_backbone.variants import Variant

_SECONDS, _BYTES = 10, 10**9
_SMALL = Variant("siglip2_custom", 24, 2, 3, 48, patch_size=4, img_size=16)
_ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 3.5, 1e30, -1e30, 10**12, 10**30, float("nan"), float("inf"), "", "x", "x" * 5000),
    *([], {}, [1], [[]], {"a": 1}, [None, 1], [10**9] * 4, {"": {"": []}}),
]


# Mutations.


def bytes_damaged(rng: random.Random, data: bytes) -> bytes:
    """Flip a bit, truncate, or insert, delete or overwrite bytes."""
    found, way = bytearray(data), rng.randrange(6)
    at, length = rng.randrange(len(data)), rng.choice((1, 2, 8, 100))
    if way <= 1:
        found[at] ^= 1 << rng.randrange(8)
    elif way == 2:
        del found[at:]
    elif way == 3:
        found[at:at] = rng.randbytes(length)
    elif way == 4:
        del found[at : at + length]
    else:
        start = rng.randrange(len(data))
        found[at : at + length] = data[start : start + length]
    return bytes(found)


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Path of every value in nested lists and objects."""
    if path:
        yield path
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places(content[key], (*path, key))


def content_damaged(rng: random.Random, content: Any) -> Any:
    """Remove, replace, rescale, nest or rename values."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not (known := list(places(content))):
            return content
        *parents, key = rng.choice(known)
        holder = content
        for parent in parents:
            holder = holder[parent]
        way = rng.randrange(6)
        if way == 0:
            del holder[key]
        elif way == 1:
            holder[key] = [holder[key]] if rng.random() < 0.5 else {"a": holder[key]}
        elif way == 2 and isinstance(holder, dict):
            holder[rng.choice(("surprise", f"{key}x", "", "__metadata__"))] = holder.pop(key)
        elif way == 3 and type(holder[key]) in (int, float):
            holder[key] = rng.choice((holder[key] + 1, -holder[key], holder[key] * 1000, float(holder[key])))
        else:
            holder[key] = copy.deepcopy(rng.choice(_ODD))
    return content


def json_damaged(rng: random.Random, content: Any) -> bytes:
    """JSON of damaged content, damaged JSON, deeply nested JSON, or JSON with a duplicate key."""
    if rng.random() < 0.1:
        return bytes_damaged(rng, json.dumps(content).encode())
    text = json.dumps(content_damaged(rng, content))
    if rng.random() < 0.1:
        deep = rng.choice((100, 1000, 100_000))
        text = text.replace(":", ":" + "[" * deep + "]" * deep + ',"again":', 1)
    if rng.random() < 0.1:
        key = text.partition('"')[2].partition('"')[0]
        text = text.replace("{", '{"' + key + '": 0,', 1)
    return text.encode()


# Readers: each writes its file, damages it and reads it; ``library`` reads it with the format's own library.


class Safetensors:
    """Header of a safetensors file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "x.safetensors"
        tensors = {"a": torch.arange(12.0).view(3, 4), "b": torch.ones(5).half(), "c": torch.arange(3)}
        save_file(tensors, self.path, metadata={"format": "pt"})
        self.data = self.path.read_bytes()

    def damage(self, rng: random.Random) -> None:
        length = int.from_bytes(self.data[:8], "little")
        if rng.random() < 0.4:
            self.path.write_bytes(bytes_damaged(rng, self.data))
            return
        header = json_damaged(rng, json.loads(self.data[8 : 8 + length]))
        self.path.write_bytes(len(header).to_bytes(8, "little") + header + self.data[8 + length :])

    def read(self) -> Any:
        return {name: stored.shape for name, stored in read_header(self.path).items()}

    def library(self) -> Any:
        with safe_open(self.path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}


class Npz:
    """Members and values of an npz file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "x.npz"
        np.savez(self.path, a=np.arange(12, dtype=np.float32).reshape(3, 4), **{"b/c": np.ones(5)})
        stored = self.path.read_bytes()
        np.savez_compressed(self.path, a=np.arange(12, dtype=np.float32).reshape(3, 4))
        self.data = [stored, self.path.read_bytes()]

    def damage(self, rng: random.Random) -> None:
        self.path.write_bytes(bytes_damaged(rng, rng.choice(self.data)))

    def read(self) -> Any:
        header = read_npz_header(self.path)
        return {n: next(read_slices(s, False)).tolist() for n, s in header.items() if s.dtype in DTYPES}

    def library(self) -> Any:
        with np.load(self.path) as file:
            found = {name: file[name] for name in file.files if isinstance(file[name], np.ndarray)}
            return {name: value.tolist() for name, value in found.items() if value.dtype.kind == "f"}


class Config:
    """config.json and the index of a tower in two shards."""

    def __init__(self, folder: Path) -> None:
        self.folder = write_tower(folder / "tower")
        tensors = load_file(self.folder / "model.safetensors")
        (self.folder / "model.safetensors").unlink()
        names = sorted(tensors)
        self.index: dict[str, Any] = {"weight_map": {}}
        for i in range(2):
            save_file({name: tensors[name] for name in names[i::2]}, self.folder / f"{i}.safetensors")
            self.index["weight_map"] |= {name: f"{i}.safetensors" for name in names[i::2]}
        self.config = json.loads((self.folder / "config.json").read_text())
        self.timm = {"architecture": "vit_base_patch16_siglip_256", "model_args": {"embed_dim": 24, "mlp_ratio": 2.0}}

    def damage(self, rng: random.Random) -> None:
        config, index = json.dumps(self.config).encode(), json.dumps(self.index).encode()
        which = rng.random()
        if which < 0.5:
            config = json_damaged(rng, self.config)
        elif which < 0.7:
            config = json_damaged(rng, self.timm)
        else:
            index = json_damaged(rng, self.index)
        (self.folder / "config.json").write_bytes(config)
        (self.folder / "model.safetensors.index.json").write_bytes(index)

    def read(self) -> Any:
        return create_backbone(self.folder)


class Checkpoint:
    """Structure or bytes of a checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.path, self.task = folder / "x.ckpt", small_task(folder)
        self.content = checkpoint_of(self.task)

    def damage(self, rng: random.Random) -> None:
        torch.save(content_damaged(rng, self.content) if rng.random() < 0.8 else self.content, self.path)
        if rng.random() < 0.2:
            self.path.write_bytes(bytes_damaged(rng, self.path.read_bytes()))

    def read(self) -> Any:
        return heads.load(self.path)


class Export:
    """The folder of an exported head."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "head"
        torch.save(checkpoint_of(small_task(folder)), folder / "x.ckpt")
        heads.export(folder / "x.ckpt", self.folder)
        self.weights = (self.folder / "head.safetensors").read_bytes()
        self.card = json.loads((self.folder / "head.json").read_text())

    def damage(self, rng: random.Random) -> None:
        weights, card = self.weights, json.dumps(self.card).encode()
        if rng.random() < 0.8:
            card = json_damaged(rng, self.card)
        else:
            weights = bytes_damaged(rng, weights)
        (self.folder / "head.safetensors").write_bytes(weights)
        if rng.random() < 0.5:  # a deliberate change updates the hash as well
            card = card.replace(self.card["sha256"].encode(), file_sha256(self.folder / "head.safetensors").encode())
        (self.folder / "head.json").write_bytes(card)

    def read(self) -> Any:
        return heads.load(self.folder)


class Yaml:
    """A config of the command line, which is parsed and printed; no model is built."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "x.yaml"
        self.text = (Path(__file__).parent.parent / "configs/segmentation/folder_linear.yaml").read_text()

    def damage(self, rng: random.Random) -> None:
        lines = self.text.splitlines(keepends=True)
        if rng.random() < 0.5:
            at = rng.randrange(len(lines))
            value = rng.choice(
                ("[", "{a: 1", "&a [*a]", "!!python/name:os.system", "1e30", ".nan", "'", "[" * 2000, "-")
            )
            lines[at] = f"{lines[at].partition(':')[0]}: {value}\n"
            self.path.write_text("".join(lines))
        else:
            self.path.write_bytes(bytes_damaged(rng, self.text.encode()))

    def read(self) -> Any:
        from heads.runs.trainer import run

        with contextlib.suppress(SystemExit):
            run("fit", ["--config", str(self.path), "--print_config"])


READERS: dict[str, Callable[[Path], Any]] = {
    "safetensors": Safetensors,
    "npz": Npz,
    "config": Config,
    "checkpoint": Checkpoint,
    "export": Export,
    "yaml": Yaml,
}


def write_tower(folder: Path) -> Path:
    """A tower of two blocks as transformers saves it."""
    from siglip2_backbone import Siglip2VisionTransformer

    torch.manual_seed(0)
    sizes = ("patch_size", "embed_dim", "depth", "num_heads", "mlp_dim")
    tower = Siglip2VisionTransformer(native_size=_SMALL.img_size, **{name: getattr(_SMALL, name) for name in sizes})
    folder.mkdir()
    state = to_transformers(tower.state_dict(), _SMALL)
    save_file({f"vision_model.{name}": t.contiguous() for name, t in state.items()}, folder / "model.safetensors")
    for name, content in transformers_configs(_SMALL, torch.float32).items():
        (folder / name).write_text(json.dumps(content))
    return folder


def small_task(folder: Path) -> heads.SegmentationTask:
    """A segmentation head on the tower of :func:`write_tower`."""
    return heads.SegmentationTask(str(write_tower(folder / "tower")), ["sky", "road"], (16, 16))


def checkpoint_of(task: heads.SegmentationTask) -> dict[str, Any]:
    """The checkpoint that a run writes of the task, without the trainer's state."""
    content: dict[str, Any] = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams), "epoch": 1}
    content |= {"pytorch-lightning_version": "2.6.6", "global_step": 3}
    content["siglip2_head"] = task.card() | {"metrics": {"val/mIoU": 0.5}, "protocol": task.protocol()}
    content["state_dict"] = dict(task.kept_state())
    return content


# Checks.


def fuzz(reader: str, folder: Path, count: int, seed: int) -> tuple[dict[str, int], list[str]]:
    """Numbers of read and refused inputs, and the failures."""
    fuzzed = READERS[reader](folder)
    counts, wrong = {"read": 0, "refused": 0}, []
    for number in range(count):
        fuzzed.damage(random.Random(f"{reader} {seed} {number}"))
        begin = time.perf_counter()
        try:
            found = _read(fuzzed)
        except ValueError:
            counts["refused"] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            wrong.append(f"{reader} {number}: {type(error).__name__}: {str(error)[:200]}")
        else:
            counts["read"] += 1
            wrong += [f"{reader} {number}: {what}" for what in _contradictions(fuzzed, found)]
        if (seconds := time.perf_counter() - begin) > _SECONDS:
            wrong.append(f"{reader} {number}: {seconds:.1f} s")
    return counts, wrong


def _read(fuzzed: Any) -> Any:
    with warnings.catch_warnings(), open("/dev/null", "w") as nowhere, contextlib.redirect_stdout(nowhere):
        warnings.simplefilter("ignore")
        return fuzzed.read()


def _contradictions(fuzzed: Any, found: Any) -> Iterator[str]:
    """Disagreements with the format's own library."""
    if not hasattr(fuzzed, "library"):
        return
    try:
        theirs = fuzzed.library()
    except Exception as error:
        yield f"read, but refused by its library ({type(error).__name__}: {str(error)[:200]})"
        return
    if not _same(theirs, found):
        yield "read differently by its library"


def _same(theirs: Any, ours: Any) -> bool:
    return repr(theirs) == repr(ours) or sorted(map(repr, theirs.items())) == sorted(map(repr, ours.items()))


def _in_a_process(reader: str, count: int, seed: int, results: Any) -> None:
    """Fuzz one reader with bounds on the added memory and on the time of one input."""
    status = Path("/proc/self/statm").read_text().split()
    resource.setrlimit(
        resource.RLIMIT_AS, (int(status[0]) * resource.getpagesize() + 4 * _BYTES, resource.RLIM_INFINITY)
    )
    folder = Path(tempfile.mkdtemp())
    try:
        counts, wrong = fuzz(reader, folder, 1, seed)  # warm-up: imports and setup do not count
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        shutil.rmtree(folder)
        folder.mkdir()
        counts, wrong = fuzz(reader, folder, count, seed)
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        results.put((counts, wrong + [f"{reader}: {grown / 1e6:.0f} MB"] * (grown > _BYTES), grown))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Fuzz the named readers, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", help=", ".join(READERS))
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    failed = False
    print("| reader | inputs | refused | read | peak growth [MB] | seconds |\n|---|---|---|---|---|---|")
    for reader in args.readers or READERS:
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        begin = time.perf_counter()
        process = context.Process(target=_in_a_process, args=(reader, args.count, args.seed, results))
        process.start()
        process.join(_SECONDS * args.count)
        if process.is_alive() or results.empty():
            process.kill()
            counts, wrong, grown = {"refused": 0, "read": 0}, [f"{reader}: no answer, exit {process.exitcode}"], 0
        else:
            counts, wrong, grown = results.get()
        row = (reader, args.count, counts["refused"], counts["read"], round(grown / 1e6), time.perf_counter() - begin)
        print("| {} | {} | {} | {} | {} | {:.0f} |".format(*row), flush=True)
        for line in wrong:
            print(f"WRONG {line}", file=sys.stderr)
        failed |= bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
