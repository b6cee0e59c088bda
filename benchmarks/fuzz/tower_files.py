"""Readers of a tower's files: safetensors, npz, config.json and index."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from siglip2_backbone import create_backbone
from siglip2_backbone.checkpoints.npz_files import read_npz_header, read_slices
from siglip2_backbone.checkpoints.tensor_files import DTYPES, read_header

from .mutations import bytes_damaged, json_damaged
from .small_heads import write_tower


class Safetensors:
    """Header of a safetensors file."""

    name = "x.safetensors"

    def __init__(self, folder: Path) -> None:
        self.path = folder / self.name
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

    name = "x.npz"

    def __init__(self, folder: Path) -> None:
        self.path = folder / self.name
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

    name = "two-shards"

    def __init__(self, folder: Path) -> None:
        self.folder = write_tower(folder / self.name)
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
