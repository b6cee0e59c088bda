"""What tasks share that answer for each image: predicting, and the files of an answer."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..backbones.extractor import Extractor
from ..data.image_folder import resized
from ..data.images import read_image, to_rgb, upright
from ..data.module import collate
from ..data.sizes import Fit, Size
from ..outputs.options import Drawing
from .base import DenseTask


class ImageTask(DenseTask):
    """A task that answers for each image at its original size.

    Subclasses define ``labels`` and ``write`` besides what :class:`DenseTask` asks for.

    Args:
        backbone: As in :class:`DenseTask`.
        build_head: Makes the head for an extractor.
        own: The subclass's arguments, as plain data, without ``img_size``.
        img_size: Height and width [px] that images are resized to.
        shared: What all tasks share, see :class:`DenseTask`.
    """

    colours: Mapping[str, list[int]] = MappingProxyType({})  # classes, where there are any, in the order of the labels
    head: ClassVar[str] = "decoder"  # the argument that names the head; its own arguments are that and _args

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

    def card(self) -> dict[str, Any]:
        """The base card with the classes, where there are classes."""
        return super().card() | ({"classes": self.colours} if self.colours else {})

    def check_card(self, card: Mapping[str, Any], source: str) -> None:
        """Also refuse a head with other classes."""
        super().check_card(card, source)
        if self.colours and list(card.get("classes", ())) != list(self.colours):
            raise ValueError(
                f"{source} has the classes {list(card.get('classes', ()))}; this task has {list(self.colours)}. Use "
                "the class list that the head was trained with."
            )

    def protocol(self) -> dict[str, Any]:
        """The base protocol with the size of the images and the head."""
        return super().protocol() | {"img_size": list(self.img_size), self.head: self.hparams[self.head]}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also refuse another kind of head, before its tensors are looked at.

        Raises:
            ValueError: The head or its arguments are others.
        """
        super().on_load_checkpoint(checkpoint)
        more = f"{self.head}_args"
        theirs, ours = (
            {self.head: h.get(self.head), more: h.get(more) or {}}
            for h in (checkpoint["hyper_parameters"], self.hparams)
        )
        if theirs != ours:
            raise ValueError(f"The checkpoint was trained with {theirs}; this task has {ours}. Pass those of training.")

    def labels(self, output: Any, batch: dict[str, Any]) -> list[Any]:
        """What a head's output on a batch says, at the original sizes."""
        raise NotImplementedError

    def write(self, found: Any, photo: Path, folder: Path, drawing: Drawing) -> None:
        """Write what was found in a photograph below a folder."""
        raise NotImplementedError

    def write_together(self, folder: Path) -> None:
        """Write, in every process, what belongs to all photographs together, after the last one; by default nothing."""

    def answer(self, batch: dict[str, Any]) -> list[Any]:
        """What the task finds in a batch, at the original sizes."""
        (output,) = self.outputs(batch, [self.best_head], "predict")
        return self.labels(output, batch)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[Any]:
        """:meth:`answer`, for the trainer."""
        return self.answer(batch)

    def test_size(self) -> Size | int | Fit:
        """What ``predict`` resizes an image to, see :func:`heads.data.image_folder.resized`."""
        return self.img_size

    @torch.no_grad()
    def predict(
        self, image: str | Path | Image.Image | np.ndarray | Tensor, size: tuple[int, int] | int | Fit | None = None
    ) -> Any:
        """What the task finds in one image, at its own size.

        Args:
            image: A path, a PIL image, an array ``(H, W, 3)`` uint8, or a tensor ``(3, H, W)`` uint8.
            size: What it is resized to: height and width, or the short side, its shape kept [px]. By default img_size,
                and with sliding windows the short side of img_size.

        Returns:
            On the CPU: classes int64 ``(H, W)``, depth float32 ``(H, W)`` [m], normals float32 ``(3, H, W)``, or of
            detection a dict, see :meth:`heads.DetectionTask.predict`.

        Raises:
            ValueError: The image cannot be read or is none of these.
        """
        batch = collate([resized(Path("image"), _rgb(image), self.test_size() if size is None else size)])
        training = self.training
        self.eval()
        found = self.answer(batch | {"image": batch["image"].to(self.device)})[0]
        self.train(training)
        return found.cpu() if isinstance(found, Tensor) else found


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
