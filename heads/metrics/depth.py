"""Depth scores, computed per image and then averaged."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..data.checks import check_range
from ..losses.alignment import scale_and_shift
from .per_image import PerImageMetric, mean

Crop = Literal["none", "nyu_eigen", "kitti_eigen", "kitti_garg"]
Alignment = Literal["none", "scale", "scale_and_shift", "inverse_scale_and_shift"]

_NYU_SIZE, _NYU_ROWS, _NYU_COLUMNS = (480, 640), (45, 471), (41, 601)
_KITTI = {  # first and last row and column, as shares of the label's height and width, rounded down
    "kitti_eigen": ((0.3324324, 0.91351351), (0.0359477, 0.96405229)),
    "kitti_garg": ((0.40810811, 0.99189189), (0.03594771, 0.96405229)),
}

DEPTH_SCORES = ("AbsRel", "SqRel", "RMSE", "RMSElog", "log10", "SILog", "delta1", "delta2", "delta3")


class DepthMetrics(PerImageMetric):
    """Errors of metric depth on the pixels whose label lies within a range, averaged over images.

    AbsRel, SqRel [m], RMSE [m], RMSElog, log10, SILog (times 100) and delta1 to delta3, as in :func:`depth_errors`.
    With an alignment the prediction is first fitted to the label by least squares. It is then clamped to the range.

    Args:
        depth_range: Valid labels lie above the first and below the second number [m].
        crop: Part of the image that counts: all of it (none), Eigen's crop of NYU, Eigen's or Garg's crop of KITTI.
        alignment: What is fitted to each image's label before scoring: nothing, a scale, or a scale and a shift; or a
            scale and a shift to inverse depth, for relative depth (the fit is converted to depth).
        options: Options of ``torchmetrics.Metric``.

    Raises:
        ValueError: An option is unknown or the range is empty.

    Source: the definitions and crops of cleinc/bts, which average over images; the fit as in mbanani/probe3d @ a1f1464.
    """

    def __init__(
        self,
        depth_range: tuple[float, float] = (1e-3, 10.0),
        crop: Crop = "none",
        alignment: Alignment = "none",
        **options: Any,
    ) -> None:
        super().__init__(len(DEPTH_SCORES), **options)
        check_depth_range(depth_range)
        for name, value, known in (("crop", crop, Crop), ("alignment", alignment, Alignment)):
            if value not in get_args(known):
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(get_args(known))}.")
        self.depth_range = depth_range
        self.crop = crop
        self.alignment = alignment

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count an image.

        Args:
            prediction: Depth [m], or relative inverse depth for that alignment, ``(H, W)``.
            target: Depth [m], ``(H, W)``; NaN means no reading.

        Raises:
            ValueError: The two differ in size, or the crop does not fit.
        """
        if prediction.ndim != 2 or prediction.shape != target.shape:
            raise ValueError(
                f"The prediction is {tuple(prediction.shape)}, its label {tuple(target.shape)}; expected equal sizes, "
                "(H, W)."
            )
        rows, columns = crop_slices(self.crop, (target.shape[0], target.shape[1]))
        prediction, target = prediction[rows, columns], target[rows, columns]
        low, high = self.depth_range
        valid = (target > low) & (target < high)  # in the label's dtype: as float64, float32's 0.1 is above 0.1
        if valid.any():
            truth = target[valid].double()
            self._add(depth_errors(self._fitted(prediction[valid].double(), truth), truth))
        else:
            self._add(None)

    def _fitted(self, prediction: Tensor, target: Tensor) -> Tensor:
        low, high = self.depth_range
        if self.alignment == "inverse_scale_and_shift":
            scale, shift = scale_and_shift(_numbers(prediction, 0, 0), 1 / target)
            prediction = 1 / (scale * _numbers(prediction, 0, 0) + shift).clamp(1 / high, 1 / low)
        elif self.alignment != "none":
            prediction = _numbers(prediction, low, high)
            scale, shift = scale_and_shift(prediction, target, shift=self.alignment == "scale_and_shift")
            prediction = scale * prediction + shift
        return _numbers(prediction, low, high).clamp(low, high)

    def compute(self) -> dict[str, Tensor]:
        """The scores in float64 (NaN without images), and the numbers of ``images`` counted and ``excluded``."""
        rows = self._rows()
        return {name: mean([row[i] for row in rows]) for i, name in enumerate(DEPTH_SCORES)} | self._counts()


def depth_errors(prediction: Tensor, target: Tensor) -> list[Tensor]:
    """The scores of one image's valid pixels, in the order of ``DEPTH_SCORES``.

    Args:
        prediction: Depth above 0 ``(N,)`` [m].
        target: Depth above 0 ``(N,)`` [m].
    """
    error, log_error = prediction - target, prediction.log() - target.log()
    ratio = torch.maximum(prediction / target, target / prediction)
    mean_square = log_error.square().mean()
    return [
        (error.abs() / target).mean(),
        (error.square() / target).mean(),
        error.square().mean().sqrt(),
        mean_square.sqrt(),
        (prediction.log10() - target.log10()).abs().mean(),
        100 * (mean_square - log_error.mean().square()).clamp(min=0).sqrt(),
        *((ratio < 1.25**k).double().mean() for k in (1, 2, 3)),
    ]


def crop_slices(crop: Crop, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a label of this height and width [px] that count.

    Raises:
        ValueError: The crop is NYU's, but the label is not 480 x 640.
    """
    if crop == "none":
        return slice(None), slice(None)
    if crop == "nyu_eigen":
        if size != _NYU_SIZE:
            raise ValueError(f"A label is {size} (height, width); the crop nyu_eigen is for {_NYU_SIZE}. Use none.")
        return slice(*_NYU_ROWS), slice(*_NYU_COLUMNS)
    rows, columns = (slice(*(int(p * s) for p in part)) for part, s in zip(_KITTI[crop], size, strict=True))
    return rows, columns


def check_depth_range(depth_range: tuple[float, float]) -> None:
    """Check the range of valid depths.

    Raises:
        ValueError: The range is empty or includes 0.
    """
    check_range("depth_range", depth_range, "distances")


def _numbers(prediction: Tensor, low: float, high: float) -> Tensor:
    """Replace NaN and negative infinity by the lower bound, infinity by the upper one."""
    return prediction.nan_to_num(nan=low, posinf=high, neginf=low)
