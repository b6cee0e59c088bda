import numpy as np
import pytest
import timm
import torch
from transformers import SiglipVisionConfig, SiglipVisionModel

from siglip2_backbone import VARIANTS, create_backbone, fingerprint
from siglip2_backbone.checkpoints import big_vision_format, variant_of
from siglip2_backbone.checkpoints.big_vision_format import layout
from siglip2_backbone.checkpoints.sources import CheckpointFiles, open_files
from siglip2_backbone.checkpoints.timm_format import expected_shapes

WAYS = ["npz", "npz numbered", "npz tower"]
STACKED = "Transformer/encoderblock"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["fixed", "naflex"])
def test_the_tower_is_that_of_the_safetensors_file(kind, way, request):
    paths = request.getfixturevalue(kind)
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    found, expected = (create_backbone(paths[name], pooled=True).eval() for name in (way, "whole"))
    assert fingerprint(found) == fingerprint(expected)
    assert found.model.pos_interp == expected.model.pos_interp
    with torch.no_grad():
        assert torch.equal(found.forward_pooled(image)[1], expected.forward_pooled(image)[1])


@pytest.mark.parametrize(
    ("kind", "name"), [("fixed", "vit_base_patch16_siglip_256"), ("naflex", "naflexvit_base_patch16_siglip")]
)
def test_timm_reads_the_same_numbers(kind, name, request, relative_error):
    paths = request.getfixturevalue(kind)
    sizes = {"patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3} | (
        {"img_size": 128} if kind == "fixed" else {}
    )
    theirs = timm.create_model(name, act_layer="gelu_tanh", **sizes)
    theirs.load_pretrained(str(paths["npz"]))
    ours = create_backbone(paths["npz"], pooled=True, dtype=torch.float64).model.eval()
    image = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        assert relative_error(ours(image), theirs.double().eval()(image)) < 1e-13


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda v: v.name)
def test_every_array_is_taken_once_and_fills_every_one_of_ours(variant, stacked):
    found = layout(variant, [f"{STACKED}/x"] if stacked else [])
    assert {name: sum(_elements(found, p) for p in parts) for name, parts in found.parts.items()} == {
        name: torch.Size(shape).numel() for name, shape in expected_shapes(variant).items()
    }
    taken = [(p.name, p.layer) for parts in found.parts.values() for p in parts]
    assert len(set(taken)) == len(taken)
    assert {name for name, _ in taken} == found.shapes.keys()


def _elements(found, part):
    shape = found.shapes[part.name]
    return torch.Size(shape if part.layer is None else shape[1:]).numel()


@pytest.mark.parametrize("variant", [v for v in VARIANTS.values() if v.hub_id], ids=lambda v: v.name)
def test_the_shapes_tell_every_published_architecture(variant):
    class Array:
        def __init__(self, shape):
            self.shape = shape

    files = CheckpointFiles("x.npz", {k: Array(s) for k, s in layout(variant, [f"{STACKED}/x"]).shapes.items()}, None)
    assert big_vision_format.variant_of(files) is variant


def _reduced(folder, big_vision, scale_up, **sizes):
    """One block of a published size, random, in transformers and as an npz file."""
    config = SiglipVisionConfig(num_hidden_layers=1, num_attention_heads=16, **sizes)
    model = scale_up(SiglipVisionModel(config))
    model.save_pretrained(folder)
    np.savez(folder / "x.npz", **{f"params/img/{k}": v for k, v in big_vision(model).items()})
    return model.double()


@pytest.mark.parametrize(
    ("sizes", "native"),
    [
        ({"hidden_size": 1152, "intermediate_size": 4304, "patch_size": 14, "image_size": 384}, (384, 384)),
        ({"hidden_size": 1536, "intermediate_size": 6144, "patch_size": 16, "image_size": 64}, (64, 64)),
    ],
    ids=["so400m/14-384", "giant-opt"],
)
def test_odd_sizes_at_one_block(sizes, native, tmp_path, big_vision, scale_up, relative_error):
    theirs = _reduced(tmp_path, big_vision, scale_up, **sizes)
    theirs.set_attn_implementation("sdpa")
    ours = create_backbone(tmp_path / "x.npz", pooled=True, dtype=torch.float64).model.eval()
    assert ours.patch_embed.img_size == native
    assert ours.blocks[0].attn.head_dim == sizes["hidden_size"] // 16
    image = torch.randn(1, 3, *native, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        assert relative_error(ours(image), theirs(image).pooler_output) < 1e-13
    assert fingerprint(create_backbone(tmp_path, pooled=True)) == fingerprint(
        create_backbone(tmp_path / "x.npz", pooled=True)
    )


def test_other_types_and_column_major_arrays(fixed, tmp_path):
    arrays = dict(np.load(fixed["npz"]))
    half = create_backbone(fixed["whole"], pooled=True, dtype=torch.bfloat16)
    narrow = {k: torch.from_numpy(v).bfloat16().view(torch.int16).numpy().view("V2") for k, v in arrays.items()}
    np.savez(tmp_path / "bfloat16.npz", **narrow)
    assert fingerprint(create_backbone(tmp_path / "bfloat16.npz", pooled=True, dtype=torch.bfloat16)) == fingerprint(
        half
    )
    np.savez(tmp_path / "column.npz", **{k: np.asfortranarray(v) for k, v in arrays.items()})
    found = create_backbone(tmp_path / "column.npz", pooled=True)
    assert fingerprint(found) == fingerprint(create_backbone(fixed["whole"], pooled=True))


def test_blocks_that_are_not_used_are_not_read(fixed):
    maps = create_backbone(fixed["npz"], out_indices=[1])
    whole = create_backbone(fixed["whole"])
    assert len(maps.model.blocks) == 2
    assert fingerprint(maps) == fingerprint(whole, names=maps.model.state_dict())


@pytest.fixture
def changed(fixed, tmp_path):
    def write(edit):
        path = tmp_path / "changed.npz"
        np.savez(path, **edit(dict(np.load(fixed["npz"]))))
        return path

    return write


def refused(path, *expected):
    with pytest.raises(ValueError) as caught:
        create_backbone(path)
    for part in (str(path), *expected):
        assert part in str(caught.value), str(caught.value)


QUERY = f"params/img/{STACKED}/MultiHeadDotProductAttention_0/query/kernel"
HEAD = "params/img/MAPHead_0/MlpBlock_0/Dense_0"


@pytest.mark.parametrize(
    "name", ["params/img/Transformer/encoder_norm/scale", f"{HEAD}/bias", QUERY.replace("query", "key")]
)
def test_a_missing_array_is_refused(changed, name):
    path = changed(lambda arrays: {k: v for k, v in arrays.items() if k != name})
    refused(path, f"1 missing tensors: {name.removeprefix('params/img/')}", "siglip2_tiny_patch8_128")


@pytest.mark.parametrize("name", [QUERY, f"{HEAD}/kernel", "params/img/pos_embedding"])
def test_an_array_that_tells_the_architecture_is_refused_when_missing(changed, name):
    path = changed(lambda arrays: {k: v for k, v in arrays.items() if k != name})
    refused(path, "has no array", "with its MAP head", "siglip2-base-patch16-256-jax")


@pytest.mark.parametrize("name", ["params/img/surplus", "params/bogus", f"params/img/{STACKED}/LayerNorm_2/scale"])
def test_a_surplus_array_is_refused(changed, name):
    refused(
        changed(lambda arrays: arrays | {name: np.zeros(3, np.float32)}), "1 unexpected tensors", name.split("/")[-1]
    )


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        (QUERY, (4, 96, 4, 24), "kernel has shape (3, 32, 96); expected (4, 24, 96)"),
        (QUERY, (96, 3, 32), "shapes that no SigLIP tower has"),
        (QUERY, (4, 96, 5, 19), "shapes that no SigLIP tower has"),
        ("params/img/embedding/kernel", (0, 0, 3, 96), "shapes that no SigLIP tower has"),
        ("params/img/embedding/kernel", (8, 4, 3, 96), "embedding/kernel has shape (8, 4, 3, 96)"),
        ("params/img/pos_embedding", (256, 96), "shapes that no SigLIP tower has"),
        ("params/img/pos_embedding", (1, 255, 96), "pos_embedding has shape (1, 255, 96); expected (1, 225, 96)"),
        (f"{HEAD}/bias", (383,), "Dense_0/bias has shape (383,); expected (384,)"),
    ],
)
def test_a_wrong_shape_is_refused(changed, name, shape, expected):
    refused(changed(lambda arrays: arrays | {name: np.zeros(shape, np.float32)}), expected)


def test_whole_numbers_are_refused(changed):
    path = changed(lambda arrays: arrays | {f"{HEAD}/bias": np.zeros(384, np.int32)})
    refused(path, "MAPHead_0/MlpBlock_0/Dense_0/bias is stored as <i4; expected one of F64, F32, F16, BF16")


def test_the_text_tower_alone_is_refused(changed):
    path = changed(lambda arrays: {k: v for k, v in arrays.items() if "/img/" not in k})
    refused(path, "no vision tensors (found only params)", "'params/img/'")


def test_another_family_is_refused(tmp_path):
    np.savez(tmp_path / "vit.npz", **{"cls": np.zeros((1, 1, 8)), "embedding/kernel": np.zeros((4, 4, 3, 8))})
    refused(tmp_path / "vit.npz", "a checkpoint of a ViT with a class token", "it has cls")


def test_the_whole_model_is_known_by_its_name_in_timm(fixed):
    tower = timm.create_model(
        "siglip2_tiny_patch8_128", pretrained=True, pretrained_cfg_overlay={"file": str(fixed["npz"])}
    )
    assert fingerprint(tower) == fingerprint(create_backbone(fixed["whole"], pooled=True))
    assert variant_of(open_files(fixed["npz"])).name == "siglip2_tiny_patch8_128"
