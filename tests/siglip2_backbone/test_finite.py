import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from siglip2_backbone import create_backbone
from siglip2_backbone.conversion import convert
from siglip2_backbone.finite import is_finite, refuse_not_finite
from siglip2_backbone.onnx_export import export_onnx

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_one_value_that_is_not_finite_is_seen(dtype):
    for wrong in ([NAN], [INF], [-INF], [INF, -INF]):
        values = torch.full((3, 1000), torch.finfo(dtype).max, dtype=dtype)  # whose sum is infinite
        assert is_finite(values) and is_finite(-values)
        values[1, 7 : 7 + len(wrong)] = torch.tensor(wrong, dtype=dtype)
        assert not is_finite(values)


def test_what_has_no_such_values_is_finite():
    assert is_finite(torch.tensor([1, 2])) and is_finite(torch.tensor([])) and is_finite(torch.rand(3, device="meta"))


def test_five_tensors_are_named():
    tensors = {f"t{i}": torch.tensor(NAN) for i in range(7)} | {"good": torch.ones(3)}
    with pytest.raises(ValueError, match=r"file: values .* in t0, t1, t2, t3, t4 and 2 more; expected .* Do this\.$"):
        refuse_not_finite(tensors, "file", "Do this.")


def with_value(path, folder, name, value):
    """A copy of a directory, one value of one tensor of which is another."""
    shutil.copytree(path, folder)
    tensors = load_file(folder / "model.safetensors")
    stored = next(key for key in tensors if key.endswith(name))
    tensors[stored].view(-1)[3] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


NAMES = ["layers.1.self_attn.k_proj.weight", "head.attention.in_proj_bias", "head.probe", "patch_embedding.weight"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["fixed", "naflex"])
def test_transformers_weights_are_refused_by_the_files_name(kind, name, request, tmp_path):
    path = with_value(request.getfixturevalue(kind)["whole"], tmp_path / "spoilt", name, INF)
    for load in (lambda: create_backbone(path, pooled=True), lambda: convert(path, tmp_path / "out", "timm")):
        with pytest.raises(ValueError, match=rf"spoilt: tensor \S*{name} holds inf in 1 of \d+ values"):
            load()
    assert not (tmp_path / "out").exists()


def test_timms_weights_are_refused(fixed, tmp_path):
    convert(fixed["vision"], tmp_path / "timm", "timm")
    path = with_value(tmp_path / "timm", tmp_path / "spoilt", "blocks.2.mlp.fc1.bias", NAN)
    with pytest.raises(ValueError, match=r"tensor blocks\.2\.mlp\.fc1\.bias holds nan"):
        create_backbone(path)


@pytest.mark.parametrize(("way", "name"), [("npz", "key/kernel of block 2"), ("npz numbered", "block_2/.*key/kernel")])
def test_big_visions_weights_are_refused(fixed, tmp_path, way, name):
    with np.load(fixed[way]) as stored:
        arrays = dict(stored)
    numbered = way == "npz numbered"
    array = next(k for k in arrays if k.endswith("key/kernel") and "MAP" not in k and (not numbered or "block_2" in k))
    (arrays[array] if numbered else arrays[array][2]).flat[0] = -INF
    np.savez(tmp_path / "spoilt.npz", **arrays)
    with pytest.raises(ValueError, match=rf"tensor \S*{name} holds -inf in 1 of"):
        create_backbone(tmp_path / "spoilt.npz")


def test_weights_beyond_the_type_that_is_asked_for_are_refused(fixed, tmp_path):
    path = with_value(fixed["vision"], tmp_path / "large", "post_layernorm.weight", 1e5)
    create_backbone(path)
    with pytest.raises(ValueError, match=r"post_layernorm\.weight holds inf .* read as torch\.float16.*as float32"):
        create_backbone(path, dtype=torch.float16)


def test_no_graph_is_made_of_weights_that_are_not_finite(fixed, tmp_path):
    features = create_backbone(fixed["vision"])
    features.model.pos_embed.data[0, 0, 0] = NAN
    with pytest.raises(ValueError, match=r"not a number in model\.pos_embed"):
        export_onnx(features, tmp_path / "tower.onnx")
    assert not any(tmp_path.iterdir())


def test_a_saved_backbone_of_transformers_is_refused(tmp_path):
    from siglip2_backbone.huggingface import Siglip2Backbone, Siglip2BackboneConfig

    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 24}
    Siglip2Backbone(Siglip2BackboneConfig(**sizes, patch_size=8, image_size=32)).save_pretrained(tmp_path / "saved")
    path = with_value(tmp_path / "saved", tmp_path / "spoilt", "tower.norm.bias", NAN)
    assert json.loads((path / "config.json").read_text())["hidden_size"] == 24
    with pytest.raises(ValueError, match=r"spoilt: values .* in tower\.norm\.bias"):
        Siglip2Backbone.from_pretrained(path)
