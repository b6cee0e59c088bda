"""Write the predictions of `siglip2 predict` in the files that the task defines."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from .options import Drawing


class PredictionWriter(Callback):
    """Writes the predictions for each image at its original size, in folders by kind.

    Segmentation: ``labels/NAME.png`` (palette PNG of class indices), ``overlays/NAME.jpg``, and optionally
    ``scores/NAME.npy`` (class probabilities); depth and normals: see :mod:`heads.outputs.depth_normals`; detection:
    ``detections.json`` and ``drawings/NAME.jpg``.

    Args:
        output_dir: Folder to write to; ``predictions`` below the trainer's default_root_dir if not given.
        opacity: Weight of the class colours over the photograph, from 0 to 1.
        threshold: Lowest score of a box that is drawn; ``detections.json`` has all boxes.
        scores: Also write the class probabilities of every pixel, float16 ``(C, H, W)``: 2 bytes per class and pixel.

    Raises:
        ValueError: ``opacity`` or ``threshold`` is not in [0, 1], or the task has no scores to write.
    """

    def __init__(
        self, output_dir: str | None = None, opacity: float = 0.5, threshold: float = 0.5, scores: bool = False
    ) -> None:
        self.output_dir = output_dir
        self.drawing = Drawing(opacity, threshold)
        self.scores = scores

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a task that scores no classes, before the first image."""
        if self.scores and not hasattr(pl_module, "write_class_probabilities"):
            raise ValueError(
                f"predictions.scores is true, but {type(pl_module).__name__} has no class scores. Leave it out."
            )

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
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # a smoke run leaves nothing
            return
        folder = self._folder(trainer)
        for prediction, geometry, name in zip(outputs, batch["geometry"], batch["path"], strict=True):
            photo = Path(name)
            task.write(prediction.answer, photo, folder, self.drawing)
            if self.scores:
                task.write_class_probabilities(prediction, geometry, photo, folder)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files for all images together, and print their folder."""
        task: Any = pl_module
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        task.write_together(self._folder(trainer))
        if trainer.is_global_zero:
            print(f"Predictions written to {self._folder(trainer)}")

    def _folder(self, trainer: Trainer) -> Path:
        return Path(self.output_dir or Path(trainer.default_root_dir) / "predictions").expanduser()
