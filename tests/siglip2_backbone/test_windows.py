"""Windowed attention beside full attention on crops, in float64, and what it leaves as it is."""

import pytest
import timm
import torch
from timm.layers import Attention
from torch.export import Dim

from siglip2_backbone import (
    FeatureMaps,
    Siglip2VisionTransformer,
    as_dino,
    as_torchvision,
    create_backbone,
    fingerprint,
)
from siglip2_backbone.windows import GridAttention, join, split

TINY = {"native_size": 128, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3, "mlp_dim": 192}
NAME = "siglip2_tiny_patch8_128"


def tiny(**args):
    """A tower whose attention is far from uniform, in float64."""
    torch.manual_seed(0)
    tower = Siglip2VisionTransformer(**(TINY | args)).double().eval()
    with torch.no_grad():
        for block in tower.blocks:
            block.attn.qkv.weight.normal_(std=0.2)
            block.attn.qkv.bias.normal_()
    return tower


def image_of(*size, batch=1, dtype=torch.float64):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1), dtype=dtype)


def cells_of(*grid, batch=2):
    return torch.randn(batch, *grid, 96, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def attention(window_size):
    torch.manual_seed(0)
    module = GridAttention(96, num_heads=3, qkv_bias=True).double().eval()
    torch.nn.init.normal_(module.qkv.weight, std=0.2)
    torch.nn.init.normal_(module.qkv.bias)
    module.window_size = window_size
    return module


def on_crops(module, cells, window_size):
    """Full attention on each crop of the map, by hand."""
    whole = torch.empty_like(cells)
    for top in range(0, cells.shape[1], window_size):
        for left in range(0, cells.shape[2], window_size):
            place = (slice(None), slice(top, top + window_size), slice(left, left + window_size))
            crop = cells[place]
            whole[place] = Attention.forward(module, crop.flatten(1, 2)).reshape(crop.shape)
    return whole


def assert_same(found, expected, atol=1e-13):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@torch.no_grad()
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("grid", [(8, 12), (9, 11), (4, 7), (3, 10), (1, 1), (2, 4), (13, 1)], ids=str)
def test_windows_are_full_attention_on_crops_with_whatever_border(grid, fused):
    module, cells = attention(4), cells_of(*grid)
    module.fused_attn = fused
    assert_same(module(cells), on_crops(module, cells, 4))


@torch.no_grad()
def test_cells_beyond_the_border_take_no_part():
    # ViTDet pads with zeros, which the bias turns into keys and values: that is another function
    module, cells = attention(4), cells_of(6, 6)
    padded = torch.nn.functional.pad(cells, (0, 0, 0, 2, 0, 2))
    as_vitdet = on_crops(module, padded, 4)[:, :6, :6]
    difference = (module(cells) - as_vitdet).abs().amax(dim=(0, 3))
    assert difference[:4, :4].max() < 1e-13 and difference[4:].min() > 1e-3 and difference[:, 4:].min() > 1e-3


@pytest.mark.parametrize(
    ("grid", "masked"), [((8, 12), False), ((4, 4), False), ((8, 13), True), ((9, 4), True)], ids=str
)
def test_there_is_a_mask_only_where_windows_do_not_divide_the_map(grid, masked):
    windows, mask = split(cells_of(*grid), (4, 4))
    count = -(-grid[0] // 4) * -(-grid[1] // 4)
    assert windows.shape == (2 * count, 16, 96) and (mask is not None) is masked
    if masked:
        assert mask.shape == (2 * count, 1, 1, 16)
        assert int((mask == 0).sum()) == 2 * grid[0] * grid[1]
        assert (windows[mask[:, 0, 0] != 0] == 0).all()


@pytest.mark.parametrize("grid", [(8, 12), (9, 11), (3, 5)], ids=str)
def test_what_is_split_is_joined_as_it_was(grid):
    cells = cells_of(*grid)
    windows, _ = split(cells, (4, 3))
    assert torch.equal(join(windows, cells.shape, (4, 3)), cells)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (40, 61), (3, 64)], ids=str)
@pytest.mark.parametrize("global_blocks", [None, []], ids=str)
def test_a_window_that_covers_the_map_is_full_attention(size, global_blocks):
    windowed, full, image = tiny(window_size=8, global_blocks=global_blocks), tiny(), image_of(*size)
    assert_same(windowed(image), full(image))
    found, expected = (t.forward_intermediates(image, norm=True) for t in (windowed, full))
    assert_same(found, expected)


@torch.no_grad()
def test_windowed_blocks_see_their_window_and_global_ones_the_map():
    tower = tiny(window_size=3, global_blocks=[-1])
    cells = cells_of(7, 8, batch=1)
    changed = cells.clone()
    changed[0, 4, 7] *= -1  # in the window of rows 3 to 5 and columns 6 and 7
    for i, block in enumerate(tower.blocks):
        seen = (block(cells) - block(changed)).abs().amax(-1)[0] > 1e-9
        own = torch.zeros(7, 8, dtype=torch.bool)
        own[3:6, 6:8] = True
        assert torch.equal(seen, torch.ones_like(own) if i == 3 else own)


def test_global_blocks_are_four_by_default_and_none_where_asked_for():
    def windows(**args):
        return [block.attn.window_size for block in tiny(depth=8, window_size=5, **args).blocks]

    assert windows() == [5, None, 5, None, 5, None, 5, None]
    assert windows(global_blocks=[]) == [5] * 8
    assert windows(global_blocks=(0, -1)) == [None, 5, 5, 5, 5, 5, 5, None]
    assert create_backbone("siglip2_base_patch16_256", pretrained=False, window_size=14, device="meta").model
    base = timm.create_model("siglip2_base_patch16_256", window_size=14, device="meta")
    assert base.global_blocks == [2, 5, 8, 11]  # ViTDet's


def test_without_windows_nothing_is_new():
    tower = tiny()
    assert {type(block.attn) for block in tower.blocks} == {Attention}
    assert tower.window_size is None and tower.global_blocks is None


def test_weights_and_fingerprint_are_those_of_full_attention():
    windowed, full = tiny(window_size=3), tiny()
    windowed.load_state_dict(full.state_dict())
    assert list(windowed.state_dict()) == list(full.state_dict())
    assert fingerprint(windowed) == fingerprint(full)


@torch.no_grad()
@pytest.mark.parametrize("norm", [True, False])
def test_methods_of_timm_return_what_they_return_without_windows(norm):
    windowed, full, image = tiny(window_size=3), tiny(), image_of(50, 70, batch=2)
    for options in (
        {"output_fmt": "NLC"},
        {"output_fmt": "NCHW", "indices": [1, 3]},
        {"output_fmt": "NLC", "intermediates_only": True, "stop_early": True, "indices": 2},
        {"output_dict": True, "output_fmt": "NLC"},
        {"output_dict": True, "intermediates_only": True},
    ):
        found, expected = (t.forward_intermediates(image, norm=norm, **options) for t in (windowed, full))
        assert shapes(found) == shapes(expected)
    assert windowed.forward_features(image).shape == (2, 7 * 9, 96)
    assert windowed(image).shape == (2, 96)
    layers = windowed.get_intermediate_layers(image, n=[0, 3], norm=norm)
    maps = windowed.get_intermediate_layers(image, n=[0, 3], norm=norm, reshape=True)
    assert all(torch.equal(m.flatten(2).mT, t) for m, t in zip(maps, layers, strict=True))
    last, _ = windowed.forward_intermediates(image)
    assert torch.equal(last, windowed.forward_features(image))


def shapes(found):
    if isinstance(found, dict):
        return {key: shapes(value) for key, value in found.items()}
    return found.shape if isinstance(found, torch.Tensor) else [shapes(value) for value in found]


@torch.no_grad()
def test_what_is_pruned_leaves_the_global_blocks_where_they_were():
    image, whole = image_of(56, 72), tiny(window_size=3, global_blocks=[1, 3])
    expected = whole.forward_intermediates(image, indices=[0, 1, 2], intermediates_only=True)
    pruned = tiny(window_size=3, global_blocks=[1, 3])
    pruned.prune_intermediate_layers([0, 1, 2], prune_norm=True)
    assert [block.attn.window_size for block in pruned.blocks] == [3, None, 3]
    found = FeatureMaps(tiny(window_size=3, global_blocks=[1, 3]), [2, 0, 1], norm=False)(image)
    for a, b, c in zip(
        expected,
        pruned.forward_intermediates(image, intermediates_only=True),
        (found[1], found[2], found[0]),
        strict=True,
    ):
        assert torch.equal(a, b) and torch.equal(a, c)


def test_gradients_are_those_of_the_crops():
    module, cells = attention(4), cells_of(6, 9, batch=1)
    weights = torch.randn_like(cells)
    gradients = []
    for run in (module, lambda x: on_crops(module, x, 4)):
        leaf = cells.clone().requires_grad_()
        found = torch.autograd.grad((run(leaf) * weights).sum(), [leaf, *module.parameters()])
        gradients.append(found)
    for found, expected in zip(*gradients, strict=True):
        assert_same(found, expected, atol=1e-11)


def test_grad_checkpointing_and_stochastic_depth_work_on_the_grid():
    image, gradients = image_of(50, 70), []
    for checkpointing in (False, True):
        tower = tiny(window_size=3, drop_path_rate=0.3).train()
        tower.set_grad_checkpointing(checkpointing)
        torch.manual_seed(3)
        tower.forward_intermediates(image, intermediates_only=True)[-1].square().mean().backward()
        gradients.append([p.grad for p in tower.blocks.parameters()])
    for found, expected in zip(*gradients, strict=True):
        assert (found is None) == (expected is None)
        assert found is None or torch.equal(found, expected)
    assert not torch.equal(tower(image), tower.eval()(image))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_and_low_precision_take_the_mask(dtype):
    tower, image = tiny(window_size=3).float(), image_of(50, 70, dtype=torch.float32)
    expected = tower.forward_features(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = tower.forward_features(image)
    cast = tower.to(dtype).forward_features(image.to(dtype)).float()
    for found in (low, cast):
        assert (found - expected).norm() / expected.norm() < 0.1


@torch.no_grad()
def test_one_exported_graph_takes_every_map_that_is_longer_than_a_window():
    tower = tiny(window_size=4, global_blocks=[], depth=1).float()
    axes = {0: Dim("batch"), 2: 8 * Dim("rows"), 3: 8 * Dim("columns")}
    exported = torch.export.export(tower, (image_of(96, 160, batch=2, dtype=torch.float32),), dynamic_shapes=(axes,))
    for size in [(96, 160), (40, 320), (128, 56)]:
        image = image_of(*size, batch=3, dtype=torch.float32)
        assert_same(exported.module()(image), tower(image), atol=1e-5)


@torch.no_grad()
def test_a_graph_of_one_size_has_no_mask_where_none_is_due():
    tower = tiny(window_size=4, global_blocks=[], depth=1)

    def padding(*size):
        nodes = torch.export.export(tower, (image_of(*size),)).graph.nodes
        return [node for node in nodes if "pad" in str(node.target)]

    assert not padding(64, 96) and padding(64, 104)


def test_a_compiled_tower_trains_as_an_eager_one():
    tower, image = tiny(window_size=3, depth=1, global_blocks=[]), image_of(40, 56)
    compiled = torch.compile(tower, backend="aot_eager", fullgraph=True)
    gradients = [torch.autograd.grad(run(image).square().sum(), tower.blocks.parameters()) for run in (compiled, tower)]
    for found, expected in zip(*gradients, strict=True):
        assert_same(found, expected, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("suffix", ["", "_pyramid", "_sfp"])
def test_maps_and_pyramids_take_windows_by_name(suffix):
    torch.manual_seed(0)
    windowed = timm.create_model(NAME + suffix, features_only=True, window_size=3, global_blocks=[1]).eval()
    full = create_backbone(NAME + suffix, pretrained=False).eval()
    image = image_of(50, 70, dtype=torch.float32)
    full.load_state_dict(windowed.state_dict())
    found, expected = windowed(image), full(image)
    assert [m.shape for m in found] == [m.shape for m in expected]
    assert not torch.allclose(found[-1], expected[-1], atol=1e-4)
    assert windowed.model.blocks[1].attn.window_size is None and windowed.model.blocks[2].attn.window_size == 3
    assert len(as_torchvision(windowed)(image)) == 4


@torch.no_grad()
def test_the_interface_of_dino_takes_windows():
    tower, image = tiny(window_size=3), image_of(50, 70)
    dino = as_dino(tower)
    assert torch.equal(dino(image), tower(image))
    ((tokens, pooled),) = dino.get_intermediate_layers(image, 1, return_class_token=True)
    assert torch.equal(tokens, tower.forward_features(image)) and torch.equal(pooled, tower(image))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"window_size": 0}, "window_size is 0; expected the side of a window in cells, at least 1"),
        ({"window_size": 7.0}, "window_size is 7.0; expected"),
        ({"window_size": True}, "window_size is True; expected"),
        ({"window_size": (7, 7)}, r"window_size is \(7, 7\); expected"),
        ({"global_blocks": [1]}, r"global_blocks is \[1\], but without window_size every block is global"),
        ({"global_blocks": []}, r"global_blocks is \[\], but without window_size"),
        ({"window_size": 3, "global_blocks": [4]}, r"global_blocks is \[4\]; expected block indices from -4 to 3"),
        ({"window_size": 3, "global_blocks": [3, -1]}, "which names block 3 twice"),
        ({"window_size": 3, "global_blocks": 2}, "global_blocks is 2; expected .* in a list.$"),
        ({"window_size": 3, "global_blocks": ""}, "global_blocks is ''; expected"),
        ({"window_size": 3, "patch_drop_rate": 0.5}, "patch_drop_rate is 0.5, but windows need every cell"),
    ],
)
def test_what_is_no_window_or_no_block_is_refused(args, message):
    with pytest.raises(ValueError, match=message):
        tiny(**args)


def test_a_mask_is_refused():
    refused = "attn_mask and is_causal are not supported with window_size"
    with pytest.raises(ValueError, match=refused):
        tiny(window_size=3).forward_features(image_of(64, 64), attn_mask=torch.zeros(64, 64))
    with pytest.raises(ValueError, match=refused):
        attention(3)(cells_of(8, 8), is_causal=True)
