"""What tasks share whose answer is a map over the image: predicting, files, and the average with the mirror image."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .base import DenseTask
from .data.geometry import Geometry
from .data.image_folder import resized
from .data.images import read_image, to_rgb, upright
from .data.module import collate
from .data.transforms import Size
from .extractor import Extractor


class MapTask(DenseTask):
    """A task that answers with a map over the image.

    Subclasses define ``labels`` and ``write`` besides what :class:`DenseTask` asks for.

    Args:
        backbone: As in :class:`DenseTask`.
        build_head: Makes the head for an extractor; it tells its ``reduction``.
        own: The subclass's arguments, as plain data, without ``img_size``.
        img_size: Height and width [px] that images are resized to.
        shared: What all tasks share, see :class:`DenseTask`.
    """

    def __init__(
        self,
        backbone: str | Extractor,
        build_head: Callable[[Extractor], nn.Module],
        own: Mapping[str, Any],
        img_size: tuple[int, int],
        **shared: Any,
    ) -> None:
        self.img_size = (img_size[0], img_size[1])
        super().__init__(backbone, build_head, {**own, "img_size": self.img_size}, **shared)

    @property
    def reduction(self) -> float:
        """Pixels per cell of the head's output."""
        return self.decoders[0].reduction  # type: ignore[return-value]

    def protocol(self) -> dict[str, Any]:
        """The base protocol with the size of the images and the decoder."""
        return super().protocol() | {"img_size": list(self.img_size), "decoder": self.hparams["decoder"]}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also refuse a head of another decoder, before its tensors are looked at.

        Raises:
            ValueError: The decoder or its arguments are others.
        """
        super().on_load_checkpoint(checkpoint)
        theirs, ours = (
            {"decoder": h["decoder"], "decoder_args": h["decoder_args"] or {}}
            for h in (checkpoint["hyper_parameters"], self.hparams)
        )
        if theirs != ours:
            raise ValueError(f"The checkpoint was trained with {theirs}; this task has {ours}. Pass those of training.")

    def labels(self, output: Any, batch: dict[str, Any]) -> list[Tensor]:
        """What a head's output on a batch says, at the original sizes."""
        raise NotImplementedError

    def write(self, found: Tensor, photo: Path, folder: Path, opacity: float) -> None:
        """Write what was found in a photograph below a folder; ``opacity`` is for what is laid over the photograph."""
        raise NotImplementedError

    def answer(self, batch: dict[str, Any]) -> list[Tensor]:
        """What the task finds in a batch, at the original sizes."""
        (output,) = self.outputs(batch, [self.best_head], "predict")
        return self.labels(output, batch)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[Tensor]:
        """:meth:`answer`, for the trainer."""
        return self.answer(batch)

    def test_size(self) -> Size | int:
        """What ``predict`` resizes an image to: height and width, or the short side, its shape kept [px]."""
        return self.img_size

    @torch.no_grad()
    def predict(
        self, image: str | Path | Image.Image | np.ndarray | Tensor, size: tuple[int, int] | int | None = None
    ) -> Tensor:
        """What the task finds in one image, at its own size.

        Args:
            image: A path, a PIL image, an array ``(H, W, 3)`` uint8, or a tensor ``(3, H, W)`` uint8.
            size: What it is resized to: height and width, or the short side, its shape kept [px]. By default img_size,
                and with sliding windows the short side of img_size.

        Returns:
            On the CPU: classes int64 ``(H, W)``, depth float32 ``(H, W)`` [m], or normals float32 ``(3, H, W)``.

        Raises:
            ValueError: The image cannot be read or is none of these.
        """
        batch = collate([resized(Path("image"), _rgb(image), self.test_size() if size is None else size)])
        training = self.training
        self.eval()
        found = self.answer(batch | {"image": batch["image"].to(self.device)})[0].cpu()
        self.train(training)
        return found


class PixelTask(MapTask):
    """A task that answers with numbers for each pixel, measured at the labels' own sizes.

    Subclasses define ``pixels`` and ``finished``, and where mirroring is more than a flip, ``mirrored``.

    Args:
        backbone: As in :class:`DenseTask`.
        build_head: As in :class:`MapTask`.
        own: The subclass's arguments, as plain data, without those that follow.
        img_size: Height and width [px] that images are resized to.
        flip_test: In tests and predictions, average with what is found in the mirror image.
        shared: What all tasks share, see :class:`DenseTask`.
    """

    label: ClassVar[str]  # key of the batch

    def __init__(
        self,
        backbone: str | Extractor,
        build_head: Callable[[Extractor], nn.Module],
        own: Mapping[str, Any],
        img_size: tuple[int, int],
        flip_test: bool,
        **shared: Any,
    ) -> None:
        self.flip_test = flip_test
        super().__init__(backbone, build_head, {**own, "flip_test": flip_test}, img_size, **shared)

    def pixels(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """A head's output at the pixels of images of this height and width, ``(B, C, H, W)``."""
        raise NotImplementedError

    def finished(self, pixels: Tensor) -> Tensor:
        """An image's pixels ``(C, H, W)`` after averaging or resizing, as the task's answer."""
        raise NotImplementedError

    def mirrored(self, pixels: Tensor) -> Tensor:
        """What was found in a mirror image, for the image itself."""
        return pixels.flip(-1)

    def labels(self, output: Tensor, batch: dict[str, Any]) -> list[Tensor]:
        """What a head's output on a batch says, at the original sizes."""
        return self._at_original(self.pixels(output, _size(batch)), batch)

    def answer(self, batch: dict[str, Any]) -> list[Tensor]:
        """The same, averaged with the mirror image where that is asked for."""
        if not self.flip_test:
            return super().answer(batch)
        image, size = batch["image"], _size(batch)
        # at the pixels: where cells reach beyond the image, those of the mirror image lie elsewhere
        found = self.pixels(self(image), size) + self.mirrored(self.pixels(self(image.flip(-1)), size))
        return self._at_original(found / 2, batch)

    def _at_original(self, pixels: Tensor, batch: dict[str, Any]) -> list[Tensor]:
        geometries: list[Geometry] = batch["geometry"]
        return [self.finished(g.to_original(p)) for p, g in zip(pixels, geometries, strict=True)]

    def update(self, metric: Any, output: Tensor, batch: dict[str, Any]) -> None:
        """Count a batch at the labels' own sizes, without the mirror image."""
        self._count(metric, self.labels(output, batch), batch)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count for the best head, with the mirror image where that is asked for."""
        self._count(self.metrics[self.best_head], self.answer(batch), batch)

    def _count(self, metric: Any, found: list[Tensor], batch: dict[str, Any]) -> None:
        for one, truth in zip(found, batch[self.label], strict=True):
            metric.update(one, truth[0] if truth.ndim > one.ndim else truth)  # depth has a channel of its own

    def scores(self, metric: Any, stage: str) -> dict[str, Tensor]:
        """The metric's scores, and ``excluded``, the number of images without a valid pixel.

        Raises:
            ValueError: There is nothing to score.
        """
        scores: dict[str, Tensor] = dict(metric.compute())  # the metric keeps its own
        if scores.pop("images") == 0 and not self.trainer.sanity_checking:
            raise ValueError(
                f"No image of the {stage} split has a valid {self.label}, so there is nothing to score. Check the "
                "labels' unit, and what part of them counts."
            )
        return {name: score.float().to(self.device) for name, score in scores.items()}


def _size(batch: dict[str, Any]) -> tuple[int, int]:
    height, width = batch["image"].shape[-2:]
    return int(height), int(width)


def _rgb(image: str | Path | Image.Image | np.ndarray | Tensor) -> Tensor:
    """Any picture as uint8 ``(3, H, W)``."""
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return to_rgb(upright(image))
    if isinstance(image, np.ndarray):
        image = (
            torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, 0) if image.ndim == 3 else torch.from_numpy(image)
        )
    if not isinstance(image, Tensor):
        raise ValueError(f"image is a {type(image).__name__}; expected a path, a PIL image, an array or a tensor.")
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(
            f"image is {image.dtype} of shape {tuple(image.shape)}; expected uint8 RGB: a tensor (3, H, W), an array "
            "(H, W, 3), a PIL image or a path."
        )
    return image
