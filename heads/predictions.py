"""Write what `siglip2 predict` finds: the files that the task makes of each image."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from .data.images import read_image
from .files import whole_file


class PredictionWriter(Callback):
    """Writes what a task found in each image at its original size, in folders by kind.

    Segmentation: ``labels/NAME.png`` (palette PNG of class indices) and ``overlays/NAME.jpg``; depth and normals: see
    :mod:`heads.pixel_files`.

    Args:
        output_dir: Folder to write to; ``predictions`` below the trainer's default_root_dir if not given.
        opacity: Weight of the class colours in the overlay, from 0 to 1.

    Raises:
        ValueError: ``opacity`` is not in [0, 1].
    """

    def __init__(self, output_dir: str | None = None, opacity: float = 0.5) -> None:
        if not 0 <= opacity <= 1:
            raise ValueError(f"opacity is {opacity}; expected 0 to 1.")
        self.output_dir = output_dir
        self.opacity = opacity

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the batch."""
        task: Any = pl_module  # one that writes
        folder = Path(self.output_dir or Path(trainer.default_root_dir) / "predictions").expanduser()
        for found, path in zip(outputs, batch["path"], strict=True):
            task.write(found, Path(path), folder, self.opacity)


def write_labels(labels: Tensor, palette: np.ndarray, path: Path) -> None:
    """Class indices ``(H, W)`` as a palette PNG."""
    image = Image.fromarray(labels.cpu().numpy().astype(np.uint8))
    image.putpalette(palette.flatten().tolist())
    with whole_file(path) as partial:
        image.save(partial)


def write_overlay(labels: Tensor, palette: np.ndarray, image_path: Path, path: Path, opacity: float) -> None:
    """The photograph with its classes' colours laid over it."""
    photograph = Image.fromarray(read_image(image_path).permute(1, 2, 0).numpy())
    colours = Image.fromarray(palette[labels.cpu().numpy()])
    with whole_file(path) as partial:
        Image.blend(photograph, colours, opacity).save(partial, quality=90)
