import inspect

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.export import Dim

from siglip2_backbone import VARIANTS, Siglip2VisionTransformer

TINY = {"native_size": 128, "patch_size": 8, "embed_dim": 96, "depth": 2, "num_heads": 3, "mlp_dim": 384}


def tiny(**args):
    torch.manual_seed(0)
    return Siglip2VisionTransformer(**(TINY | args)).eval()


def image_of(*size):
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def last_map(tower, image):
    return tower.forward_intermediates(image, indices=[-1 % len(tower.blocks)], intermediates_only=True)[0]


def test_every_activation_and_norm_is_the_published_one():
    tower = tiny(num_classes=5)
    norms = [m for m in tower.modules() if isinstance(m, torch.nn.LayerNorm)]
    activations = [m for m in tower.modules() if "GELU" in type(m).__name__]
    assert len(norms) == 2 * 2 + 1 + 1 and {norm.eps for norm in norms} == {1e-6}
    x = torch.linspace(-4, 4, 33)
    assert len(activations) == 2 + 1
    assert all(torch.equal(act(x), torch.nn.functional.gelu(x, approximate="tanh")) for act in activations)


@pytest.mark.parametrize("size", [(128, 128), (1, 1), (8, 8), (9, 8), (127, 129), (50, 301)], ids=str)
def test_a_map_has_a_cell_for_every_started_patch(size):
    rows, columns = -(-size[0] // 8), -(-size[1] // 8)
    assert last_map(tiny(), image_of(*size)).shape == (1, 96, rows, columns)


def test_a_cell_sees_its_own_pixels_and_zeros_beyond_the_image():
    embed = tiny().patch_embed
    image = image_of(21, 30)
    cells = embed(image)
    padded = torch.zeros(1, 3, 24, 32)
    padded[..., :21, :30] = image
    assert torch.equal(cells, embed(padded))
    image[..., 16:21, 24:30] += 1  # the last cell: what is left of its patch
    changed = (embed(image) != cells).any(-1)[0]
    assert changed.nonzero().tolist() == [[2, 3]]


def test_a_padded_image_gives_the_same_map_as_its_padded_copy():
    tower = tiny()
    assert torch.equal(
        last_map(tower, image_of(20, 30)), last_map(tower, torch.nn.functional.pad(image_of(20, 30), (0, 2, 0, 4)))
    )


def test_so400m_patch14_384_keeps_its_published_grid():
    args = TINY | {"native_size": 384, "patch_size": 14}
    tower = tiny(**args)
    assert tower.pos_embed.shape[1] == 27 * 27
    image = image_of(384, 384)
    cells = tower.patch_embed(image)
    assert cells.shape[1:3] == (27, 27)
    image[..., 378:, :] = image[..., :, 378:] = 7.0  # the published tower does not see the last 6 px
    assert torch.equal(tower.patch_embed(image), cells)
    assert last_map(tower, image).shape[2:] == (27, 27)
    assert last_map(tower, image_of(383, 400)).shape[2:] == (28, 29)


@pytest.mark.parametrize("name", ["siglip2_so400m_patch14_384", "siglip2_giant_opt_patch16_256"])
def test_odd_head_widths(name):
    variant = VARIANTS[name]
    args = {"embed_dim": variant.embed_dim, "num_heads": variant.num_heads, "mlp_dim": variant.mlp_dim, "depth": 1}
    tower = tiny(native_size=variant.img_size, patch_size=variant.patch_size, **args)
    assert tower.blocks[0].attn.head_dim == variant.embed_dim // 16
    assert tower.blocks[0].mlp.fc1.out_features == tower.attn_pool.mlp.fc1.out_features == variant.mlp_dim
    assert last_map(tower, image_of(3 * 16, 2 * 16)).isfinite().all()


def test_the_position_table_is_never_overwritten():
    tower = tiny()
    before = tower.pos_embed.detach().clone()
    for size in [(128, 128), (64, 200)]:
        last_map(tower, image_of(*size))
    tower.set_input_size(256)
    assert torch.equal(tower.pos_embed, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_positions_at_the_native_grid_are_the_table(dtype):
    tower = tiny(dtype=dtype)
    cells = torch.zeros(1, 16, 16, 96, dtype=dtype)
    assert torch.equal(tower._pos_embed(cells), tower.pos_embed)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(tower._pos_embed(cells), tower.pos_embed)


@pytest.mark.parametrize("announced", [256, (64, 96)])
def test_the_announced_size_changes_no_number(announced):
    tower, other = tiny(), tiny(img_size=announced)
    sides = announced if isinstance(announced, tuple) else (announced, announced)
    assert other.patch_embed.img_size == sides
    assert other.patch_embed.grid_size == (sides[0] // 8, sides[1] // 8)
    assert other.pos_embed.shape == tower.pos_embed.shape
    for size in [(128, 128), (64, 96), (40, 50)]:
        assert torch.equal(last_map(other, image_of(*size)), last_map(tower, image_of(*size)))
    tower.set_input_size(img_size=announced, patch_size=8)
    assert tower.patch_embed.grid_size == other.patch_embed.grid_size
    assert torch.equal(last_map(tower, image_of(64, 96)), last_map(other, image_of(64, 96)))


def test_another_patch_size_is_refused():
    with pytest.raises(ValueError, match=r"patch_size is 16; this tower's is \(8, 8\)"):
        tiny().set_input_size(patch_size=16)


def test_a_fixed_size_is_refused():
    tiny(dynamic_img_size=True)
    with pytest.raises(ValueError, match="dynamic_img_size=False"):
        tiny(dynamic_img_size=False)


def test_an_unknown_rule_for_positions_is_refused_before_the_first_image():
    with pytest.raises(ValueError, match="pos_interp is 'nearest'; expected one of bicubic_antialias"):
        tiny(pos_interp="nearest")


@pytest.mark.parametrize("pos_interp", ["bicubic_antialias", "bicubic", "bilinear_antialias"])
def test_one_exported_graph_takes_every_grid(pos_interp):
    tower = tiny(pos_interp=pos_interp)
    height, width = Dim("height", max=40), Dim("width", max=40)
    exported = torch.export.export(tower, (image_of(96, 160),), dynamic_shapes=({2: 8 * height, 3: 8 * width},))
    for size in [(96, 160), (128, 128), (16, 320), (320, 40)]:  # the native grid, shrunk and enlarged
        torch.testing.assert_close(exported.module()(image_of(*size)), tower(image_of(*size)), rtol=0, atol=1e-6)


def test_one_compiled_graph_takes_every_grid():
    # the inductor backend needs a minute for its C++; what can break here is the graph, so it is only captured
    graphs = []

    def capture(graph, inputs):
        graphs.append(graph)
        return graph.forward

    tower = tiny()
    compiled = torch.compile(tower, fullgraph=True, dynamic=True, backend=capture)
    for size in [(96, 160), (128, 128), (16, 320), (320, 40)]:
        torch.testing.assert_close(compiled(image_of(*size)), tower(image_of(*size)), rtol=0, atol=1e-6)
    assert len(graphs) == 1


@pytest.mark.parametrize(
    "method",
    ["forward_features", "forward_intermediates", "get_intermediate_layers", "prune_intermediate_layers"],
)
def test_methods_keep_the_signature_of_timm(method):
    ours, theirs = getattr(Siglip2VisionTransformer, method), getattr(VisionTransformer, method)
    assert inspect.signature(ours) == inspect.signature(theirs)


@torch.no_grad()
def test_intermediates_are_raw_by_default_as_in_timm():
    tower, image = tiny(), image_of(64, 40)
    last, raw = tower.forward_intermediates(image)
    normed = tower.forward_intermediates(image, norm=True, intermediates_only=True)
    assert [m.shape for m in raw] == [(1, 96, 8, 5)] * 2
    assert not torch.equal(raw[-1], normed[-1])
    assert torch.equal(normed[-1].flatten(2).transpose(1, 2), last)
    assert torch.equal(tower.forward_features(image), last)
    layers = tower.get_intermediate_layers(image, n=[0, 1], reshape=True)
    assert all(torch.equal(a, b) for a, b in zip(layers, raw, strict=True))


def test_what_clients_of_timm_read():
    tower = tiny(num_classes=7)
    assert (tower.num_features, tower.embed_dim, tower.head_hidden_size) == (96, 96, 96)
    assert (tower.num_prefix_tokens, tower.num_reg_tokens, tower.has_class_token) == (0, 0, False)
    assert [(info["num_chs"], info["reduction"]) for info in tower.feature_info] == [(96, 8)] * 2
    assert tower(image_of(40, 40)).shape == (1, 7)
    tower.reset_classifier(0)
    assert tower(image_of(40, 40)).shape == (1, 96)
    tower.reset_classifier(3, "avg")
    assert tower.attn_pool is None
    assert tower(image_of(40, 40)).shape == (1, 3)


@pytest.mark.parametrize("rate", ["pos_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate", "drop_rate"])
def test_dropout_acts_in_training_only(rate):
    plain, dropping = tiny(), tiny(**{rate: 0.5})
    image = image_of(128, 128)
    assert torch.equal(plain(image), dropping(image))
    torch.manual_seed(0)
    assert not torch.equal(plain.train()(image), dropping.train()(image))


@pytest.mark.parametrize("size", [0, -8, (1, 2, 3), (0, 64), 64.0])
def test_an_announced_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match="expected one side or"):
        tiny().set_input_size(size)


def test_runs_on_the_meta_device():
    tower = tiny(device="meta")
    assert tower.forward_features(torch.empty(1, 3, 64, 72, device="meta")).shape == (1, 72, 96)
