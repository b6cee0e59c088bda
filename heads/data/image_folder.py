"""Images without labels, and how an image is described in a batch."""

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
        size: What they are resized to, as in :func:`resized`.
    """

    def __init__(self, paths: list[Path], size: Size | int | Fit) -> None:
        self.paths = paths
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def sample(self, key: SampleKey) -> Sample:
        """An image of the folder."""
        path = self.paths[key[1]]
        return resized(path, read_image(path), self.size)


def predict_folder(folder: str | None, size: Size | int | Fit) -> ImageFolder:
    """What a data module's predict stage reads.

    Raises:
        ValueError: No folder is named, or it has no images.
    """
    if folder is None:
        raise ValueError("data.predict_images is not set; expected the folder of images to predict.")
    return ImageFolder(list_images(Path(folder).expanduser()), size)


def resized(path: Path, image: Tensor, size: Size | int | Fit) -> Sample:
    """A test image, uint8 ``(3, H, W)``, resized to ``size`` [px].

    Args:
        path: Where it comes from.
        image: The image.
        size: Height and width, whatever its shape; or its short side, its shape kept up to 4 to 1; or what it fits
            into, its shape kept.
    """
    original = (image.shape[1], image.shape[2])
    if isinstance(size, Fit):
        size = size.of(original)
    if isinstance(size, int):
        height, width = short_side_size(original, size)
        size = max(2, height), max(2, width)  # what the antialiased resize needs
    geometry: Geometry = V.resize(Geometry.of(original), list(size))
    return described(path, squash(image, size), geometry)


def described(path: Path, image: Tensor, geometry: Geometry) -> Sample:
    """The keys of a batch that every image fills.

    Args:
        path: Where it comes from.
        image: As the network sees it, uint8 ``(3, H, W)``.
        geometry: How it came from the original.
    """
    return {
        "image_id": path.stem,
        "path": str(path),
        "image": image.float() / 255,
        "original_size": geometry.original_size,
        "size": geometry.image_size,
        "geometry": geometry,
    }
