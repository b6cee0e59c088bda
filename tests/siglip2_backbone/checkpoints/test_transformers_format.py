import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from siglip2_backbone import VARIANTS, Siglip2VisionTransformer, create_backbone
from siglip2_backbone.checkpoints import Checkpoint, variant_of
from siglip2_backbone.checkpoints.sources import CheckpointFiles, open_files
from siglip2_backbone.checkpoints.transformers_format import expected_shapes, key_map
from siglip2_backbone.variants import TINY

PATCH = "embeddings.patch_embedding.weight"
variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda v: v.name)


def tensors_of(path):
    """The vision tensors of a file, by the name without prefix."""
    return {
        name.removeprefix("vision_model."): tensor
        for name, tensor in load_file(path).items()
        if not name.startswith(("text_model.", "logit_"))
    }


@variants
def test_every_tensor_of_transformers_is_expected_with_its_shape(variant, transformers_twin):
    theirs = {name: tuple(t.shape) for name, t in transformers_twin(variant).state_dict().items()}
    assert expected_shapes(variant) == theirs


@variants
def test_the_key_map_takes_every_tensor_once_and_fills_every_one_of_ours(variant):
    shapes, thirds = expected_shapes(variant), {}
    with torch.device("meta"):
        ours = Siglip2VisionTransformer(
            native_size=variant.img_size,
            patch_size=variant.patch_size,
            embed_dim=variant.embed_dim,
            depth=variant.depth,
            num_heads=variant.num_heads,
            mlp_dim=variant.mlp_dim,
        ).state_dict()
    keys = key_map(variant.depth)
    assert keys.keys() == ours.keys()
    for name, parts in keys.items():
        sizes = [torch.Size(shapes[p.name]).numel() * (p.thirds[1] - p.thirds[0]) // 3 for p in parts]
        assert sum(sizes) == ours[name].numel(), name
        for part in parts:
            thirds.setdefault(part.name, []).extend(range(*part.thirds))
    assert thirds == {name: [0, 1, 2] for name in shapes}


@pytest.mark.parametrize("vision_only", [False, True])
@variants
def test_a_sparse_config_is_filled_in(variant, vision_only, transformers_twin):
    family = "siglip2" if variant.naflex else "siglip"
    vision = transformers_twin(variant).config.to_diff_dict() | {"model_type": f"{family}_vision_model"}
    vision.pop("image_size" if variant.naflex else "num_patches", None)
    whole = {"model_type": family, "vision_config": vision}
    found = variant_of(CheckpointFiles("somewhere", {}, vision if vision_only else whole))
    assert found is variant if variant is not TINY else found.same_architecture(TINY)


def test_the_config_of_base_224_may_be_empty():
    assert variant_of(CheckpointFiles("", {}, {"model_type": "siglip"})).name == "siglip2_base_patch16_224"
    assert variant_of(CheckpointFiles("", {}, {"model_type": "siglip2"})).name == "siglip2_base_patch16_naflex"


def files_like(variant):
    """Headers alone: what a file of this architecture without config would hold."""

    class Shape:
        dtype = "F32"

        def __init__(self, shape):
            self.shape = shape

    return CheckpointFiles("lone.safetensors", {k: Shape(s) for k, s in expected_shapes(variant).items()}, None)


@variants
def test_a_file_without_config_is_known_by_its_shapes(variant):
    assert variant_of(files_like(variant)) is variant


WAYS = ["whole", "sharded", "vision", "other prefix", "sparse", "file beside its config"]


@pytest.mark.parametrize(
    ("kind", "way"), [*((k, w) for k in ("fixed", "naflex") for w in WAYS), ("fixed", "lone file")]
)
def test_every_way_of_writing_gives_the_same_weights(kind, way, request):
    paths = request.getfixturevalue(kind)
    theirs = tensors_of(paths["whole"] / "model.safetensors")
    ours = create_backbone(paths[way], pooled=True).model.state_dict()
    if kind == "naflex":
        theirs[PATCH] = theirs[PATCH].view(96, 8, 8, 3).permute(0, 3, 1, 2)
    for name, parts in key_map(4).items():
        values = [
            torch.cat(theirs[p.name].chunk(3)[slice(*p.thirds)]) if p.thirds != (0, 3) else theirs[p.name]
            for p in parts
        ]
        assert torch.equal(ours[name], torch.cat(values).reshape(ours[name].shape)), name


@pytest.mark.parametrize("into", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["fixed", "naflex"])
def test_files_of_other_types(kind, stored, into, request, tmp_path):
    source = request.getfixturevalue(kind)["vision"]
    shutil.copy(source / "config.json", tmp_path)
    tensors = {name: t.to(stored) for name, t in load_file(source / "model.safetensors").items()}
    save_file(tensors, tmp_path / "model.safetensors")
    found = create_backbone(tmp_path, pooled=True, dtype=into).model.state_dict()
    for name, value in create_backbone(source, pooled=True).model.state_dict().items():
        assert torch.equal(found[name], value.to(stored).to(into)), name


def test_the_text_tower_is_not_read(fixed, tmp_path):
    shutil.copytree(fixed["whole"], tmp_path, dirs_exist_ok=True)
    tensors = load_file(fixed["whole"] / "model.safetensors")
    text = {name: torch.zeros(1, dtype=torch.int8) for name in tensors if name.startswith("text_model.")}
    assert text
    save_file(tensors | text, tmp_path / "model.safetensors")
    create_backbone(tmp_path)


def test_blocks_that_are_not_used_are_checked_but_not_read(fixed, edited):
    path = edited()
    maps = create_backbone(path, out_indices=[0])
    assert len(maps.model.blocks) == 1
    assert torch.equal(maps.model.pos_embed, create_backbone(fixed["vision"]).model.pos_embed)
    last = "encoder.layers.3.layer_norm1.bias"
    with pytest.raises(ValueError, match=last.replace(".", r"\.")):
        create_backbone(edited(tensors=lambda t: {k: v for k, v in t.items() if not k.endswith(last)}), out_indices=[0])


def test_a_loaded_tower_is_trainable_and_owns_its_weights(fixed):
    one, other = create_backbone(fixed["vision"]), create_backbone(fixed["vision"])
    assert all(p.requires_grad and p.is_leaf and not p.is_meta for p in one.parameters())
    with torch.no_grad():
        one.model.pos_embed.zero_()
    assert other.model.pos_embed.any()


def refused(path, *expected):
    with pytest.raises(ValueError) as caught:
        create_backbone(path)
    for part in (str(path), *expected):
        assert part in str(caught.value), str(caught.value)


def without(name):
    return lambda tensors: {k: v for k, v in tensors.items() if not k.endswith(name)}


def replaced(name, edit):
    return lambda tensors: {k: edit(v).contiguous() if k.endswith(name) else v for k, v in tensors.items()}


def test_a_missing_tensor_is_refused(edited):
    path = edited(tensors=without("head.probe"))
    refused(path, "1 missing tensors: head.probe", "width 96, 4 blocks, patch 8, 128 px", "config.json")


def test_a_missing_tensor_of_a_lone_file_is_refused(edited):
    path = edited(tensors=without("layers.1.mlp.fc1.bias"))
    (path / "config.json").unlink()
    file = path / "model.safetensors"
    refused(file, "missing tensors: encoder.layers.1.mlp.fc1.bias", "siglip2_tiny_patch8_128", "Without a config.json")


def test_many_missing_tensors_are_counted(edited):
    refused(edited(tensors=without("bias")), "39 missing tensors: embeddings.patch_embedding.bias", "and 34 more")


@pytest.mark.parametrize("name", ["head.surplus", "encoder.layers.4.mlp.fc1.bias"])
def test_a_surplus_tensor_is_refused(edited, name):
    def added(tensors):
        prefix = "vision_model." if next(iter(tensors)).startswith("vision_model.") else ""
        return tensors | {prefix + name: torch.zeros(3)}

    refused(edited(tensors=added), f"1 unexpected tensors: {name}", "Expected exactly the tensors of siglip2_tiny")


def test_a_tensor_from_elsewhere_is_refused(fixed, tmp_path):
    shutil.copytree(fixed["whole"], tmp_path, dirs_exist_ok=True)
    tensors = load_file(fixed["whole"] / "model.safetensors")
    save_file(tensors | {"visual_projection.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    refused(tmp_path, "unexpected tensors: visual_projection.weight", "'vision_model.'")


def test_a_wrong_shape_is_refused(edited):
    path = edited(tensors=replaced("encoder.layers.2.mlp.fc2.weight", lambda t: t[:, :-1]))
    refused(path, "encoder.layers.2.mlp.fc2.weight has shape (96, 383); expected (96, 384)", "siglip2_tiny")


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64], ids=str)
def test_a_quantised_tensor_is_refused(edited, dtype):
    path = edited(tensors=replaced("layers.0.self_attn.q_proj.weight", lambda t: t.to(dtype)))
    name = "encoder.layers.0.self_attn.q_proj.weight"
    refused(path, f"{name} is stored as {'I8' if dtype == torch.int8 else 'I64'}; expected one of F64, F32, F16, BF16")


def test_a_file_of_the_text_tower_is_refused(fixed, tmp_path):
    shutil.copy(fixed["whole"] / "config.json", tmp_path)
    tensors = load_file(fixed["whole"] / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if k.startswith("text_model.")}, tmp_path / "model.safetensors")
    for path in (tmp_path, tmp_path / "model.safetensors"):
        refused(path, "no vision tensors (found only text_model)", "Pass the file of the whole model")


def test_an_empty_file_is_refused(edited):
    path = edited(tensors=lambda tensors: {})
    refused(path, "no vision tensors (found only nothing)")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(edited, share):
    path = edited()
    file = path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    refused(path, "model.safetensors is", "truncated" if share > 0.1 else "not a complete safetensors file")


SETTINGS = [
    ({"num_hidden_layers": 5}, "missing tensors: encoder.layers.4"),
    ({"num_hidden_layers": 3}, "unexpected tensors: encoder.layers.3"),
    ({"hidden_size": 192}, "has shape (96, 3, 8, 8); expected (192, 3, 8, 8)"),
    ({"intermediate_size": 400}, "has shape (384, 96); expected (400, 96)"),
    ({"patch_size": 16}, "expected (96, 3, 16, 16)"),
    ({"image_size": 256}, "embeddings.position_embedding.weight has shape (256, 96); expected (1024, 96)"),
    ({"model_type": "siglip2_vision_model"}, "has shape (96, 3, 8, 8); expected (96, 192)"),
    ({"hidden_act": "gelu"}, "hidden_act = 'gelu'; SigLIP 2 towers have 'gelu_pytorch_tanh'"),
    ({"layer_norm_eps": 1e-5}, "layer_norm_eps = 1e-05; SigLIP 2 towers have 1e-06"),
    ({"vision_use_head": False}, "vision_use_head = False"),
    ({"num_channels": 4}, "num_channels = 4"),
    (
        {"num_attention_heads": 5},
        "hidden_size = 96 and num_attention_heads = 5; expected a width divisible by the number of heads",
    ),
    ({"hidden_size": "96"}, "hidden_size = '96'; expected a positive whole number"),
    ({"num_hidden_layers": 0}, "num_hidden_layers = 0; expected a positive whole number"),
    *(({"hidden_size": value}, "hidden_size = ") for value in (1e30, True, -96, 10**30, float("nan"), float("inf"))),
    ({"num_hidden_layers": 100_000_000}, "num_hidden_layers = 100000000; expected a positive whole number, at most"),
    ({"num_hidden_layers": 100_000}, "declares 100000 blocks; its 80 tensors allow at most 80"),
    ({"num_patches": 10**400}, "num_patches = "),
    ({"text_config": {"vocab_size": [32000]}, "num_channels": 4}, "num_channels = 4"),
    ({"vision_config": None}, "vision_config = None; expected a JSON object"),
    ({"model_type": "clip"}, "model_type = 'clip'; expected a SigLIP vision tower"),
    ({"model_type": None}, "model_type = None; expected a SigLIP vision tower"),
]


@pytest.mark.parametrize(
    ("settings", "expected"), SETTINGS, ids=lambda value: str(value) if isinstance(value, dict) else ""
)
def test_a_config_that_contradicts_the_tensors_is_refused(edited, settings, expected):
    refused(edited(config=lambda config: config | settings), expected)


def test_a_checkpoint_of_another_family_is_refused(tmp_path):
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    CLIPVisionModel(config).save_pretrained(tmp_path)
    refused(tmp_path, "model_type = 'clip_vision_model'; expected a SigLIP vision tower", "google/siglip2-base")
    (tmp_path / "config.json").unlink()
    refused(tmp_path / "model.safetensors", "is a checkpoint of CLIP: it has", "embeddings.class_embedding")


def test_a_file_of_no_known_family_is_refused(tmp_path):
    save_file({"embeddings.x": torch.zeros(3)}, tmp_path / "x.safetensors")
    refused(tmp_path / "x.safetensors", "no config.json beside it", "match no published checkpoint")


def test_an_unpublished_file_without_config_is_refused(naflex):
    refused(
        naflex["lone file"],
        f"{PATCH} has shape (96, 192); expected (96, 3, 8, 8)",
        "put the right config.json beside it",
    )


def test_an_unpublished_architecture_loads_with_its_config(tmp_path, scale_up):
    from transformers import SiglipVisionConfig, SiglipVisionModel

    # int(22 * (30 / 22)) is 29: timm is given a ratio, and truncates
    config = SiglipVisionConfig(
        hidden_size=22, intermediate_size=30, num_hidden_layers=3, num_attention_heads=2, patch_size=4, image_size=20
    )
    model = scale_up(SiglipVisionModel(config))
    model.save_pretrained(tmp_path)
    image = torch.randn(1, 3, 20, 20)
    with torch.no_grad():
        _, pooled = create_backbone(tmp_path, pooled=True).eval().forward_pooled(image)
        torch.testing.assert_close(pooled, model(image).pooler_output, rtol=1e-4, atol=1e-5)


def test_another_variant_than_the_named_one_is_refused(fixed, naflex):
    base = VARIANTS["siglip2_base_patch16_naflex"]
    Checkpoint.of(open_files(fixed["vision"]), TINY)
    with pytest.raises(ValueError, match=r"holds siglip2_custom \(NaFlex.*expected siglip2_tiny.* \(fixed.*its path"):
        Checkpoint.of(open_files(naflex["vision"]), TINY)
    with pytest.raises(ValueError, match=r"holds siglip2_tiny.*\(fixed.*naflex \(NaFlex.*Use siglip2_tiny_patch8_128"):
        Checkpoint.of(open_files(fixed["vision"]), base)
    with pytest.raises(ValueError, match=r"holds siglip2_tiny"):
        Checkpoint.of(open_files(fixed["lone file"]), base)


def test_the_config_beside_a_file_counts(edited):
    path = edited(config=lambda config: {})
    refused(path / "model.safetensors", "model_type = None")


def test_random_weights_are_of_the_sizes_that_the_tensors_have(edited):
    path = edited(config=lambda config: config | {"hidden_size": 9600, "intermediate_size": 999_999})
    with pytest.raises(ValueError, match=r"expected \(9600, 3, 8, 8\)"):
        create_backbone(path, pretrained=False)
    create_backbone(edited(), pretrained=False)


def test_missing_and_surplus_names_are_shown_together(edited):
    def renamed(tensors):
        return {name.replace("encoder.layers.0", "encoder.blocks.0"): t for name, t in tensors.items()}

    message = "16 missing tensors: encoder.layers.0.layer_norm1.bias"
    refused(edited(tensors=renamed), message, "and 16 unexpected tensors: encoder.blocks.0.layer_norm1.bias")
