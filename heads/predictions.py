"""Write what `siglip2 predict` finds: a label PNG and an overlay for each image."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from .data.images import read_image
from .files import whole_file


class PredictionWriter(Callback):
    """Writes ``labels/NAME.png`` (palette PNG of class indices, original size) and ``overlays/NAME.jpg``.

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
        task: Any = pl_module  # one with colours
        folder = Path(self.output_dir or Path(trainer.default_root_dir) / "predictions").expanduser()
        palette = np.array(list(task.colours.values()), dtype=np.uint8)
        for labels, path in zip(outputs, batch["path"], strict=True):
            write_labels(labels, palette, folder / "labels" / f"{Path(path).stem}.png")
            write_overlay(labels, palette, Path(path), folder / "overlays" / f"{Path(path).stem}.jpg", self.opacity)


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
