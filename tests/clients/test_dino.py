"""Code written for DINOv2 and DINOv3, restated: what their evaluations touch of a backbone.

Sources: facebookresearch/dinov3 @ 6876159 ``dinov3/eval/depth/models/encoder.py`` and facebookresearch/dinov2 @ b8931f7
``dinov2/eval/utils.py`` and ``dinov2/eval/linear.py``.
"""

import pytest
import timm
import torch
from torch import nn

from siglip2_backbone import as_dino


def tiny():
    torch.manual_seed(0)
    return as_dino(timm.create_model("siglip2_tiny_patch8_128"))


class DepthEncoder(nn.Module):
    """Frozen or not, a backbone whose chosen blocks become maps and class tokens."""

    def __init__(self, backbone, layers, norm):
        super().__init__()
        self.backbone, self.layers, self.norm = backbone, layers, norm
        widths = getattr(backbone, "embed_dims", [backbone.embed_dim] * backbone.n_blocks)
        self.embed_dims = [widths[i] for i in layers]
        self.pad_to = getattr(backbone, "input_pad_size", backbone.patch_size)

    def forward(self, images):
        height, width = images.shape[-2:]
        images = nn.functional.pad(images, (0, -width % self.pad_to, 0, -height % self.pad_to))
        outputs = self.backbone.get_intermediate_layers(
            images, n=self.layers, reshape=True, return_class_token=True, norm=self.norm
        )
        return list(outputs)


@pytest.mark.parametrize("norm", [True, False])
def test_depth_encoder_and_linear_head_train(norm):
    encoder = DepthEncoder(tiny(), [0, 1, 2, 3], norm)
    outputs = encoder(torch.randn(2, 3, 60, 44))
    # a linear depth head concatenates the class token to every cell, and the layers to each other
    cells = [torch.cat([m, c[:, :, None, None].expand_as(m)], dim=1) for m, c in outputs]
    head = nn.Conv2d(2 * sum(encoder.embed_dims), 1, 1)
    depth = head(torch.cat(cells, dim=1))
    assert depth.shape == (2, 1, 8, 6)
    depth.square().mean().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_linear_probe_of_dinov2_takes_the_frozen_model():
    model = tiny().eval().requires_grad_(False)
    layers = model.get_intermediate_layers(torch.randn(2, 3, 64, 64), 4, return_class_token=True)
    features = torch.cat([class_token for _, class_token in layers[-4:]], dim=-1)
    features = torch.cat([features, layers[-1][0].mean(dim=1)], dim=-1)
    head = nn.Linear(features.shape[-1], 5)
    head(features).sum().backward()
    assert features.shape == (2, 5 * 96)
    assert head.weight.grad is not None and all(p.grad is None for p in model.parameters())


def test_hummingbird_takes_the_tokens_of_every_cell():
    def tokens_of(model, images):  # its eval.py: whatever has the dict of DINOv2 is read by name
        found = model.forward_features(images)
        assert isinstance(found, dict) and isinstance(found["x_norm_patchtokens"], torch.Tensor)
        return found["x_norm_patchtokens"], None

    model = tiny().eval()
    tokens, _ = tokens_of(model, torch.randn(2, 3, 64, 64))
    assert tokens.shape == (2, (64 // model.patch_size) ** 2, model.embed_dim)


def test_an_adapter_walks_through_the_blocks():
    model = tiny()
    seen = []
    for block in model.blocks[1:]:
        block.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    model(torch.randn(1, 3, 64, 64))
    assert len(model.blocks) == model.n_blocks == len(model.embed_dims) and seen == [(1, 64, 96)] * 3
