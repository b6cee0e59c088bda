"""Single flipped bits of a checkpoint: each is noticed, or what is read stays the same."""

import random
import zipfile
from pathlib import Path
from typing import Any

import torch

from heads.storage.checkpoints import read_checkpoint

from .small_heads import checkpoint_of, small_task


class FlippedBits:
    """One bit of a checkpoint; half of them in the archive's directory, which has no checksum of its own."""

    name = "x.ckpt"

    def __init__(self, folder: Path) -> None:
        self.path = folder / self.name
        torch.save(checkpoint_of(small_task(folder)), self.path)
        self.whole, self.data = read_checkpoint(self.path), self.path.read_bytes()
        with zipfile.ZipFile(self.path) as archive:
            self.directory = archive.start_dir

    def damage(self, rng: random.Random) -> None:
        self.flip(rng.randrange(8 * rng.choice((0, self.directory)), 8 * len(self.data)))

    def flip(self, bit: int) -> None:
        """Write the checkpoint with one bit changed."""
        damaged = bytearray(self.data)
        damaged[bit // 8] ^= 1 << bit % 8
        self.path.write_bytes(damaged)

    def read(self) -> Any:
        found = read_checkpoint(self.path)
        assert same(self.whole, found), "a flipped bit changes what is read"
        return found


def same(a: Any, b: Any) -> bool:
    """Whether two checkpoints have the same entries, down to the bits of the tensors."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and bool(a == b)
