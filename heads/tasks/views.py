"""Which part of a batch's images a task asks feature maps of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.windows import Window, cut


@dataclass(frozen=True)
class View:
    """The whole images of a batch, or one of them mirrored, resized, or cut into windows.

    A source of feature maps answers for a view: the extractor computes them from :meth:`pixels`; a store of features
    looks them up, and refuses a view that it does not hold.

    Attributes:
        image: Number of the image in the batch; all of them by default.
        scale: Factor on the image's size.
        mirrored: Flipped from left to right.
        window: Height and width [px] of the windows; the whole image by default.
        at: Top and left [px] of each window.
    """

    image: int | None = None
    scale: float = 1.0
    mirrored: bool = False
    window: tuple[int, int] | None = None
    at: Sequence[Window] = ()

    def pixels(self, batch: Mapping[str, Any]) -> Tensor:
        """Images in [0, 1] as the network sees them, ``(N, 3, H, W)``; one image comes without its batch's padding."""
        images: Tensor = batch["image"]
        if self.image is not None:
            height, width = batch["size"][self.image]
            images = images[self.image : self.image + 1, :, :height, :width]
        if self.scale != 1:
            height, width = scaled((images.shape[-2], images.shape[-1]), self.scale)
            images = F.interpolate(
                images, (height, width), mode="bilinear", align_corners=False, antialias=self.scale < 1
            )
        return self._part(images)

    def padding(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Which of :meth:`pixels` are the batch's padding, bool ``(N, 1, H, W)``; ``None`` if it has none."""
        height, width = batch["image"].shape[-2:]
        sizes = [(int(h), int(w)) for h, w in batch.get("size", ())]
        if self.image is not None or all(size == (height, width) for size in sizes):
            return None
        if self.scale != 1:
            (height, width), *sizes = (scaled(size, self.scale) for size in ((height, width), *sizes))
        device = batch["image"].device
        rows, columns = torch.tensor(sizes, device=device)[:, :, None, None, None].unbind(1)
        below = torch.arange(height, device=device)[:, None] >= rows
        return self._part(below | (torch.arange(width, device=device) >= columns))

    def _part(self, images: Tensor) -> Tensor:
        """Mirrored and cut into windows as the view asks for."""
        if self.mirrored:
            images = images.flip(-1)
        return images if self.window is None else cut(images[0], self.at, self.window)

    def size(self, batch: Mapping[str, Any]) -> tuple[int, int]:
        """Height and width [px] of :meth:`pixels`."""
        if self.window is not None:
            return self.window
        height, width = batch["image"].shape[-2:] if self.image is None else batch["size"][self.image]
        return (height, width) if self.scale == 1 else scaled((height, width), self.scale)


WHOLE = View()
MIRRORED = View(mirrored=True)


def scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Height and width [px] of an image at a scale."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
