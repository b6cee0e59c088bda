"""From any backbone to the seam that every decoder sees: a list of maps, with their channels and reductions."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from siglip2_backbone import VARIANTS, FeatureMaps, create_backbone, fingerprint
from siglip2_backbone.preprocess import normalize, pad_to_multiple

Precision = Literal["float32", "bfloat16"]


class Extractor(nn.Module):
    """A frozen backbone that turns images in [0, 1] into float32 maps.

    The backbone stays in evaluation mode and outside autograd whatever Lightning asks of the task around it.

    Args:
        backbone: A SigLIP 2 directory, file, model name or Hugging Face id, or the name of any other timm model.
        layers: Blocks (of a transformer) or stages (of a hierarchical network) to return, in this order; negative ones
            count from the end.
        norm: Apply a transformer's final norm to every map.
        pooled: Concatenate SigLIP 2's pooled (MAP) output to every cell of every map.
        pretrained: Load published weights; ``False`` gives random ones.
        precision: Floating point type that the backbone computes in; the maps are float32 either way.

    Attributes:
        channels: Channels of each map.
        reductions: Pixels per cell of each map.
        name: timm name of the architecture.
        source: Where the weights come from, or "random".
        arguments: What builds this extractor again, as plain data.

    Raises:
        ValueError: The backbone is unknown or has no such layers.
    """

    backbone: Any  # FeatureMaps, or the like from timm

    def __init__(
        self,
        backbone: str | FeatureMaps,
        *,
        layers: Sequence[int] = (-1,),
        norm: bool = True,
        pooled: bool = False,
        pretrained: bool = True,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        self.backbone = _build(backbone, list(layers), norm, pooled, pretrained)
        self.backbone.eval().requires_grad_(False)
        self.dtype = getattr(torch, precision)
        self.backbone.to(self.dtype)
        self.pooled = self.backbone.pooled if isinstance(self.backbone, FeatureMaps) else False
        info = self.backbone.feature_info
        extra = self.backbone.num_features if self.pooled else 0
        self.channels: list[int] = [c + extra for c in info.channels()]
        self.reductions: list[int] = list(info.reduction())
        cfg: dict[str, Any] = _pretrained_cfg(self.backbone)
        self.mean, self.std = cfg["mean"], cfg["std"]
        self.name = str(cfg["architecture"])
        self.source = str(cfg.get("source") or (cfg.get("hf_hub_id") if pretrained else "random"))
        self.arguments = {
            "backbone": backbone
            if isinstance(backbone, str)
            else self.name
            if self.source == "random"
            else self.source,
            "layers": list(info.out_indices),
            "norm": norm if isinstance(backbone, str) else backbone.norm,
            "pooled": self.pooled,
            "pretrained": self.source != "random",
            "precision": precision,
        }

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps of images ``(B, 3, H, W)`` in [0, 1].

        Returns:
            Maps ``(B, channels[i], ceil(H / reductions[i]), ceil(W / reductions[i]))``.
        """
        with torch.no_grad():
            x = normalize(image, self.mean, self.std).to(self.dtype)
            with torch.autocast(x.device.type, enabled=False):
                maps = self._maps(x)
        return [m.float() for m in maps]

    def _maps(self, x: Tensor) -> list[Tensor]:
        if self.pooled:
            maps, pooled = self.backbone.forward_pooled(x)
            return [torch.cat([m, pooled[:, :, None, None].expand(-1, -1, *m.shape[2:])], dim=1) for m in maps]
        if not isinstance(self.backbone, FeatureMaps):
            x = pad_to_multiple(x, max(self.reductions))
        maps = self.backbone(x)
        return list(maps)

    def train(self, mode: bool = True) -> "Extractor":
        """Stay in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def fingerprint(self) -> str:
        """Identity of the weights that the maps come from, see :func:`siglip2_backbone.fingerprint`."""
        return fingerprint(self.backbone)


def _build(backbone: str | FeatureMaps, layers: list[int], norm: bool, pooled: bool, pretrained: bool) -> Any:
    if isinstance(backbone, FeatureMaps):
        return backbone
    if _is_siglip2(backbone):
        return create_backbone(backbone, out_indices=layers, norm=norm, pooled=pooled, pretrained=pretrained)
    if pooled:
        raise ValueError(f"pooled=True needs SigLIP 2's MAP head; {backbone} has none. Leave it out.")
    if not timm.is_model(backbone):
        return create_backbone(backbone)  # raises, with the nearest names
    return _other(backbone, layers, norm, pretrained)


def _is_siglip2(backbone: str) -> bool:
    return Path(backbone).expanduser().exists() or backbone.split(".")[0] in VARIANTS or os.sep in backbone


def _other(name: str, layers: list[int], norm: bool, pretrained: bool) -> Any:
    """Another timm model: a plain transformer through forward_intermediates, anything else through features_only."""
    try:
        model = timm.create_model(name, pretrained=pretrained, num_classes=0, dynamic_img_size=True)
    except TypeError:  # only some transformers know dynamic_img_size
        model = timm.create_model(name, pretrained=pretrained, num_classes=0)
    if not hasattr(model, "num_prefix_tokens"):
        return timm.create_model(name, pretrained=pretrained, features_only=True, out_indices=tuple(layers))
    getter = FeatureGetterNet(model, out_indices=layers, norm=norm)
    getter.num_features = model.num_features
    return getter


def _pretrained_cfg(backbone: nn.Module) -> dict[str, Any]:
    for module in (backbone, getattr(backbone, "model", None)):
        if cfg := getattr(module, "pretrained_cfg", None):
            return dict(cfg)
    raise ValueError(f"{type(backbone).__name__} has no pretrained_cfg, so its mean and std are not known.")
