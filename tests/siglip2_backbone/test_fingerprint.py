import hashlib
import json

import pytest
import timm
import torch
from safetensors.torch import load_file

from siglip2_backbone import create_backbone, fingerprint
from siglip2_backbone.conversion import convert

KINDS = ["sharded", "vision", "other prefix", "sparse", "file beside its config", "lone file", "npz", "npz numbered"]


@pytest.mark.parametrize("kind", KINDS)
def test_equal_for_every_file_of_the_same_weights(fixed, kind):
    expected = fingerprint(create_backbone(fixed["whole"], pooled=True))
    assert fingerprint(create_backbone(fixed[kind], pooled=True)) == expected


@pytest.mark.parametrize("kind", ["fixed", "naflex"])
def test_equal_in_the_formats_of_google_timm_and_big_vision(kind, request, tmp_path):
    paths = request.getfixturevalue(kind)
    convert(paths["whole"], tmp_path / "timm", "timm")
    sources = (paths["whole"], tmp_path / "timm", paths["npz"])
    assert len({fingerprint(create_backbone(source, pooled=True)) for source in sources}) == 1


def test_equal_for_the_tower_however_it_is_built(fixed):
    overlay = {"file": str(fixed["whole"])}
    tower = timm.create_model("siglip2_tiny_patch8_128", pretrained=True, pretrained_cfg_overlay=overlay)
    assert fingerprint(tower) == fingerprint(create_backbone(fixed["vision"], pooled=True, img_size=64))


@pytest.mark.parametrize("tensor", ["head.probe", "embeddings.position_embedding.weight", "post_layernorm.bias"])
def test_one_element_changes_it(fixed, edited, tensor):
    def nudge(tensors):
        name = next(name for name in tensors if name.endswith(tensor))
        value = tensors[name].clone()
        value.view(-1)[-1] = torch.nextafter(value.view(-1)[-1], torch.tensor(9.0))
        return tensors | {name: value}

    before = fingerprint(create_backbone(edited(), pooled=True))
    assert before == fingerprint(create_backbone(fixed["vision"], pooled=True))
    assert fingerprint(create_backbone(edited(tensors=nudge), pooled=True)) != before


def test_names_shapes_and_types_count():
    values = torch.ones(2, 3)
    same = fingerprint(holding("a", values))
    assert fingerprint(holding("a", values.clone())) == same
    others = [holding("b", values), holding("a", values.reshape(3, 2)), holding("a", values.int())]
    assert len({same, *map(fingerprint, others)}) == 4


def holding(name, values):
    module = torch.nn.Module()
    module.register_buffer(name, values)
    return module


def test_it_is_the_sha256_that_the_documentation_promises():
    module = torch.nn.Module()
    module.b, module.a = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.zeros(1, 1))
    text = b"a torch.float32 (1, 1) " + bytes(4) + b"b torch.float32 (2,) " + module.b.detach().numpy().tobytes()
    assert fingerprint(module) == hashlib.sha256(text).hexdigest()


def test_the_layout_in_memory_does_not_count(fixed):
    tower = create_backbone(fixed["vision"], pooled=True)
    before = fingerprint(tower)
    assert fingerprint(tower.to(memory_format=torch.channels_last)) == before


def test_the_part_that_two_towers_share(fixed):
    whole = create_backbone(fixed["whole"], pooled=True)
    maps = create_backbone(fixed["whole"], out_indices=[1])
    shared = list(maps.model.state_dict())
    assert fingerprint(maps) == fingerprint(maps.model) == fingerprint(whole, names=shared)
    assert fingerprint(maps) != fingerprint(whole)


def test_a_name_that_is_not_there_is_refused(fixed):
    with pytest.raises(ValueError, match=r"has no tensor blocks\.9\.norm1\.weight.*such as pos_embed"):
        fingerprint(create_backbone(fixed["vision"]), names=["blocks.9.norm1.weight"])


def test_a_tower_without_values_is_refused():
    with pytest.raises(ValueError, match="meta device"):
        fingerprint(timm.create_model("siglip2_tiny_patch8_128", device="meta"))


def test_fixed_and_naflex_weights_that_are_equal_have_one_fingerprint(fixed, edited):
    def linear(tensors):
        name = next(name for name in tensors if name.endswith("patch_embedding.weight"))
        return tensors | {name: tensors[name].permute(0, 2, 3, 1).flatten(1).contiguous()}

    def naflex(config):
        return json.loads(json.dumps(config).replace("siglip_vision", "siglip2_vision")) | {"num_patches": 256}

    path = edited(tensors=linear, config=naflex)
    assert load_file(path / "model.safetensors")  # readable by the library too
    assert fingerprint(create_backbone(path, pooled=True)) == fingerprint(create_backbone(fixed["whole"], pooled=True))
