"""Turns any backbone into the interface of all decoders: a list of feature maps with channels and reductions."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from siglip2_backbone import FeatureMaps, Pyramid, fingerprint
from siglip2_backbone.preprocess import normalize
from siglip2_backbone.pyramid import SFP_CHANNELS, PyramidKind

from .lora import LoraSpec, add_adapters
from .timm_maps import build_backbone
from .tower_args import check_tower_args, tower_args_of

Precision = Literal["float32", "bfloat16"]
Tune = Literal["frozen", "full", "lora"]


class Extractor(nn.Module):
    """A backbone, frozen or trained, that turns images in [0, 1] into float32 maps.

    A frozen backbone stays in evaluation mode and outside autograd, regardless of the mode that Lightning sets.

    Args:
        backbone: A SigLIP 2 directory, file, model name (also with ``_pyramid`` or ``_sfp``) or Hugging Face id, or
            the name of any other timm model.
        layers: Blocks (of a transformer) or stages (of a hierarchical network) to return, in this order; negative ones
            count from the end. By default the last one. A pyramid returns all its levels, and ``layers`` are the blocks
            that it reads; by default those of :class:`siglip2_backbone.ResampledPyramid`, or the last one for sfp.
        norm: Apply a transformer's final norm to every map.
        pooled: Concatenate SigLIP 2's pooled (MAP) output to every cell of every map.
        pyramid: ``"resample"`` or ``"sfp"`` for SigLIP 2 maps at 4, 8, 16 and 32 px per cell. The levels of sfp are
            learned, so they need tune="full".
        pretrained: Load published weights; ``False`` gives random ones.
        precision: Floating point type that the backbone computes in; the maps are always float32. The weights of a
            trained backbone stay float32.
        tune: What training changes: nothing (frozen), every weight (full), or adapters next to the weights (lora).
        lora: rank, alpha, dropout and targets of the adapters, see :class:`heads.backbones.lora.LoraSpec`.
        grad_checkpointing: Recompute each block in the backward pass instead of keeping its activations.
        compile: Compile with torch.compile on first use.
        tower_args: Further arguments of a SigLIP 2 tower, see :class:`siglip2_backbone.Siglip2VisionTransformer`:
            ``window_size`` and ``global_blocks`` for large images, ``drop_path_rate``, ``pos_interp``.

    Attributes:
        channels: Channels of each map.
        reductions: Pixels per cell of each map.
        name: timm name of the architecture.
        source: Where the weights come from, or "random".
        arguments: Arguments that build this extractor again, as plain data.
        pyramid: Kind of the backbone's pyramid, or None.
        trained: Names of the parameters that training changes.

    Raises:
        ValueError: The backbone is unknown or has no such layers, or the options contradict each other.
    """

    backbone: Any  # FeatureMaps, a Pyramid or OtherMaps

    def __init__(
        self,
        backbone: str | Path | FeatureMaps | Pyramid,
        *,
        layers: Sequence[int] | None = None,
        norm: bool = True,
        pooled: bool = False,
        pyramid: PyramidKind | None = None,
        pretrained: bool = True,
        precision: Precision = "float32",
        tune: Tune = "frozen",
        lora: Mapping[str, Any] | None = None,
        grad_checkpointing: bool = False,
        compile: bool = False,
        tower_args: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        _check_options(precision, tune, lora, grad_checkpointing)
        given = check_tower_args(tower_args, tune)
        if isinstance(backbone, FeatureMaps | Pyramid):
            if (layers, norm, pooled, pyramid, pretrained, given) != (None, True, False, None, True, {}):
                raise ValueError(
                    "layers, norm, pooled, pyramid, pretrained and tower_args belong to create_backbone, but the "
                    "backbone is already built. Pass them there."
                )
        elif Path(backbone).expanduser().exists():  # absolute, so that a checkpoint finds it from any folder
            backbone = str(Path(backbone).expanduser().resolve())
        name = None if isinstance(backbone, FeatureMaps | Pyramid) else str(backbone)
        blocks = None if layers is None else list(layers)
        self.backbone = (
            backbone if name is None else build_backbone(name, blocks, norm, pooled, pyramid, pretrained, given)
        )
        self.pyramid = self.backbone.kind if isinstance(self.backbone, Pyramid) else None
        if isinstance(self.backbone, Pyramid):
            _check_pyramid(self.backbone, tune)
        self.tune = tune
        self.precision = precision
        self._start: str | None = None  # fingerprint before training, if that changes the weights
        self._prepare(lora, grad_checkpointing)
        self.trained = [name for name, p in self.named_parameters() if p.requires_grad]
        self.pooled = self.backbone.pooled if isinstance(self.backbone, FeatureMaps) else False
        info = self.backbone.feature_info
        extra = self.backbone.num_features if self.pooled else 0
        self.channels: list[int] = [c + extra for c in info.channels()]
        self.reductions: list[int] = list(info.reduction())
        cfg: dict[str, Any] = _pretrained_cfg(self.backbone)
        self.mean, self.std = cfg["mean"], cfg["std"]
        self.name = str(cfg["architecture"])
        published = cfg.get("hf_hub_id") or cfg.get("url")
        self.source = str(cfg.get("source") or (published if pretrained else "random"))
        self.arguments = {
            "backbone": name or (self.name if self.source == "random" else self.source),
            "layers": self.backbone.layers if self.pyramid else list(info.out_indices),
            "norm": self.backbone.norm,
            "pooled": self.pooled,
            "pyramid": self.pyramid,
            "pretrained": self.source != "random",
            "precision": precision,
            "tune": tune,
            "lora": None if tune != "lora" else LoraSpec.read(lora).plain(),
            "grad_checkpointing": grad_checkpointing,
            "compile": compile,
            "tower_args": tower_args_of(self.timm_model, tune),
        }
        if compile:
            self.compile()

    def _prepare(self, lora: Mapping[str, Any] | None, grad_checkpointing: bool) -> None:
        """Freeze the backbone or make it trainable."""
        if self.tune == "frozen":
            self.backbone.eval().requires_grad_(False)
            self.backbone.to(getattr(torch, self.precision))
            return
        self._start = fingerprint(self.backbone)
        self.backbone.requires_grad_(self.tune == "full")
        if self.tune == "lora":
            add_adapters(self.backbone, LoraSpec.read(lora))
        if grad_checkpointing:
            self.timm_model.set_grad_checkpointing(True)  # type: ignore[operator]

    def forward(self, image: Tensor, padding: Tensor | None = None) -> list[Tensor]:
        """Maps of images ``(B, 3, H, W)`` in [0, 1].

        Args:
            image: The images.
            padding: Which pixels are padding, bool ``(B, 1, H, W)``. Whatever they hold, the backbone sees 0 there, its
                mean once normalised: what a tower pads with itself up to whole patches.

        Returns:
            Maps ``(B, channels[i], ceil(H / reductions[i]), ceil(W / reductions[i]))``.
        """
        x = normalize(image, self.mean, self.std)
        if padding is not None:
            x = x.masked_fill(padding, 0)
        if self.tune == "frozen":
            with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
                maps = self._maps(x.to(getattr(torch, self.precision)))
        else:
            low = self.precision == "bfloat16"
            with torch.autocast(x.device.type, dtype=torch.bfloat16) if low else nullcontext():
                maps = self._maps(x)
        return [m.float() for m in maps]

    def _maps(self, x: Tensor) -> list[Tensor]:
        if not self.pooled:
            return list(self.backbone(x))
        maps, pooled = self.backbone.forward_pooled(x)
        return [torch.cat([m, pooled[:, :, None, None].expand(-1, -1, *m.shape[2:])], dim=1) for m in maps]

    def train(self, mode: bool = True) -> "Extractor":
        """Set the mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.tune == "frozen":
            self.backbone.eval()
        return self

    @property
    def timm_model(self) -> nn.Module:
        """The timm model itself, which defines its layers (``group_matcher``)."""
        model: nn.Module = getattr(self.backbone, "model", self.backbone)
        return model

    @property
    def layered(self) -> nn.Module:
        """The module that training may change, with timm's methods that define its layers, if it has them."""
        return self.backbone if self.pyramid else self.timm_model

    def fingerprint(self) -> str:
        """Identity of the weights before any training, see :func:`siglip2_backbone.fingerprint`."""
        return self._start or fingerprint(self.backbone)


def _check_options(precision: str, tune: str, lora: object, grad_checkpointing: bool) -> None:
    for name, value, known in (("precision", precision, Precision), ("tune", tune, Tune)):
        if value not in get_args(known):
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(get_args(known))}.")
    if lora is not None and tune != "lora":
        raise ValueError(f"lora is {lora} but tune is {tune!r}. Set tune to lora, or leave lora out.")
    if grad_checkpointing and tune == "frozen":
        raise ValueError("grad_checkpointing is for a backbone that is trained, but tune is 'frozen'. Leave it out.")


def _check_pyramid(pyramid: Pyramid, tune: Tune) -> None:
    usual = pyramid.kind == "resample" or pyramid.feature_info.channels() == [SFP_CHANNELS] * 4
    if pyramid.out_indices != [0, 1, 2, 3] or not usual:  # a checkpoint only stores kind and layers
        raise ValueError(
            f"The {type(pyramid).__name__} has levels {pyramid.out_indices} with {pyramid.feature_info.channels()} "
            "channels; expected all four in order, with the default channels. Leave out out_indices and out_channels."
        )
    if pyramid.kind == "sfp" and tune != "full":
        raise ValueError(
            f"tune is {tune!r}, but the levels of sfp are learned and start at random; expected 'full'. Set tune to "
            "full, or use the pyramid 'resample', which has no parameters."
        )


def _pretrained_cfg(backbone: nn.Module) -> dict[str, Any]:
    for module in (backbone, getattr(backbone, "model", None)):
        if cfg := getattr(module, "pretrained_cfg", None):
            return dict(cfg)
    raise ValueError(f"{type(backbone).__name__} has no pretrained_cfg; expected one with mean and std.")
