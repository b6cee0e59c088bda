"""The answer of a task for one picture, in whatever form a caller holds it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data.image_folder import resized
from ..data.images import read_image, to_rgb, upright
from ..data.module import collate
from ..data.sampling import Sample
from ..data.sizes import Fit, Size
from .finite import naming_images

if TYPE_CHECKING:
    from .head_task import HeadTask

Picture = str | Path | Image.Image | np.ndarray | Tensor


@torch.no_grad()
def predicted(task: "HeadTask", image: Picture, size: Size | int | Fit) -> Any:
    """The best head's answer for one image, on the CPU; see :meth:`HeadTask.predict`.

    Args:
        task: The task; it keeps its mode.
        image: The image.
        size: What it is resized to.

    Raises:
        ValueError: The image cannot be read, or a value of the backbone or of the head is infinite or not a number.
    """
    batch = as_batch(image, size)
    training = task.training
    task.eval()
    try:
        with naming_images(batch, "predict"):
            (found,) = task.answer(batch | {"image": batch["image"].to(task.device)})
    finally:
        task.train(training)
    return found.cpu() if isinstance(found, Tensor) else found


def as_batch(image: Picture, size: Size | int | Fit) -> Sample:
    """A batch of one image, resized.

    Args:
        image: A path, a PIL image, an array ``(H, W, 3)`` uint8, or a tensor ``(3, H, W)`` uint8.
        size: What it is resized to, see :func:`heads.data.image_folder.resized`.

    Raises:
        ValueError: The image cannot be read or is none of these.
    """
    path = Path(image) if isinstance(image, str | Path) else Path("image")  # named in errors
    return collate([resized(path, _rgb(image), size)])


def _rgb(image: Picture) -> Tensor:
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
