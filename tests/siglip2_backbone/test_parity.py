"""The tower against transformers' SiglipVisionModel and Siglip2VisionModel, on random weights that transformers wrote.

Tolerances (relative L2): in float64 rounding alone, 1e-13; off its own grid transformers resizes NaFlex positions in
float32, 5e-7; in float32 rounding is 6e-7 to 9e-7, 3e-6. The smallest mistake, the exact GELU, is above 1e-4.
"""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from transformers import Siglip2VisionConfig, Siglip2VisionModel, SiglipVisionConfig, SiglipVisionModel

from siglip2_backbone import VARIANTS, create_backbone

ROUNDING = {torch.float64: 1e-13, torch.float32: 3e-6}
FLOAT32_RESIZE = {torch.float64: 5e-7, torch.float32: 3e-6}
SIZES = [(96, 160), (200, 64), (8, 136), (256, 248)]  # not the native 128 x 128


def image_of(size, dtype=torch.float64, batch=1):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def tower_at(path, dtype=torch.float64, **args):
    return create_backbone(path, pooled=True, dtype=dtype, **args).model.eval()


def reference_at(path, naflex, dtype=torch.float64):
    # sdpa: the eager attention of transformers takes its softmax in float32 even in a float64 model
    family = Siglip2VisionModel if naflex else SiglipVisionModel
    return family.from_pretrained(path, dtype=dtype, attn_implementation="sdpa").eval()


def patchified(image, patch):
    """NaFlex input: patches row by row, each (row, column, channel)."""
    batch, channels, height, width = image.shape
    rows, columns = height // patch, width // patch
    patches = image.reshape(batch, channels, rows, patch, columns, patch).permute(0, 2, 4, 3, 5, 1)
    return {
        "pixel_values": patches.reshape(batch, rows * columns, -1),
        "pixel_attention_mask": torch.ones(batch, rows * columns, dtype=torch.int64),
        "spatial_shapes": torch.tensor([[rows, columns]] * batch),
    }


@torch.no_grad()
def errors(tower, reference, image, relative_error):
    """Relative error of every block, the last hidden state and the pooled output."""
    if isinstance(reference, Siglip2VisionModel):
        expected = reference(**patchified(image, reference.config.patch_size), output_hidden_states=True)
    else:
        expected = reference(image, interpolate_pos_encoding=True, output_hidden_states=True)
    last, blocks = tower.forward_intermediates(image, output_fmt="NLC")
    pairs = {f"block {i}": pair for i, pair in enumerate(zip(blocks, expected.hidden_states[1:], strict=True))}
    pairs["last_hidden_state"] = (last, expected.last_hidden_state)
    pairs["pooled"] = (tower.forward_head(last), expected.pooler_output)
    return {name: relative_error(*pair) for name, pair in pairs.items()}


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("kind", ["fixed", "naflex"])
def test_every_block_at_the_native_grid(kind, dtype, request, relative_error):
    path = request.getfixturevalue(kind)["vision"]
    found = errors(
        tower_at(path, dtype),
        reference_at(path, kind == "naflex", dtype),
        image_of((128, 128), dtype, batch=2),
        relative_error,
    )
    assert len(found) == 6
    assert max(found.values()) < ROUNDING[dtype], found


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_fixed_at_other_sizes_with_the_rule_of_transformers(fixed, size, dtype, relative_error):
    path = fixed["vision"]
    tower = tower_at(path, dtype, pos_interp="bicubic")
    found = errors(tower, reference_at(path, False, dtype), image_of(size, dtype), relative_error)
    assert max(found.values()) < ROUNDING[dtype], found


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_fixed_at_other_sizes_with_the_rule_of_timm(fixed, size, relative_error):
    tower = tower_at(fixed["vision"])
    args = {"img_size": 128, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3, "class_token": False}
    norm = timm.layers.LayerNorm
    theirs = VisionTransformer(
        **args, global_pool="map", num_classes=0, dynamic_img_size=True, act_layer="gelu_tanh", norm_layer=norm
    )
    theirs.double().eval().load_state_dict(tower.state_dict())
    with torch.no_grad():
        found = relative_error(tower(image_of(size)), theirs(image_of(size)))
    assert found < 5e-7  # timm resizes in float32


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_naflex_at_other_sizes(naflex, size, dtype, relative_error):
    path = naflex["vision"]
    found = errors(tower_at(path, dtype), reference_at(path, True, dtype), image_of(size, dtype), relative_error)
    assert max(found.values()) < FLOAT32_RESIZE[dtype], found


@pytest.mark.parametrize(
    ("name", "size"),
    [("siglip2_so400m_patch14_384", (384, 384)), ("siglip2_giant_opt_patch16_256", (64, 112))],
)
def test_published_widths_with_one_block(name, size, relative_error, scale_up, tmp_path):
    # heads of 72 and 96, an MLP of 4304, and 384 px that are 27 cells of 14 px
    variant = VARIANTS[name]
    config = {"hidden_size": variant.embed_dim, "intermediate_size": variant.mlp_dim, "num_hidden_layers": 1}
    config |= {"num_attention_heads": variant.num_heads, "patch_size": variant.patch_size}
    model = SiglipVisionModel(SiglipVisionConfig(**config, image_size=variant.img_size))
    scale_up(model).save_pretrained(tmp_path)
    tower = tower_at(tmp_path, pos_interp="bicubic")
    assert tower.table_grid == (variant.grid_size, variant.grid_size)
    found = errors(tower, reference_at(tmp_path, False), image_of(size), relative_error)
    assert len(found) == 3
    assert max(found.values()) < ROUNDING[torch.float64], found


@pytest.mark.parametrize("wrong", ["bicubic_antialias", "bilinear_antialias"])
def test_fixed_shows_a_wrong_position_rule(fixed, wrong, relative_error):
    tower = tower_at(fixed["vision"], pos_interp=wrong)
    for size in SIZES:
        assert max(errors(tower, reference_at(fixed["vision"], False), image_of(size), relative_error).values()) > 1e-2


@pytest.mark.parametrize("wrong", ["bicubic", "bicubic_antialias"])
def test_naflex_shows_a_wrong_position_rule(naflex, wrong, relative_error):
    tower = tower_at(naflex["vision"])
    tower.pos_interp = wrong  # the constructor refuses it
    for size in SIZES:
        assert max(errors(tower, reference_at(naflex["vision"], True), image_of(size), relative_error).values()) > 1e-2


def erf_gelu(tower):
    for block in (*tower.blocks, tower.attn_pool):
        block.mlp.act = nn.GELU()


def erf_gelu_in_the_head(tower):
    tower.attn_pool.mlp.act = nn.GELU()


def kernel_with_channels_first(tower):
    weight = tower.patch_embed.proj.weight.data
    weight.copy_(weight.permute(0, 2, 3, 1).reshape(weight.shape))


def kernel_transposed(tower):
    tower.patch_embed.proj.weight.data.copy_(tower.patch_embed.proj.weight.data.transpose(2, 3).clone())


def table_transposed(tower):
    table = tower.pos_embed.data.view(16, 16, -1)
    table.copy_(table.transpose(0, 1).clone())


def blue_before_red(tower):
    tower.patch_embed.proj.weight.data.copy_(tower.patch_embed.proj.weight.data.flip(1))


def permuted(parameter, order):
    parts = parameter.data.chunk(len(order))
    parameter.data.copy_(torch.cat([parts[i] for i in order]))


def query_and_key_swapped(tower):
    for parameter in tower.blocks[0].attn.qkv.parameters():
        permuted(parameter, (1, 0, 2))


def query_and_value_swapped(tower):
    for parameter in tower.blocks[0].attn.qkv.parameters():
        permuted(parameter, (2, 1, 0))


def key_and_value_of_the_head_swapped(tower):
    for parameter in tower.attn_pool.kv.parameters():
        permuted(parameter, (1, 0))


def head_on_tokens_without_norm(tower):
    tower.norm = nn.Identity()


def _head_with_residual(tower, residual):
    pool, seen = tower.attn_pool, {}
    pool.proj.register_forward_hook(lambda module, args, out: seen.update(attended=out[:, 0]))
    pool.register_forward_hook(lambda module, args, out: out - seen["attended"] + residual(seen["attended"]))


def residual_after_the_norm(tower):
    _head_with_residual(tower, tower.attn_pool.norm)


def no_residual(tower):
    _head_with_residual(tower, torch.zeros_like)


MISTAKES = [
    erf_gelu,
    erf_gelu_in_the_head,
    kernel_with_channels_first,
    kernel_transposed,
    table_transposed,
    blue_before_red,
    query_and_key_swapped,
    query_and_value_swapped,
    key_and_value_of_the_head_swapped,
    head_on_tokens_without_norm,
    residual_after_the_norm,
    no_residual,
]


@pytest.mark.parametrize("kind", ["fixed", "naflex"])
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_would_show(mistake, kind, request, relative_error):
    path = request.getfixturevalue(kind)["vision"]
    tower, image = tower_at(path), image_of((128, 128))
    reference = reference_at(path, kind == "naflex")
    assert max(errors(tower, reference, image, relative_error).values()) < 1e-13
    mistake(tower)
    assert max(errors(tower, reference, image, relative_error).values()) > 3e-5  # ten times the float32 tolerance


def test_a_wrong_epsilon_would_show(edited, relative_error):
    def faint(tensors):  # on tokens of size one, 1e-5 and 1e-6 are hard to tell apart
        return {name: t * (0.003 if "embeddings." in name else 1) for name, t in tensors.items()}

    path = edited(tensors=faint)
    tower, reference, image = tower_at(path), reference_at(path, False), image_of((128, 128))
    assert max(errors(tower, reference, image, relative_error).values()) < 1e-13
    for norm in (m for m in tower.modules() if isinstance(m, nn.LayerNorm)):
        norm.eps = 1e-5
    assert max(errors(tower, reference, image, relative_error).values()) > 1e-2


@pytest.fixture(scope="module", params=["fixed", "naflex"])
def base(request, tmp_path_factory, scale_up):
    """A checkpoint of true base size as google publishes it: sparse config.json, whole model, float32."""
    naflex = request.param == "naflex"
    model = Siglip2VisionModel(Siglip2VisionConfig()) if naflex else SiglipVisionModel(SiglipVisionConfig())
    tensors = {f"vision_model.{name}": t for name, t in scale_up(model).state_dict().items()}
    others = {"text_model.head.bias": torch.zeros(3), "logit_scale": torch.ones(1), "logit_bias": torch.ones(1)}
    folder = tmp_path_factory.mktemp("base")
    save_file(tensors | others, folder / "model.safetensors")
    family = "siglip2" if naflex else "siglip"
    config = {
        "initializer_factor": 1.0,
        "model_type": family,
        "text_config": {"model_type": f"{family}_text_model", "vocab_size": 256000},
        "transformers_version": "4.49.0.dev0",
        "vision_config": {"model_type": f"{family}_vision_model"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    yield folder, naflex, model
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
def test_every_block_at_true_base_size(base, dtype, relative_error):
    path, naflex, reference = base
    tower, side = tower_at(path, dtype), 256 if naflex else 224
    reference.to(dtype).set_attn_implementation("sdpa")
    assert tower.pretrained_cfg["architecture"] == f"siglip2_base_patch16_{'naflex' if naflex else 224}"
    found = errors(tower, reference, image_of((side, side), dtype), relative_error)
    assert len(found) == 14
    assert max(found.values()) < ROUNDING[dtype], found
    tower.pos_interp = "bilinear_antialias" if naflex else "bicubic"
    found = errors(tower, reference, image_of((160, 288), dtype), relative_error)
    assert max(found.values()) < (FLOAT32_RESIZE if naflex else ROUNDING)[dtype], found
