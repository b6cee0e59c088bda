"""Images without labels, and how an image is described in a batch."""

from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as V

from siglip2_backbone.preprocess import squash

from .geometry import Geometry
from .images import list_images, read_image
from .module import Sample
from .sampling import SampleKey
from .transforms import Size


class ImageFolder(Dataset[Sample]):
    """Images without labels, resized to ``img_size`` (height, width) [px].

    Args:
        paths: The images.
        img_size: Height and width that they are resized to [px].
    """

    def __init__(self, paths: list[Path], img_size: Size) -> None:
        self.paths = paths
        self.img_size = img_size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: SampleKey) -> Sample:
        path = self.paths[key[1]]
        return resized(path, read_image(path), self.img_size)


def predict_folder(folder: str | None, img_size: Size) -> ImageFolder:
    """What a data module's predict stage reads.

    Raises:
        ValueError: No folder is named, or it has no images.
    """
    if folder is None:
        raise ValueError("data.predict_images is not set; expected the folder of images to predict.")
    return ImageFolder(list_images(Path(folder).expanduser()), img_size)


def resized(path: Path, image: Tensor, size: Size) -> Sample:
    """A test image, uint8 ``(3, H, W)``, resized to ``size`` (height, width) [px] whatever its shape."""
    geometry: Geometry = V.resize(Geometry.of((image.shape[1], image.shape[2])), list(size))
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
