"""Base of the depth and normal data modules that are trained with BTS's augmentation."""

from typing import Any, ClassVar

from torchvision.transforms import v2

from ..sizes import Size
from .module import SurfaceModule
from .transforms import Part, bts_transform


class BTSModule(SurfaceModule):
    """A data module with BTS's augmentation: rotation, flip, crop and colour, see :func:`bts_transform`.

    Args:
        root: Folder of the dataset; needed for everything but predict.
        img_size: Height and width that whole images are resized to [px].
        crop: Size of the random crop in training [px]; ``None`` for ``img_size``, with the border.
        rotate: Largest random angle to either side in training [degrees].
        flip: Probability of the horizontal flip in training.
        colour: Probability of the colour augmentation in training.
        shared: Arguments of :class:`SurfaceModule`.

    Raises:
        ValueError: A size or number is too small.
    """

    border: ClassVar[Part | None] = None  # the part of an image inside its border, which a random crop leaves out
    brightness: ClassVar[tuple[float, float]] = (0.75, 1.25)  # range of the brightness factor

    def __init__(
        self,
        root: str | None,
        img_size: Size,
        *,
        crop: Size | None,
        rotate: float,
        flip: float = 0.5,
        colour: float = 0.5,
        **shared: Any,
    ) -> None:
        super().__init__(root, img_size, **shared)
        self.crop = crop
        self.rotate, self.flip, self.colour = rotate, flip, colour

    def train_transform(self) -> v2.Transform:
        """BTS's augmentation with this module's options."""
        return bts_transform(
            self.img_size,
            self.crop,
            border=None if self.crop is None else self.border,
            rotate=self.rotate,
            flip=self.flip,
            colour=self.colour,
            brightness=self.brightness,
        )
