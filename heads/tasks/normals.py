"""Surface normals from one image: angular losses, the published metrics, unit vectors."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.extractor import Extractor
from ..decoders import NormalsHead, build_decoder
from ..geometry.resample import to_pixels
from ..losses import AngularLoss, UncertaintyLoss
from ..metrics import NormalsMetrics
from ..metrics.normals import LIMITS
from ..outputs.depth_normals import write_normals
from ..outputs.options import Drawing
from .regression import RegressionTask


class NormalsTask(RegressionTask):
    """Surface normals in camera coordinates.

    Args:
        backbone: A SigLIP 2 directory, file, model name or Hugging Face id, or any other timm name.
        img_size: Height and width [px] that images are resized to. From the command line the data module sets it.
        decoder: linear or dpt.
        decoder_args: Further arguments of the decoder.
        uncertainty: Let the head also predict how certain each normal is, and train it with the likelihood.
        flip_test: In tests and predictions, average with the prediction for the mirror image.
        shared: What all tasks share: how the backbone is read and how the task is trained, see
            :class:`heads.tasks.head_task.HeadTask`.

    Raises:
        ValueError: An argument is out of range or an unknown name.

    Source: the normals probe of mbanani/probe3d @ a1f1464, which TIPS and SigLIP 2 (arXiv:2502.14786) report: unit
    normals of the cells, bicubic upsampling, unit length again; ``uncertainty`` is Bae et al. (arXiv:2109.09881).
    """

    task = "normals"
    label = "normal"
    monitor = ("RMSE", "min")
    units: ClassVar = {
        prefix + name: unit
        for prefix in ("", "pooled_")
        for name, unit in dict.fromkeys(("mean", "median", "RMSE"), "degrees").items()
        | dict.fromkeys((f"within_{limit:g}" for limit in LIMITS), "%").items()
    }

    def __init__(
        self,
        backbone: str | Extractor,
        img_size: tuple[int, int] = (480, 640),
        *,
        decoder: Literal["linear", "dpt"] = "linear",
        decoder_args: dict[str, Any] | None = None,
        uncertainty: bool = False,
        flip_test: bool = False,
        **shared: Any,
    ) -> None:
        def head(extractor: Extractor) -> nn.Module:
            channels, reductions, logits = extractor.channels, extractor.reductions, 4 if uncertainty else 3
            return NormalsHead(build_decoder(decoder, channels, reductions, logits, **(decoder_args or {})))

        own = {"decoder": decoder, "decoder_args": decoder_args, "uncertainty": uncertainty}
        super().__init__(backbone, head, own, img_size, flip_test, **shared)
        self.criterion = UncertaintyLoss() if uncertainty else AngularLoss()

    def protocol(self) -> dict[str, Any]:
        """How the scores are averaged."""
        how = {"flip_test": self.flip_test, "averaged_over": "images; pooled_ over pixels"}
        return super().protocol() | how

    def loss(self, output: Tensor, batch: dict[str, Any]) -> Tensor:
        """The angular loss at the pixels that have a normal, or the likelihood."""
        target = batch["normal"]
        loss: Tensor = self.criterion(to_pixels(output, self.reduction, target.shape[-2:], "bicubic"), target)
        return loss

    def pixels(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """Unit normals at the pixels, bicubic between the cells."""
        return F.normalize(to_pixels(output[:, :3], self.reduction, size, "bicubic"), dim=1)

    def finalize(self, pixels: Tensor) -> Tensor:
        """Unit normals ``(3, H, W)``; 0 where the image does not show the original."""
        return F.normalize(pixels, dim=0)

    def mirrored(self, pixels: Tensor) -> Tensor:
        """Flipped, with the sign of x reversed."""
        flipped = pixels.flip(-1)
        return torch.cat([-flipped[:, :1], flipped[:, 1:]], dim=1)

    def new_metrics(self) -> NormalsMetrics:
        """The published scores over the split."""
        return NormalsMetrics()

    def write(self, answer: Tensor, photo: Path, folder: Path, drawing: Drawing) -> None:
        """``normals/NAME.npy`` and ``colours/NAME.png``, see :mod:`heads.outputs.depth_normals`."""
        write_normals(answer, folder, photo.stem)
