import shutil

import pytest
import torch

from siglip2_backbone import FeatureMaps, create_backbone, fingerprint
from siglip2_backbone.factory import build_tower, open_tower, pretrained_cfg
from siglip2_backbone.variants import TINY, VARIANTS

IMAGE = torch.randn(1, 3, 40, 72, generator=torch.Generator().manual_seed(1))


def test_a_path_gives_maps_with_its_weights(fixed):
    features = create_backbone(fixed["vision"], out_indices=[2, 0])
    assert isinstance(features, FeatureMaps)
    assert [m.shape for m in features(IMAGE)] == [(1, 96, 5, 9)] * 2
    assert features.pretrained_cfg["source"] == str(fixed["vision"])
    assert features.pretrained_cfg["architecture"] == "siglip2_tiny_patch8_128"


def test_a_path_may_be_a_string(fixed):
    assert fingerprint(create_backbone(str(fixed["vision"]))) == fingerprint(create_backbone(fixed["vision"]))


def test_the_prefixes_of_timm_may_stand_before_a_source(fixed):
    found = create_backbone(f"local-dir:{fixed['vision']}")
    assert fingerprint(found) == fingerprint(create_backbone(fixed["vision"]))
    features = create_backbone("hf-hub:google/siglip2-large-patch16-384", pretrained=False, device="meta")
    assert features.pretrained_cfg["architecture"] == "siglip2_large_patch16_384"
    features = create_backbone("hf-hub:timm/vit_large_patch16_siglip_384.v2_webli", pretrained=False, device="meta")
    assert features.pretrained_cfg["architecture"] == "siglip2_large_patch16_384"


def test_naflex_takes_its_own_position_rule(fixed, naflex):
    assert create_backbone(naflex["vision"]).model.pos_interp == "bilinear_antialias"
    assert create_backbone(fixed["vision"]).model.pos_interp == "bicubic_antialias"
    for wrong in ("bicubic", "bicubic_antialias"):
        with pytest.raises(ValueError, match=f"pos_interp is '{wrong}'; siglip2_custom was trained with 'bilinear_ant"):
            create_backbone(naflex["vision"], pos_interp=wrong)


def test_an_existing_path_wins_over_a_name(fixed, tmp_path, monkeypatch):
    (tmp_path / "siglip2_base_patch16_256").symlink_to(fixed["vision"])
    (tmp_path / "google").mkdir()
    (tmp_path / "google" / "siglip2-base-patch16-256").symlink_to(fixed["vision"])
    monkeypatch.chdir(tmp_path)
    for source in ("siglip2_base_patch16_256", "google/siglip2-base-patch16-256"):
        assert create_backbone(source).num_features == 96


@pytest.mark.parametrize(
    "name", ["siglip2_tiny_patch8_128", "siglip2_base_patch16_naflex", "siglip2_base_patch16_256.webli"]
)
def test_a_name_without_weights_is_random(name):
    with torch.device("meta"):
        features = create_backbone(name, pretrained=False)
    assert features.pretrained_cfg["source"] == "random"
    assert features.pretrained_cfg["architecture"] == name.removesuffix(".webli")


def test_an_id_names_the_same_model():
    features = create_backbone("google/siglip2-large-patch16-384", pretrained=False, device="meta")
    assert features.pretrained_cfg["architecture"] == "siglip2_large_patch16_384"


def test_a_path_without_its_weights_is_random(fixed):
    assert fingerprint(create_backbone(fixed["vision"], pretrained=False)) != fingerprint(
        create_backbone(fixed["vision"])
    )


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("siglip2_base_patch16_265", "siglip2_base_patch16_256"),
        ("siglip2-base-patch16-256", "google/siglip2-base-patch16-256"),
        ("siglip2_so400m_patch14_378", "siglip2_so400m_patch14_384"),
        ("siglip2_tiny", "siglip2_tiny_patch8_128"),
    ],
)
def test_an_unknown_name_is_told_the_nearest_ones(name, near):
    with pytest.raises(ValueError, match=rf"'{name}' is not a file.*Did you mean .*{near}.*siglip2 models"):
        create_backbone(name)


def test_a_name_like_nothing_gets_no_suggestion():
    with pytest.raises(ValueError, match=r"'resnet50' is not a file, directory or model name\. `siglip2 models`"):
        create_backbone("resnet50")


@pytest.mark.parametrize("name", ["siglip2_base_patch16_256_pyramid", "siglip2_base_patch16_256_sfp.webli"])
def test_a_pyramid_is_no_tower_to_open(name):
    plain = name.replace("_pyramid", "").replace("_sfp", "")
    with pytest.raises(ValueError, match=rf"{name} is a pyramid; expected a tower.*Pass {plain}\."):
        open_tower(name)


@pytest.mark.parametrize("source", ["", "hf-hub:", "local-dir:"])
def test_no_name_at_all_is_not_the_working_directory(source, fixed, monkeypatch):
    monkeypatch.chdir(fixed["vision"])
    with pytest.raises(ValueError, match=f"The source is '{source}'; expected a path, a model name"):
        create_backbone(source)


def test_the_tiny_variant_has_no_weights_to_fetch():
    with pytest.raises(ValueError, match=r"siglip2_tiny_patch8_128 has no published weights.*pretrained=False"):
        create_backbone("siglip2_tiny_patch8_128")


@pytest.mark.parametrize("argument", ["patch_size", "embed_dim", "depth", "num_heads", "mlp_dim", "native_size"])
def test_weights_go_into_no_tower_of_other_sizes(fixed, argument):
    with pytest.raises(ValueError, match=rf"{argument} is 2; siglip2_tiny_patch8_128 has \d+.*pretrained=False"):
        create_backbone(fixed["vision"], **{argument: 2})
    assert create_backbone(fixed["vision"], depth=4, patch_size=8)


@pytest.mark.parametrize("in_context", [False, True])
def test_weights_do_not_go_onto_the_meta_device(fixed, in_context):
    with pytest.raises(ValueError, match=r"device is meta.*pretrained=False"):
        if in_context:
            with torch.device("meta"):
                create_backbone(fixed["vision"])
        else:
            create_backbone(fixed["vision"], device="meta")


@pytest.mark.parametrize("kind", ["fixed", "naflex"])
def test_the_device_asked_for_wins_over_the_default_one(kind, request):
    path = request.getfixturevalue(kind)["vision"]
    with torch.device("meta"):
        features = create_backbone(path, device="cpu")
    assert fingerprint(features) == fingerprint(create_backbone(path))


@pytest.mark.parametrize("source", ["siglip2_base_patch16_256", "google/siglip2-base-patch16-256"])
def test_a_repository_that_holds_another_model_is_refused(source, fixed, tmp_path, monkeypatch):
    repo = tmp_path / "models--google--siglip2-base-patch16-256"
    shutil.copytree(fixed["vision"], repo / "snapshots" / ("0" * 40))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"google/siglip2-base-patch16-256 holds siglip2_tiny"):
        create_backbone(source, cache_dir=tmp_path)


@pytest.mark.parametrize("argument", [{"out_indices": [1]}, {"norm": False}, {"pooled": False}], ids=str)
def test_what_shapes_maps_needs_maps(argument):
    with pytest.raises(ValueError, match=rf"{next(iter(argument))}: used only with features_only=True"):
        build_tower(TINY, None, pretrained_cfg=pretrained_cfg(TINY), **argument)


def test_an_unknown_argument_is_refused_by_name(fixed):
    with pytest.raises(TypeError, match="output_stride"):
        create_backbone(fixed["vision"], output_stride=16)


def test_the_type_asked_for(fixed):
    features = create_backbone(fixed["vision"], dtype=torch.bfloat16)
    assert {p.dtype for p in features.parameters()} == {torch.bfloat16}
    assert features(IMAGE.bfloat16())[0].dtype == torch.bfloat16


def test_bfloat16_stays_near_float32(fixed, relative_error):
    with torch.no_grad():
        exact = create_backbone(fixed["vision"])(IMAGE)[-1]
        rounded = create_backbone(fixed["vision"], dtype=torch.bfloat16)(IMAGE.bfloat16())[-1]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            autocast = create_backbone(fixed["vision"])(IMAGE)[-1]
    assert 0 < relative_error(rounded, exact) < 0.05
    assert 0 < relative_error(autocast, exact) < 0.05


def test_the_announced_size_leaves_the_weights_alone(fixed):
    plain, announced = create_backbone(fixed["vision"]), create_backbone(fixed["vision"], img_size=(64, 32))
    assert announced.model.patch_embed.grid_size == (8, 4)
    assert fingerprint(announced) == fingerprint(plain)
    assert torch.equal(announced(IMAGE)[-1], plain(IMAGE)[-1])


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda v: v.name)
def test_how_images_are_prepared(variant):
    cfg = pretrained_cfg(variant)
    assert (cfg.interpolation, cfg.crop_mode, cfg.crop_pct) == ("bilinear", "squash", 1.0)
    assert cfg.mean == cfg.std == (0.5, 0.5, 0.5)
    assert cfg.input_size == (3, variant.img_size, variant.img_size)
    assert cfg.hf_hub_id == variant.hub_id
