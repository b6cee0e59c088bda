import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from siglip2_backbone import create_backbone, verification
from siglip2_backbone.checkpoints import transformers_format
from siglip2_backbone.conversion import convert
from siglip2_backbone.verification import Difference, verify

OUTPUTS = ["embeddings", "block 0", "block 1", "block 2", "block 3", "last hidden state", "pooled"]
kinds = pytest.mark.parametrize("kind", ["fixed", "naflex"])


@pytest.mark.parametrize("way", ["whole", "sharded", "other prefix", "npz", "timm"])
@kinds
def test_every_way_of_writing_agrees(kind, way, request, tmp_path):
    paths = request.getfixturevalue(kind)
    if way == "timm":
        convert(paths["whole"], tmp_path / "timm", "timm")
    found = verify(paths.get(way, tmp_path / "timm"))
    assert [d.output for d in found] == OUTPUTS * 2
    assert [d.size for d in found] == [(128, 128)] * 7 + [(96, 160)] * 7
    assert all(d.agrees and d.rel_l2 < d.tolerance for d in found)
    assert [d.tolerance for d in found] == [1e-13] * 7 + [5e-7 if kind == "naflex" else 1e-13] * 7
    assert any(d.max_abs for d in found)


@kinds
def test_in_float32_the_tolerance_is_that_of_float32(kind, request):
    found = verify(request.getfixturevalue(kind)["whole"], dtype=torch.float32)
    assert all(d.agrees and d.tolerance == 3e-6 for d in found)


def test_a_lone_file_agrees(fixed):
    assert all(d.agrees for d in verify(fixed["lone file"], size=(8, 200)))


def test_a_table_stored_in_float64_is_compared_as_transformers_resizes_it(naflex, tmp_path):
    tensors = {k: t.double() for k, t in load_file(naflex["vision"] / "model.safetensors").items()}
    generator = torch.Generator().manual_seed(0)
    tensors = {k: t + 1e-4 * torch.randn(t.shape, generator=generator, dtype=t.dtype) for k, t in tensors.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((naflex["vision"] / "config.json").read_text())
    found = verify(tmp_path)
    assert max(d.rel_l2 for d in found[:7]) > 1e-13
    assert all(d.agrees for d in found)


def erf_gelu(tower):
    for block in (*tower.blocks, tower.attn_pool):
        block.mlp.act = nn.GELU()


def erf_gelu_in_the_head(tower):
    tower.attn_pool.mlp.act = nn.GELU()


def another_kernel(tower):
    tower.patch_embed.proj.weight.data.copy_(tower.patch_embed.proj.weight.data.transpose(2, 3).clone())


def another_rule(tower):
    tower.pos_interp = "bicubic_antialias"


def not_a_number(tower):
    tower.norm.bias.data[3] = torch.nan


@pytest.mark.parametrize(
    ("mistake", "first", "sizes"),
    [
        (erf_gelu, "block 0", {(128, 128), (96, 160)}),
        (erf_gelu_in_the_head, "pooled", {(128, 128), (96, 160)}),
        (another_kernel, "embeddings", {(128, 128), (96, 160)}),
        (another_rule, "embeddings", {(96, 160)}),
        (not_a_number, "last hidden state", {(128, 128), (96, 160)}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize(("kind", "dtype"), [("fixed", torch.float64), ("naflex", torch.float32)], ids=str)
def test_a_wrong_tower_is_found_out(kind, dtype, mistake, first, sizes, request, monkeypatch):
    build = verification.build_tower

    def wrong(*args, **kwargs):
        tower = build(*args, **kwargs)
        mistake(tower)
        return tower

    monkeypatch.setattr(verification, "build_tower", wrong)
    found = [d for d in verify(request.getfixturevalue(kind)["whole"], dtype=dtype) if not d.agrees]
    assert found[0].output == first
    assert {d.size for d in found} == sizes


def test_a_tensor_read_wrongly_is_found_out(fixed, monkeypatch):
    """Both sides read google's files by themselves, so a wrong map does not cancel."""

    def swapped(depth, key_map=transformers_format.key_map):
        parts = key_map(depth)
        q, k, v = parts["blocks.2.attn.qkv.weight"]
        return parts | {"blocks.2.attn.qkv.weight": [k, q, v]}

    monkeypatch.setattr(transformers_format, "key_map", swapped)
    assert next(d for d in verify(fixed["whole"]) if not d.agrees).output == "block 2"


def test_what_is_not_a_number_does_not_agree():
    assert Difference("pooled", (8, 8), 0.0, 1e-13, 1e-13).agrees
    assert not Difference("pooled", (8, 8), 0.0, float("nan"), 1e-13).agrees


@pytest.mark.parametrize("size", [(100, 96), (0, 96), (96,), (96, 96, 96)], ids=str)
def test_sizes_that_transformers_would_cut_are_refused(fixed, size):
    with pytest.raises(ValueError, match=r"size is \[.*\]; expected height and width, multiples of 8 px"):
        verify(fixed["whole"], size=size)


def test_one_column_of_a_naflex_map_is_refused(naflex):
    with pytest.raises(ValueError, match=r"size is \[96, 8\]; expected at least 16 px of width"):
        verify(naflex["whole"], size=(96, 8))


def test_other_types_are_refused(fixed):
    with pytest.raises(ValueError, match=r"dtype is torch.bfloat16; expected torch\.float64 or torch\.float32"):
        verify(fixed["whole"], dtype=torch.bfloat16)


def test_heads_of_96_and_27_cells_agree(tmp_path, scale_up):
    for name, sizes in {
        "so400m": {"hidden_size": 1152, "intermediate_size": 4304, "patch_size": 14, "image_size": 384},
        "giant": {"hidden_size": 1536, "intermediate_size": 6144, "patch_size": 16, "image_size": 64},
    }.items():
        config = SiglipVisionConfig(num_hidden_layers=1, num_attention_heads=16, **sizes)
        scale_up(SiglipVisionModel(config)).save_pretrained(tmp_path / name)
        found = verify(tmp_path / name)
        assert all(d.agrees for d in found), found
        assert found[0].size == (sizes["image_size"],) * 2
    assert create_backbone(tmp_path / "giant").model.blocks[0].attn.head_dim == 96


def test_importing_it_does_not_import_transformers():
    code = (
        "import siglip2_backbone.verification, siglip2_backbone.conversion, sys; print('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


def test_the_config_of_the_checkpoint_is_what_transformers_gets(edited):
    path = edited(config=lambda config: config | {"num_attention_heads": 4})
    assert all(d.agrees for d in verify(path))  # both have four heads
    assert json.loads((path / "config.json").read_text())["num_attention_heads"] == 4
