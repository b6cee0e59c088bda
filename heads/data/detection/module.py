"""Base of the detection data modules: transforms, splits, ground truth, and their description in the result file."""

from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from ..checks import check_range, check_size
from ..classes import ClassSpec, class_colours
from ..layouts import data_root
from ..module import DenseDataModule
from ..sizes import Fit
from .annotations import Annotations
from .dataset import DetectionDataset
from .transforms import DetectionRecipe, detection_transform
from .truth_report import crowds, doubts, notes, of_crowds, warn_of_alike

_STAGES = {"train": "train", "val": "validate", "test": "test"}  # Lightning's stage for each split


class DetectionDataModule(DenseDataModule):
    """Images with boxes, and optionally masks, in three splits, and a folder of images for predict.

    Subclasses define ``annotations`` and ``image_folder``. A subclass without a test split calls ``test_on_val``.

    Args:
        classes: Number of classes, their names, or names with colours, in the order of the category ids. If it is
            ``None``, the subclass calls ``take_classes``.
        root: Folder of the dataset; needed for everything but predict.
        img_size: Height and width [px] that images are resized to fit into, keeping the aspect ratio; the long side is
            matched to the long side of the image. Only the smaller images of a batch are padded.
        recipe: Augmentation. lsj: the fitted image is scaled, cropped and flipped. resize: the short side is drawn from
            eleven sizes between 0.6 and 1 times that of img_size, and the long side is at most that of img_size, in
            either orientation; flipped. plain: the fitted image is flipped.
        scale: Range of the random scale of lsj.
        masks: Read the instance masks, too.
        skip_invalid: Skip invalid boxes with a warning; other errors still stop the run.
        min_visible: Smallest fraction of a box's area that must stay in the crop; 0 keeps any.
        predict_images: Any folder of images, for predict.
        batch_size: Images per batch.
        eval_batch_size: Images per batch outside training; 1 by default, because images of different shapes in a
            batch are padded, and a transformer sees the padding.
        num_workers: Worker processes per loader.
        seed: Seed of order and augmentation.

    Raises:
        ValueError: The class list is wrong, or a number is out of range.
    """

    test_size: Fit
    skips: ClassVar[str] = "boxes"
    stacked: ClassVar[tuple[str, ...]] = ("image",)
    own: ClassVar[bool] = True  # whether to warn of doubtful annotations; public datasets are used as published
    lvis: ClassVar[bool] = False  # whether each image is annotated for some classes only, as in LVIS

    def __init__(
        self,
        classes: ClassSpec | None,
        root: str | None = None,
        img_size: tuple[int, int] = (512, 512),
        *,
        recipe: DetectionRecipe = "lsj",
        scale: tuple[float, float] = (0.1, 2.0),
        masks: bool = False,
        skip_invalid: bool = False,
        min_visible: float = 0.0,
        predict_images: str | None = None,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        eval_batch_size = 1 if eval_batch_size is None else eval_batch_size
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, num_workers=num_workers, seed=seed)
        check_size("img_size", img_size, least=2)
        check_range("scale", scale, "factors", point=True)
        if not 0 <= min_visible <= 1:
            raise ValueError(f"min_visible is {min_visible}; expected a share from 0 to 1.")
        self.classes = None if classes is None else class_colours(classes, most=None)
        self.root = root
        self.img_size = img_size
        self.test_size = fit = Fit(img_size, turns=True)
        self.transform = detection_transform(img_size, scale, recipe)
        self.masks = masks
        self.skip_invalid = skip_invalid
        self.min_visible = min_visible
        self.predict_images = predict_images
        self.splits = {split: split for split in _STAGES}  # the split that each one is read from
        self.test_split = "test"
        self.protocol |= {"recipe": recipe, "test_resize": str(fit), "eval_batch_size": eval_batch_size}
        if recipe == "lsj":
            self.protocol |= {"scale": list(scale), "min_visible": min_visible}
        self._truth: dict[str, Annotations] = {}
        self._reported: set[str] = set()  # sources whose doubtful annotations have been reported

    def test_on_val(self) -> None:
        """Test on the validation split."""
        self.splits["test"] = self.test_split = "val"

    def take_classes(self) -> None:
        """Use the categories of the validation split as classes.

        Raises:
            ValueError: Files are missing or wrong.
        """
        truth = self.truth("val")
        warn_of_alike(truth.names, truth.source)
        self.classes = class_colours(truth.names, most=None)

    def annotations(self, name: str) -> Annotations:
        """The images and objects of a split.

        Args:
            name: train, val, or test if the dataset has one.

        Raises:
            ValueError: Files are missing or wrong.
        """
        raise NotImplementedError

    def base(self) -> Path:
        """The folder of the dataset.

        Raises:
            ValueError: ``root`` is not set, or the folder does not exist.
        """
        return data_root(self.root, instead="" if self.classes else "data.classes, which is all that predict needs")

    def image_folder(self, name: str) -> Path:
        """The folder that the file names of a split are relative to."""
        raise NotImplementedError

    def truth(self, split: str) -> Annotations:
        """The ground truth of val or test: the annotations without augmentation, read once.

        Raises:
            ValueError: Files are missing or wrong, or their categories differ from ``classes``.
        """
        name = self.splits[split]
        if name not in self._truth:
            self._truth[name] = self._read(name)
        return self._truth[name]

    def describe(self, split: str) -> dict[str, Any]:
        """The base description with the source of the ground truth."""
        return super().describe(split) | {"annotations": self._below_root(self.truth(split).source)}

    def dataset(self, split: str) -> DetectionDataset:
        """The dataset of a split; reads its annotations and checks that its images exist.

        Raises:
            ValueError: Files are missing or wrong, or no image has an object.
        """
        training, name = split == "train", self.splits[split]
        annotations = self._read(name) if training else self.truth(split)  # uncached in training: saves memory
        if crowds(annotations) == len(annotations.annotations):
            remedy = f"Check that it is the annotation file of the {split} images."
            raise ValueError(
                f"{annotations.source} has no box of a single object in {len(annotations.images)} images; expected "
                f"some to {'train on' if training else 'find'}. "
                f"{of_crowds(annotations) if annotations.annotations else remedy}"
            )
        self._say(split, annotations)
        return DetectionDataset(
            annotations,
            self.image_folder(name),
            self.test_size,
            self.transform if training else None,
            masks=self.masks,
            min_visible=self.min_visible,
            seed=self.seed,
        )

    def _read(self, name: str) -> Annotations:
        annotations = self.annotations(name)
        if self.classes is not None and annotations.names != list(self.classes):
            raise ValueError(f"{annotations.source} has {_differs(annotations.names, list(self.classes))}")
        return annotations

    def _say(self, split: str, annotations: Annotations) -> None:
        """Record the skipped annotations for the result file; warn of them and of doubtful ones once."""
        lines, stage = annotations.skipped, _STAGES[split]
        said = []
        if lines and stage not in self.skipped:
            self.skipped[stage] = list(lines)
            more = f", and {len(lines) - 1} more" if len(lines) > 1 else ""
            said.append(f"Skipped in {split}: {lines[0]}{more}")
        if self.own and annotations.source not in self._reported:
            self._reported.add(annotations.source)
            if found := doubts(annotations):
                said.append(f"{annotations.source}: {' '.join(found)}")
            if found := notes(annotations):
                rank_zero_info(f"{annotations.source}: {' '.join(found)}")
        if said:
            rank_zero_warn("\n".join(said))

    def _below_root(self, source: str) -> str:
        root = Path(self.root or "").expanduser()
        return str(Path(source).relative_to(root)) if Path(source).is_relative_to(root) else source


def _differs(found: list[str], expected: list[str]) -> str:
    """The first difference between the categories of a file and the classes, with the remedy."""
    remedy = "Set data.classes to the names in the file, in the order of their ids."
    if missing := [name for name in expected if name not in found]:
        return f"no category {missing[0]!r}; expected the {len(expected)} classes. {remedy}"
    if surplus := [name for name in found if name not in expected]:
        return f"a category {surplus[0]!r} that is not among the {len(expected)} classes. {remedy}"
    place = next(i for i, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other)
    return f"{found[place]!r} as category {place + 1} by id; expected {expected[place]!r}, as in the classes. {remedy}"
