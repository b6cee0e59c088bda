import json
import shutil

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from siglip2_backbone import VARIANTS, create_backbone, fingerprint
from siglip2_backbone.checkpoints import variant_of
from siglip2_backbone.checkpoints.sources import CheckpointFiles, open_files
from siglip2_backbone.checkpoints.timm_format import expected_shapes, naflex_shapes
from siglip2_backbone.variants import TINY

SIZES = {"patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3}
FIXED = SIZES | {"img_size": 128, "act_layer": "gelu_tanh"}
published = pytest.mark.parametrize("variant", [v for v in VARIANTS.values() if v.hub_id], ids=lambda v: v.name)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, scale_up):
    """Random models of timm, and the directories in which timm has saved them."""
    root = tmp_path_factory.mktemp("timm")
    models = {
        "fixed": scale_up(timm.create_model("vit_base_patch16_siglip_256", **FIXED)),
        "naflex": scale_up(timm.create_model("naflexvit_base_patch16_siglip", **SIZES)),
    }
    for kind, model in models.items():
        save_for_hf(model, root / kind, safe_serialization=True)
    return {kind: (model, root / kind) for kind, model in models.items()}


@pytest.mark.parametrize("size", [(128, 128), (64, 160)], ids=str)
@pytest.mark.parametrize("kind", ["fixed", "naflex"])
def test_a_directory_of_timm_gives_the_numbers_of_timm(kind, size, theirs, relative_error):
    model, folder = theirs[kind]
    ours = create_backbone(folder, pooled=True, dtype=torch.float64).model.eval()
    if kind == "fixed":
        model = timm.create_model("vit_base_patch16_siglip_256", **FIXED, dynamic_img_size=True)
        model.load_state_dict(theirs[kind][0].state_dict())
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        error = relative_error(ours(image), model.double().eval()(image))
    model.float()
    assert error < (1e-13 if size == (128, 128) else 5e-7)  # timm resizes positions in float32


def test_a_naflex_kernel_is_not_taken_for_a_flattened_one(theirs):
    model, folder = theirs["naflex"]
    found = create_backbone(folder).model.patch_embed.proj.weight
    stored = model.state_dict()["embeds.proj.weight"]
    assert found[5, 2, 3, 7] == stored[5, (3 * 8 + 7) * 3 + 2]
    assert not torch.equal(found, stored.view_as(found))


def test_a_lone_file_of_a_published_shape_is_known(theirs, tmp_path):
    lone = shutil.copy(theirs["fixed"][1] / "model.safetensors", tmp_path / "weights.safetensors")
    assert create_backbone(lone).pretrained_cfg["architecture"] == TINY.name
    assert fingerprint(create_backbone(lone)) == fingerprint(create_backbone(theirs["fixed"][1]))
    beside = theirs["naflex"][1] / "model.safetensors"
    assert fingerprint(create_backbone(beside)) == fingerprint(create_backbone(beside.parent))


@published
def test_the_name_tells_every_published_architecture(variant):
    assert timm.is_model(variant.timm_name)
    for config in ({"pretrained_cfg": {"tag": "v2_webli"}}, {"num_classes": 0}):
        config = {"architecture": variant.timm_name} | config
        assert variant_of(CheckpointFiles("x", {}, config)) is variant


def test_the_siglip_1_name_of_27_cells_is_known():
    files = CheckpointFiles("x", {}, {"architecture": "vit_so400m_patch14_siglip_384"})
    assert variant_of(files).name == "siglip2_so400m_patch14_384"


@published
def test_every_tensor_of_timm_is_expected_with_its_shape(variant):
    with torch.device("meta"):
        model = timm.create_model(variant.timm_name)
    expected = naflex_shapes(variant) if variant.naflex else expected_shapes(variant)
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == expected


@pytest.mark.parametrize("naflex", [False, True])
def test_the_shapes_of_a_lone_file_tell_the_architecture(naflex):
    class Shape:
        def __init__(self, shape):
            self.shape, self.dtype = shape, "F32"

    for variant in (v for v in VARIANTS.values() if v.naflex == naflex):
        shapes = naflex_shapes(variant) if naflex else expected_shapes(variant)
        assert variant_of(CheckpointFiles("x", {k: Shape(s) for k, s in shapes.items()}, None)) is variant


@pytest.fixture
def changed(theirs, tmp_path):
    def write(kind="fixed", tensors=lambda t: t, config=lambda c: c):
        folder = tmp_path / "changed"
        folder.mkdir()
        source = theirs[kind][1]
        save_file(tensors(load_file(source / "model.safetensors")), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config(json.loads((source / "config.json").read_text()))))
        return folder

    return write


def refused(path, *expected):
    with pytest.raises(ValueError) as caught:
        create_backbone(path)
    for part in (str(path), *expected):
        assert part in str(caught.value), str(caught.value)


@pytest.mark.parametrize(("kind", "name"), [("fixed", "blocks.1.attn.qkv.bias"), ("naflex", "embeds.proj.weight")])
def test_a_missing_tensor_is_refused(kind, name, changed):
    path = changed(kind, tensors=lambda t: {k: v for k, v in t.items() if k != name})
    refused(path, f"1 missing tensors: {name}", "width 96, 4 blocks, patch 8, 128 px")


@pytest.mark.parametrize("name", ["cls_token", "head.weight", "blocks.4.norm1.bias"])
@pytest.mark.parametrize("kind", ["fixed", "naflex"])
def test_a_surplus_tensor_is_refused(kind, name, changed):
    refused(changed(kind, tensors=lambda t: t | {name: torch.zeros(3)}), f"1 unexpected tensors: {name}")


@pytest.mark.parametrize(("kind", "name"), [("fixed", "pos_embed"), ("naflex", "embeds.pos_embed")])
def test_a_wrong_shape_is_refused(kind, name, changed):
    refused(changed(kind, tensors=lambda t: t | {name: torch.zeros(1, 9, 96)}), f"{name} has shape (1, 9, 96)")


def test_a_tower_without_map_head_is_refused_with_what_is_missing(changed, tmp_path):
    def gap(tensors):
        return {name: t for name, t in tensors.items() if not name.startswith("attn_pool.")}

    path = changed(tensors=gap, config=lambda c: c | {"architecture": "vit_base_patch16_siglip_gap_256"})
    what = ("without its MAP head: all tensors attn_pool.* are missing", "of the same name without gap_")
    refused(path, "timm's vit_base_patch16_siglip_gap_256", *what)
    refused(path / "model.safetensors", "timm's vit_base_patch16_siglip_gap_256", *what)
    refused(shutil.copy(path / "model.safetensors", tmp_path / "lone.safetensors"), "a tower", *what)


@pytest.mark.parametrize("name", ["vit_base_patch14_dinov2", "vit_base_patch16_clip_224", "resnet50", "siglip2_base"])
def test_another_architecture_is_refused_by_name(name, changed):
    path = changed(config=lambda c: c | {"architecture": f"{name}.tag"})
    refused(path, f"architecture = {name!r}; expected a SigLIP tower", "timm/vit_base_patch16_siglip_256.v2_webli")


def test_a_lone_file_of_another_vit_is_refused(tmp_path):
    model = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=0)
    save_file(model.state_dict(), tmp_path / "x.safetensors")
    refused(tmp_path / "x.safetensors", "a checkpoint of a ViT with a class token", "it has cls_token")


SETTINGS = [
    ({"depth": 5}, "missing tensors: blocks.4"),
    ({"depth": 3}, "unexpected tensors: blocks.3"),
    ({"embed_dim": 192}, "pos_embed has shape (1, 256, 96); expected (1, 256, 192)"),
    ({"mlp_ratio": 3}, "expected (288,"),
    ({"img_size": 64}, "pos_embed has shape (1, 256, 96); expected (1, 64, 96)"),
    ({"img_size": [64, 64]}, "expected (1, 64, 96)"),
    ({"img_size": [64, 96]}, "img_size = [64, 96]; expected a positive whole number"),
    ({"num_heads": 5}, "embed_dim = 96 and num_heads = 5; expected a width divisible by the number of heads"),
    ({"depth": "4"}, "depth = '4'; expected a positive whole number"),
    ({"mlp_ratio": "4"}, "mlp_ratio = '4'; expected a positive number"),
]


@pytest.mark.parametrize(
    ("settings", "expected"), SETTINGS, ids=lambda value: str(value) if isinstance(value, dict) else ""
)
def test_a_config_that_contradicts_the_tensors_is_refused(settings, expected, changed):
    refused(changed(config=lambda c: c | {"model_args": c["model_args"] | settings}), expected)


def test_the_config_of_another_format_is_refused(changed, fixed, tmp_path):
    google = json.loads((fixed["vision"] / "config.json").read_text())
    refused(changed(config=lambda c: google), "missing tensors: embeddings.patch_embedding.bias")
    folder = shutil.copytree(fixed["vision"], tmp_path / "google")
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_base_patch16_siglip_256"}))
    refused(folder, "a tower without its MAP head")
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_base_patch16_siglip_256", "model_args": [1]}))
    refused(folder, "model_args = [1]; expected a JSON object")


def test_what_timm_saves_of_our_own_model_is_read(fixed, tmp_path):
    overlay = {"file": str(fixed["whole"])}
    tower = timm.create_model(TINY.name, pretrained=True, pretrained_cfg_overlay=overlay)
    save_for_hf(tower, tmp_path, safe_serialization=True)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == TINY.name
    assert fingerprint(create_backbone(tmp_path, pooled=True)) == fingerprint(tower)
    assert open_files(tmp_path).config["pretrained_cfg"]["crop_mode"] == "squash"
    assert fingerprint(timm.create_model(f"local-dir:{tmp_path}", pretrained=True)) == fingerprint(tower)
