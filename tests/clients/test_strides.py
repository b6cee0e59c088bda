"""Wrappers that set another stride of the patch embedding: Denoising-ViT, and AnyUp and JAFAR after it.

They set ``patch_embed.proj.stride`` and mostly put their own ``dynamic_feat_size`` there, which rounds down, and take
the positions from timm, which stretches the table over whatever grid there is. We do the same with both.
"""

from types import MethodType

import pytest
import timm
import torch
from timm.layers import LayerNorm
from timm.models.vision_transformer import VisionTransformer

import siglip2_backbone  # noqa: F401  # registers the names

NAME = "siglip2_tiny_patch8_128"


def image_of(*size):
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))


def tower_of(name=NAME, **args):
    torch.manual_seed(0)
    return timm.create_model(name, dynamic_img_size=True, **args).eval()


def rounded_down(self, img_size):
    return tuple((side - p) // s + 1 for side, p, s in zip(img_size, self.patch_size, self.proj.stride, strict=True))


def with_stride(model, stride, own_rule):
    model.patch_embed.proj.stride = stride
    if own_rule:
        model.patch_embed.dynamic_feat_size = MethodType(rounded_down, model.patch_embed)
    return model


def twin_of(tower):
    """timm's own vision transformer with the same weights."""
    shape = {"img_size": 128, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3, "num_classes": 0}
    kind = {"class_token": False, "global_pool": "map", "act_layer": "gelu_tanh", "dynamic_img_size": True}
    twin = VisionTransformer(**shape, **kind, norm_layer=lambda dim, **kw: LayerNorm(dim, eps=1e-6, **kw)).eval()
    twin.load_state_dict(tower.state_dict())
    return twin


def maps_of(model, image):
    return model.forward_intermediates(image, [1, 3], norm=True, output_fmt="NCHW", intermediates_only=True)


@torch.no_grad()
@pytest.mark.parametrize("own_rule", [True, False], ids=["wrapper's rule", "ours"])
@pytest.mark.parametrize(("stride", "grid"), [((4, 4), (31, 31)), ([4, 4], (31, 31)), ((2, 8), (61, 16))], ids=str)
def test_overlapping_patches_are_what_timm_makes_of_them(stride, grid, own_rule):
    tower = tower_of(dynamic_img_pad=False)
    expected = maps_of(with_stride(twin_of(tower), stride, own_rule=True), image_of(128, 128))
    found = maps_of(with_stride(tower, stride, own_rule), image_of(128, 128))
    assert [m.shape for m in found] == [(1, 96, *grid)] * 2
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)  # timm resamples positions in float32
    assert tower.forward_features(image_of(128, 128)).shape == (1, grid[0] * grid[1], 96)


@torch.no_grad()
def test_a_stride_may_be_one_number():
    tower = tower_of()
    tower.patch_embed.proj.stride = 4
    assert maps_of(tower, image_of(64, 128))[0].shape == (1, 96, 15, 31)


@torch.no_grad()
@pytest.mark.parametrize(("size", "grid"), [((130, 127), (32, 31)), ((8, 9), (1, 2)), ((3, 13), (1, 3))], ids=str)
def test_no_pixel_is_lost_at_another_stride(size, grid):
    tower = with_stride(tower_of(), (4, 4), own_rule=False)
    embed, image = tower.patch_embed, image_of(*size)
    assert maps_of(tower, image)[0].shape[2:] == grid
    padded = torch.zeros(1, 3, 4 * grid[0] + 4, 4 * grid[1] + 4)
    padded[..., : size[0], : size[1]] = image
    assert torch.equal(embed(image), embed.proj(padded).permute(0, 2, 3, 1))


@torch.no_grad()
@pytest.mark.parametrize(("stride", "cells"), [(14, 27), (7, 53)])
def test_the_native_size_sees_the_published_pixels_at_another_stride(stride, cells):
    tower = tower_of(native_size=384, patch_size=14, depth=1, dynamic_img_pad=False)
    tower.patch_embed.proj.stride = (stride, stride)
    image = image_of(384, 384)
    found = tower.patch_embed(image)
    image[..., 378:, :] = image[..., 378:] = 7.0
    assert found.shape[1:3] == (cells, cells) and torch.equal(tower.patch_embed(image), found)


@pytest.mark.parametrize("suffix", ["_pyramid", "_sfp"])
def test_a_pyramid_refuses_another_stride(suffix):
    model = tower_of(NAME + suffix)
    model.model.patch_embed.proj.stride = (4, 4)
    with pytest.raises(ValueError, match=r"patch_embed.proj.stride is \(4, 4\) px; a pyramid expects .*\(8, 8\) px"):
        model(image_of(64, 64))


@torch.no_grad()
def test_without_padding_whole_patches_are_taken_and_others_refused():
    tower, padding = tower_of(dynamic_img_pad=False), tower_of()
    for size in [(128, 128), (64, 200)]:
        assert torch.equal(tower(image_of(*size)), padding(image_of(*size)))
    for size in [(64, 65), (63, 64)]:
        with pytest.raises(ValueError, match=f"image is {size[0]} x {size[1]} px.*dynamic_img_pad=False.*8 x 8 px"):
            tower(image_of(*size))
    assert tower_of(features_only=True, dynamic_img_pad=False)(image_of(64, 72))[0].shape == (1, 96, 8, 9)
