"""Readers of trained heads: checkpoints and exports."""

import json
import random
from pathlib import Path
from typing import Any

import torch

import heads
from siglip2_backbone.files import file_sha256

from .mutations import bytes_damaged, content_damaged, json_damaged
from .small_heads import checkpoint_of, small_task


class Checkpoint:
    """Structure or bytes of a checkpoint."""

    name = "x.ckpt"

    def __init__(self, folder: Path) -> None:
        self.path, self.task = folder / self.name, small_task(folder)
        self.content = checkpoint_of(self.task)

    def damage(self, rng: random.Random) -> None:
        torch.save(content_damaged(rng, self.content) if rng.random() < 0.8 else self.content, self.path)
        if rng.random() < 0.2:
            self.path.write_bytes(bytes_damaged(rng, self.path.read_bytes()))

    def read(self) -> Any:
        return heads.load(self.path)


class Export:
    """The folder of an exported head."""

    name = "an-export"

    def __init__(self, folder: Path) -> None:
        self.folder = folder / self.name
        self.tower = folder / "tower"  # a local file, which no export names
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
        return heads.load(self.folder, backbone=self.tower)
