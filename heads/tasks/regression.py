"""What tasks share that predict numbers for each pixel, and the average with the mirror image."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from ..backbones.extractor import Extractor
from ..data.depth_normals.interface import DepthNormalsData
from ..geometry.record import Geometry
from .finite import finite_maps, finite_output, naming_images
from .head_task import HeadTask
from .results import Prediction, Scored
from .views import MIRRORED, WHOLE, View


class RegressionTask(HeadTask):
    """A task that predicts numbers for each pixel, measured at the labels' own sizes.

    Subclasses define ``pixels`` and ``finalize``, and where mirroring is more than a flip, ``mirrored``.

    Args:
        backbone: As in :class:`HeadTask`.
        build_head: As in :class:`HeadTask`.
        own: The subclass's arguments, as plain data, without those that follow.
        img_size: Height and width [px] that images are resized to.
        flip_test: In tests and predictions, average with the prediction for the mirror image.
        shared: What all tasks share, see :class:`HeadTask`.
    """

    reads = DepthNormalsData
    label: ClassVar[str]  # key of the batch

    def __init__(
        self,
        backbone: str | Extractor,
        build_head: Callable[[Extractor], nn.Module],
        own: Mapping[str, Any],
        img_size: tuple[int, int],
        flip_test: bool,
        **shared: Any,
    ) -> None:
        self.flip_test = flip_test
        super().__init__(backbone, build_head, {**own, "flip_test": flip_test}, img_size, **shared)

    def pixels(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """A head's output at the pixels of images of this height and width, ``(B, C, H, W)``."""
        raise NotImplementedError

    def finalize(self, pixels: Tensor) -> Tensor:
        """An image's pixels ``(C, H, W)`` after averaging or resizing, as the task's answer."""
        raise NotImplementedError

    def mirrored(self, pixels: Tensor) -> Tensor:
        """Pixels of a mirror image, mirrored back."""
        return pixels.flip(-1)

    def postprocess(self, output: Tensor, batch: dict[str, Any]) -> list[Tensor]:
        """A head's output on a batch as the task's answers, at the original sizes."""
        return self._at_original(self.pixels(output, _size(batch)), batch)

    def predictions(self, batch: dict[str, Any]) -> list[Prediction]:
        """The answers for a batch, averaged with those for its mirror images if flip_test is set."""
        if not self.flip_test:
            return super().predictions(batch)
        # at the pixels: where cells reach beyond the image, those of the mirror image lie elsewhere
        total = self._pixels_of(batch, WHOLE) + self.mirrored(self._pixels_of(batch, MIRRORED))
        return [Prediction(answer) for answer in self._at_original(total / 2, batch)]

    def _pixels_of(self, batch: dict[str, Any], view: View) -> Tensor:
        maps = finite_maps(self, batch, view)
        return self.pixels(finite_output(self, maps, self.best_head), _size(batch))

    def _at_original(self, pixels: Tensor, batch: dict[str, Any]) -> list[Tensor]:
        geometries: list[Geometry] = batch["geometry"]
        return [self.finalize(g.to_original(p)) for p, g in zip(pixels, geometries, strict=True)]

    def update(self, metric: Any, output: Tensor, batch: dict[str, Any]) -> None:
        """Count a batch at the labels' own sizes, without the mirror image."""
        self._count(metric, self.postprocess(output, batch), batch)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count for the best head, with the mirror image if flip_test is set.

        Raises:
            ValueError: A value of the backbone or of the head is infinite or not a number.
        """
        with naming_images(batch, "test", batch_idx):
            found = self.answer(batch)
        self._count(self.metrics[self.best_head], found, batch)

    def _count(self, metric: Any, found: list[Tensor], batch: dict[str, Any]) -> None:
        for one, truth in zip(found, batch[self.label], strict=True):
            metric.update(one, truth[0] if truth.ndim > one.ndim else truth)  # depth has a channel of its own

    def scores(self, metric: Any, stage: str) -> Scored:
        """The metric's scores, and ``excluded``, the number of images without a valid pixel.

        Raises:
            ValueError: There is nothing to score.
        """
        scores: dict[str, Tensor] = dict(metric.compute())  # the metric keeps its own
        if scores.pop("images") == 0 and not self.trainer.sanity_checking:
            raise ValueError(
                f"No image of the {stage} split has a valid {self.label}, so there is nothing to score. Check the "
                "labels' unit, and what part of them counts."
            )
        return Scored({name: score.float().to(self.device) for name, score in scores.items()})


def _size(batch: dict[str, Any]) -> tuple[int, int]:
    height, width = batch["image"].shape[-2:]
    return int(height), int(width)
