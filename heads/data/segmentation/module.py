"""The base of semantic segmentation data modules: transforms, splits and their entries in the result file."""

from typing import Any

from ..checks import check_count, check_range, check_size
from ..classes import ClassSpec, class_colours
from ..module import DenseDataModule
from ..sizes import Size
from .dataset import SegmentationDataset, Split
from .transforms import Recipe, train_transform


class SegmentationDataModule(DenseDataModule):
    """Images and label maps in three splits, and a folder of images to predict.

    Subclasses define ``split``, and set ``test_split``, the name of the test split in the result file.

    Args:
        classes: Number of classes, their names, or names with colours, in the order of their indices.
        root: Folder of the dataset; needed for everything but predict.
        img_size: Height and width [px] of training crops, and of test images, which are resized to it. Labels are
            never resized at test time.
        recipe: Augmentation. plain: the image is scaled relative to its fit into img_size, cropped and flipped. dinov2,
            dinov3: the short side is scaled relative to that of img_size, no class fills a whole crop, and colours are
            distorted.
        scale: Range of the random scale in training.
        test_short_side: Resize the short side of test images to this [px], and keep their aspect ratio.
        skip_corrupt: Skip a damaged image or label with a warning; other errors still stop the run.
        predict_images: Folder of images to predict.
        batch_size: Images per batch.
        eval_batch_size: Images per batch outside training; batch_size by default, and 1 with test_short_side, because
            images of different shapes are padded in a batch, and a transformer sees the padding.
        num_workers: Worker processes per loader.
        seed: Seed of sampling order and augmentation.

    Raises:
        ValueError: The class list is missing or wrong, or a number is out of range.
    """

    test_size: Size | int

    def __init__(
        self,
        classes: ClassSpec | None,
        root: str | None = None,
        img_size: tuple[int, int] = (512, 512),
        *,
        recipe: Recipe = "plain",
        scale: tuple[float, float] = (0.5, 2.0),
        test_short_side: int | None = None,
        skip_corrupt: bool = False,
        predict_images: str | None = None,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        if eval_batch_size is None and test_short_side is not None:
            eval_batch_size = 1
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, num_workers=num_workers, seed=seed)
        check_size("img_size", img_size)
        if test_short_side is not None:
            check_count("test_short_side", test_short_side, least=2, unit="px")
        check_range("scale", scale, "factors", point=True)
        self.classes = class_colours(classes)
        self.root = root
        self.img_size = img_size
        self.transform = train_transform(img_size, scale, recipe)
        self.test_size = img_size if test_short_side is None else test_short_side
        self.skip_corrupt = skip_corrupt
        self.predict_images = predict_images
        self.protocol |= {
            "recipe": recipe,
            "scale": list(scale),
            "test_resize": list(img_size) if test_short_side is None else f"short side {test_short_side}",
        }

    def split(self, name: str) -> Split:
        """The pairs of a split and what their labels mean.

        Args:
            name: train, val or test.

        Raises:
            ValueError: Files or folders are missing.
        """
        raise NotImplementedError

    def dataset(self, split: str) -> SegmentationDataset:
        """The dataset of a split."""
        transform: Any = self.transform if split == "train" else None
        return SegmentationDataset(self.split(split), self.test_size, transform, self.seed, self.skip_corrupt)
