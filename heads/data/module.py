"""The base of every data module: loaders, sampling order and batches."""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as V

from .checks import check_count
from .image_folder import predict_folder
from .sampling import EpochDataset, EpochSampler, OrderedSampler, Sample
from .sizes import GREY, Fit, Size

_SPLITS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}


class DenseDataModule(LightningDataModule):
    """Loaders over datasets with the keys (epoch, index).

    Subclasses define ``dataset``. They set ``test_split``, the name of the test split, and ``predict_images`` and
    ``test_size`` for predict.

    Args:
        batch_size: Images per batch.
        num_workers: Worker processes per loader.
        seed: Seed of sampling order and augmentation.
        eval_batch_size: Images per batch outside training; ``batch_size`` by default.

    Raises:
        ValueError: ``batch_size``, ``eval_batch_size`` or ``num_workers`` is too small.
    """

    test_split: str
    predict_images: str | None = None  # folder of images to predict
    test_size: Size | int | Fit  # size of test images and of these
    classes: Any = None  # :data:`heads.data.classes.ClassSpec`, if the labels are classes
    skips: ClassVar[str] = "images"  # what the entries of ``skipped`` are
    stacked: ClassVar[tuple[str, ...]] = ("image", "mask")  # keys that are stacked in a training batch

    def __init__(self, *, batch_size: int, num_workers: int, seed: int, eval_batch_size: int | None = None) -> None:
        super().__init__()
        check_count("batch_size", batch_size)
        check_count("num_workers", num_workers, least=0)
        if eval_batch_size is not None:
            check_count("eval_batch_size", eval_batch_size)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.datasets: dict[str, EpochDataset] = {}
        self.protocol: dict[str, Any] = {}  # further entries of ``describe``, filled by subclasses
        self.skipped: dict[str, list[str]] = {}  # stage -> reasons for skipping, in this process

    def dataset(self, split: str) -> EpochDataset:
        """The dataset of train, val or test.

        Raises:
            ValueError: Files are missing or invalid.
        """
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Make the datasets of a stage.

        Raises:
            ValueError: Files are missing or invalid.
        """
        if stage == "predict":
            self.datasets["predict"] = predict_folder(self.predict_images, self.test_size)
            return
        for split in _SPLITS[stage]:
            self.datasets[split] = self.dataset(split)
            self.datasets[split].epoch = self._epoch

    def describe(self, split: str) -> dict[str, Any]:
        """What a score on val or test depends on, for the result file and a head's card."""
        return {
            "data": type(self).__name__,
            "split": self.test_split if split == "test" else split,
            "images": len(self.datasets[split]),
            "seed": self.seed,
        } | self.protocol

    def state_dict(self) -> dict[str, Any]:
        """What the training order depends on; Lightning stores it in every checkpoint."""
        return {"batch_size": self.batch_size, "seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to resume training with another order; validation and test accept any.

        Raises:
            ValueError: The seed or the batch size differs.
        """
        if self.trainer is None or not self.trainer.training:
            return
        own = self.state_dict()
        other = [
            f"{key} = {value!r}, now {own.get(key)!r}" for key, value in state_dict.items() if own.get(key) != value
        ]
        if other:
            raise ValueError(
                f"The run to resume had data.{', data.'.join(other)}. Resume it with the same arguments, or start a "
                "new run."
            )

    def _loader(self, split: str) -> DataLoader[Sample]:
        dataset = self.datasets[split]
        training = split == "train"
        trainer: Any = self.trainer
        overfit = trainer is not None and trainer.overfit_batches > 0 and split != "predict"
        sampler = OrderedSampler(dataset, self._epoch) if overfit else self._sampler(dataset, training)
        return DataLoader(
            dataset,
            batch_size=self.batch_size if training else self.eval_batch_size or self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=partial(collate, stack=self.stacked if training else ("image",)),
            drop_last=training and len(sampler) >= self.batch_size,  # BatchNorm cannot train on a batch of one cell
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )

    def _sampler(self, dataset: EpochDataset, training: bool) -> EpochSampler:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return EpochSampler(
            dataset,
            self.seed,
            self._epoch,
            training=training,
            rank=rank,
            world_size=world_size,
            aspect_ratios=dataset.aspect_ratios,
            batch_size=self.batch_size,
        )

    def _epoch(self) -> int:
        """Number of completed epochs; while a resumed run sets up, ``trainer.current_epoch`` is one lower."""
        if self.trainer is None:
            return 0
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        return int(progress.processed)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Warn once about each file that a dataset skipped, and remove the key ``skipped`` from the batch."""
        stage: Any = self.trainer.state.stage if self.trainer else None
        seen = self.skipped.setdefault(stage.value if stage else "none", [])
        for reason in (reason for reasons in batch.pop("skipped", ()) for reason in reasons):
            if reason not in seen:
                seen.append(reason)
                warnings.warn(f"Skipped: {reason}", stacklevel=2)
        return batch

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled and augmented."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Sample]:
        """In order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """In order."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Sample]:
        """Images without labels, in order."""
        return self._loader("predict")


def collate(samples: Sequence[Sample], stack: Sequence[str] = ("image",)) -> Sample:
    """Stack the keys in ``stack``; every other key becomes a list.

    Images of different sizes are padded to the largest height and width. ``size`` is their size before, and
    ``geometry`` records the padding.
    """
    sizes = {tuple(sample["image"].shape[-2:]) for sample in samples}
    if len(sizes) > 1:
        height, width = (max(sides) for sides in zip(*sizes, strict=True))
        samples = [_padded(sample, height, width) for sample in samples]
    batch: Sample = {key: [sample[key] for sample in samples] for key in samples[0]}
    return batch | {key: torch.stack(batch[key]) for key in stack}


def _padded(sample: Sample, height: int, width: int) -> Sample:
    """The sample with its image padded on the right and below."""
    down, across = height - sample["image"].shape[-2], width - sample["image"].shape[-1]
    image = F.pad(sample["image"], (0, across, 0, down), value=GREY)
    return sample | {"image": image, "geometry": V.pad(sample["geometry"], [0, 0, across, down])}
