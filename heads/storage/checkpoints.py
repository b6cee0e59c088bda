"""Checkpoint files: written whole or not at all, and read without executing code in them."""

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from siglip2_backbone.files import whole_file
from siglip2_backbone.finite import refuse_not_finite

from ..tasks.checkpointing import CARD, NOT_FINITE

_HANDED_OVER = ".temp.ckpt"  # written by the launcher of ddp_spawn, ddp_fork and ddp_notebook when a fit ends


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes and reads the checkpoints of the command line's trainer.

    Lightning (2.6) writes to the system's temporary folder and moves the file from there. On another file system,
    moving means copying, and a run that is killed meanwhile leaves half a checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a temporary file next to ``path`` and rename it."""
        with whole_file(Path(path)) as partial:
            try:
                torch.save(checkpoint, partial)
            except RuntimeError as error:  # torch's zip writer raises it when the disk is full
                raise OSError(str(error).splitlines()[0]) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """See :func:`read_checkpoint`. A spawned process returns its weights in a file without a card.

        Raises:
            ValueError: As there, or weights are not finite.
        """
        checkpoint = read_checkpoint(Path(path), carded=Path(path).name != _HANDED_OVER)
        state = checkpoint.get("state_dict")
        if isinstance(state, Mapping):  # another content is refused where it is loaded
            refuse_not_finite(state, str(path), NOT_FINITE)
        return checkpoint


def read_checkpoint(path: Path, carded: bool = True) -> dict[str, Any]:
    """Read a checkpoint of a training run to the CPU.

    Args:
        path: The file.
        carded: Whether it must have the card of a task.

    Raises:
        ValueError: The file is missing, damaged, not of this library, or holds more than tensors and plain data.
    """
    if path.is_dir() or path.suffix == ".safetensors":
        raise ValueError(
            f"{path} is not a checkpoint of a training run; expected a .ckpt file. In Python, heads.load "
            "takes an exported head's folder."
        )
    if not path.is_file():
        raise ValueError(f"No file {path}; expected a .ckpt file of a training run.")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)  # the error says enough
            _check_archive(path)
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types here, and advises to run what is in the file
        raise ValueError(
            f"{path} is not a readable checkpoint: it is damaged or truncated, or holds code, which is never run. Pass "
            "a checkpoint that `siglip2 fit` wrote, or copy it again."
        ) from error
    if not isinstance(checkpoint, dict) or (carded and CARD not in checkpoint):
        raise ValueError(f"{path} was not written by this library: it has no card. Pass a checkpoint of `siglip2 fit`.")
    return checkpoint


def _check_archive(path: Path) -> None:
    """Compare the content with the archive's checksums, which torch (2.14) writes but does not check.

    Raises:
        zipfile.BadZipFile: A checksum differs, or the archive is not as torch writes it.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = {member.filename for member in members}
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        # a flipped bit can mark a member as a folder, for which torch leaves the tensor's memory uninitialised
        folders = any(member.is_dir() or member.external_attr & 0x10 for member in members)
        unpacked = sum(member.file_size for member in members)
        if len(names) < len(members) or packed or folders or unpacked > path.stat().st_size:
            raise zipfile.BadZipFile("a member is duplicated, compressed, a folder, or larger than the file")
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} differs from its checksum")
