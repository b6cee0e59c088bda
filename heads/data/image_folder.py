"""Images without labels, and the batch keys of every image."""

from pathlib import Path

from torch import Tensor
from torchvision.transforms.v2 import functional as V

from siglip2_backbone.preprocess import squash

from ..geometry.record import Geometry
from .image_listing import list_images
from .images import read_image
from .sampling import EpochDataset, Sample, SampleKey
from .sizes import Fit, Size, short_side_size


class ImageFolder(EpochDataset):
    """Images without labels, resized.

    Args:
        paths: The images.
        size: Size after resizing, see :func:`resized`.
    """

    def __init__(self, paths: list[Path], size: Size | int | Fit) -> None:
        self.paths = paths
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def sample(self, key: SampleKey) -> Sample:
        """One image of the folder."""
        path = self.paths[key[1]]
        return resized(path, read_image(path), self.size)


def predict_folder(folder: str | None, size: Size | int | Fit) -> ImageFolder:
    """The dataset of a data module's predict stage.

    Raises:
        ValueError: No folder is set, or it holds no image.
    """
    if folder is None:
        raise ValueError("data.predict_images is not set; expected the folder of images to predict.")
    return ImageFolder(list_images(Path(folder).expanduser()), size)


def resized(path: Path, image: Tensor, size: Size | int | Fit) -> Sample:
    """The sample of a test image, resized to ``size`` [px].

    Args:
        path: File of the image.
        image: The image, uint8 ``(3, H, W)``.
        size: Height and width; or the short side, with the aspect ratio kept up to 4 to 1; or a :class:`Fit`, with the
            aspect ratio kept.
    """
    original = (image.shape[1], image.shape[2])
    if isinstance(size, Fit):
        size = size.of(original)
    if isinstance(size, int):
        height, width = short_side_size(original, size)
        size = max(2, height), max(2, width)  # the antialiased resize needs 2 px
    geometry: Geometry = V.resize(Geometry.of(original), list(size))
    return described(path, squash(image, size), geometry)


def described(path: Path, image: Tensor, geometry: Geometry) -> Sample:
    """The batch keys that every image fills.

    Args:
        path: File of the image.
        image: The network's input, uint8 ``(3, H, W)``.
        geometry: How it was made from the original.
    """
    return {
        "image_id": path.stem,
        "path": str(path),
        "image": image.float() / 255,
        "original_size": geometry.original_size,
        "size": geometry.image_size,
        "geometry": geometry,
    }
