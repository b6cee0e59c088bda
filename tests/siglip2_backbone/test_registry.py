import shutil
from dataclasses import replace

import pytest
import timm
import torch
from timm.data import resolve_model_data_config
from timm.models import adapt_input_conv, is_model_pretrained, model_entrypoint
from timm.models._features import FeatureGetterNet, FeatureListNet

from siglip2_backbone import VARIANTS, FeatureMaps, Siglip2VisionTransformer, create_backbone, fingerprint
from siglip2_backbone.conversion import convert
from siglip2_backbone.registry import register

NAME = "siglip2_tiny_patch8_128"
every_name = pytest.mark.parametrize("name", VARIANTS)


def image_of(*size, channels=3):
    return torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(1))


def loaded(path, **args):
    return timm.create_model(NAME, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **args).eval()


def test_timm_lists_the_names():
    suffixes = ("", "_pyramid", "_sfp")
    assert set(timm.list_models("siglip2*")) == {name + suffix for name in VARIANTS for suffix in suffixes}
    published = {name for name, variant in VARIANTS.items() if variant.hub_id}
    expected = {f"{name}{suffix}.webli" for name in published for suffix in suffixes}
    assert set(timm.list_models("siglip2*", pretrained=True)) == expected
    assert {name for name in VARIANTS if is_model_pretrained(name)} == published


def test_a_name_of_somebody_else_is_refused_before_it_is_overwritten():
    theirs = "vit_base_patch16_siglip_256"
    before = model_entrypoint(theirs)
    with pytest.raises(ValueError, match=rf"timm already has a model {theirs}, from timm\.models\.vision_transformer"):
        register(replace(VARIANTS[NAME], name=theirs), None)
    assert model_entrypoint(theirs) is before and is_model_pretrained(theirs)


@every_name
def test_every_model_has_its_published_size(name):
    tower = timm.create_model(name, device="meta")
    variant = VARIANTS[name]
    assert type(tower) is Siglip2VisionTransformer
    assert sum(p.numel() for p in tower.parameters()) == variant.num_params
    assert (tower.num_features, len(tower.blocks)) == (variant.embed_dim, variant.depth)
    assert tower.patch_embed.grid_size == (variant.grid_size, variant.grid_size)
    assert tower.blocks[-1].attn.num_heads == tower.attn_pool.num_heads == variant.num_heads


@every_name
def test_the_data_config_tells_how_the_weights_were_trained(name):
    with torch.device("meta"):
        for features_only in (False, True):
            config = resolve_model_data_config(timm.create_model(name, features_only=features_only))
            assert (config["interpolation"], config["crop_mode"], config["crop_pct"]) == ("bilinear", "squash", 1.0)
            assert config["mean"] == config["std"] == (0.5, 0.5, 0.5)
            assert config["input_size"] == (3, VARIANTS[name].img_size, VARIANTS[name].img_size)


@every_name
def test_maps_of_every_model_end_on_the_last_block(name):
    features = timm.create_model(name, features_only=True, device="meta")
    assert isinstance(features, FeatureMaps)
    assert len(features.out_indices) == 4
    assert features.out_indices[-1] == VARIANTS[name].depth - 1
    assert features.feature_info.channels() == [VARIANTS[name].embed_dim] * 4
    assert features.feature_info.reduction() == [VARIANTS[name].patch_size] * 4


@every_name
def test_every_model_runs_at_its_native_size_without_memory(name):
    variant = VARIANTS[name]
    features = timm.create_model(name, features_only=True, pooled=True, device="meta")
    image = torch.empty(2, 3, variant.img_size, variant.img_size, device="meta")
    maps, pooled = features.forward_pooled(image)
    assert [m.shape for m in maps] == [(2, variant.embed_dim, variant.grid_size, variant.grid_size)] * 4
    assert pooled.shape == (2, variant.embed_dim)


@torch.no_grad()
@pytest.mark.parametrize(("size", "grid"), [((384, 384), (27, 27)), ((378, 400), (27, 29))], ids=str)
def test_so400m_patch14_384_sees_27_cells(size, grid):
    features = timm.create_model("siglip2_so400m_patch14_384", features_only=True, depth=1)
    assert features(image_of(*size))[0].shape == (1, 1152, *grid)


@torch.no_grad()
def test_giant_opt_runs_with_heads_of_96():
    features = timm.create_model("siglip2_giant_opt_patch16_256", features_only=True, depth=1)
    assert features.model.blocks[0].attn.head_dim == 96
    assert features(image_of(64, 40))[0].shape == (1, 1536, 4, 3)


@pytest.mark.parametrize("way", ["whole", "sharded", "vision", "lone file"])
def test_weights_come_from_the_overlay(fixed, way):
    assert fingerprint(loaded(fixed[way])) == fingerprint(create_backbone(fixed["vision"], pooled=True))
    assert loaded(fixed[way]).pretrained_cfg["source"] == str(fixed[way])


def test_maps_with_weights(fixed):
    features = loaded(fixed["whole"], features_only=True, out_indices=[-1, 1], norm=False)
    with torch.no_grad():
        raw = loaded(fixed["whole"]).forward_intermediates(image_of(40, 72), intermediates_only=True)
        maps = features(image_of(40, 72))
    assert torch.equal(maps[0], raw[3]) and torch.equal(maps[1], raw[1])


@torch.no_grad()
def test_pooled_maps_with_weights(fixed):
    maps, pooled = loaded(fixed["whole"], features_only=True, pooled=True).forward_pooled(image_of(40, 72))
    assert len(maps) == 4
    assert torch.equal(pooled, loaded(fixed["whole"])(image_of(40, 72)))


@torch.no_grad()
def test_one_channel_is_the_sum_of_three(fixed, relative_error):
    grey = image_of(40, 72, channels=1)
    found = loaded(fixed["vision"], in_chans=1)(grey)
    assert relative_error(found, loaded(fixed["vision"])(grey.expand(-1, 3, -1, -1))) < 1e-6


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("kind", ["fixed", "naflex"])
def test_other_channel_counts_follow_the_rule_of_timm(kind, channels, request):
    path = request.getfixturevalue(kind)["vision"]
    three = create_backbone(path).model.patch_embed.proj.weight
    found = create_backbone(path, in_chans=channels)
    torch.testing.assert_close(found.model.patch_embed.proj.weight, adapt_input_conv(channels, three))
    assert found(image_of(16, 24, channels=channels))[0].shape == (1, 96, 2, 3)


def test_a_classifier_is_new_and_the_tower_pretrained(fixed):
    tower, plain = loaded(fixed["vision"], num_classes=5), loaded(fixed["vision"])
    assert tower(image_of(40, 72)).shape == (1, 5)
    assert tower.head.weight.isfinite().all()
    assert fingerprint(tower, names=plain.state_dict()) == fingerprint(plain)


@pytest.mark.parametrize("pool", ["avg", ""])
def test_another_pooling_drops_the_map_head(fixed, pool):
    tower = loaded(fixed["vision"], global_pool=pool)
    assert tower.attn_pool is None
    assert not any(name.startswith("attn_pool") for name in tower.state_dict())


def test_the_announced_size_changes_no_weight(fixed):
    tower = loaded(fixed["vision"], img_size=256)
    assert tower.patch_embed.img_size == (256, 256)
    assert fingerprint(tower) == fingerprint(loaded(fixed["vision"]))


def test_the_cache_folder_is_passed_on(fixed, tmp_path, monkeypatch):
    repo = tmp_path / "models--somebody--tower"
    shutil.copytree(fixed["vision"], repo / "snapshots" / ("0" * 40))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    overlay = {"hf_hub_id": "somebody/tower"}
    tower = timm.create_model(NAME, pretrained=True, pretrained_cfg_overlay=overlay, cache_dir=tmp_path)
    assert fingerprint(tower) == fingerprint(loaded(fixed["vision"]))
    assert fingerprint(create_backbone("somebody/tower", cache_dir=tmp_path, pooled=True)) == fingerprint(tower)


def test_the_tag_may_be_given():
    assert timm.create_model("siglip2_base_patch16_256.webli", device="meta").pretrained_cfg["tag"] == "webli"


def test_arguments_of_timm_clients_are_taken():
    tower = timm.create_model(NAME, img_size=64, num_classes=0, dynamic_img_size=True, drop_path_rate=0.1, patch_size=8)
    assert tower.blocks[-1].drop_path1.drop_prob == pytest.approx(0.1)


@pytest.mark.parametrize("argument", ["output_stride", "no_such_argument", "class_token"])
def test_an_unknown_argument_is_refused_by_name(argument):
    with pytest.raises(TypeError, match=argument):
        timm.create_model(NAME, features_only=True, **{argument: 16})


def test_indices_without_maps_are_refused():
    with pytest.raises(ValueError, match="out_indices: used only with features_only=True"):
        timm.create_model(NAME, out_indices=[1])


@pytest.mark.parametrize("feature_cls", ["list", "hook", "fx", "dict", FeatureListNet], ids=str)
def test_another_feature_class_than_the_getter_is_refused_by_name(feature_cls):
    for accepted in ("getter", FeatureGetterNet):
        assert len(timm.create_model(NAME, features_only=True, feature_cls=accepted).out_indices) == 4
    with pytest.raises(ValueError, match=r"feature_cls is .*; expected 'getter'"):
        timm.create_model(NAME, features_only=True, feature_cls=feature_cls)
    with pytest.raises(ValueError, match="feature_cls: used only with features_only=True"):
        timm.create_model(NAME, feature_cls="getter")


@pytest.mark.parametrize("indices", [[1, 1], [4], [-5], 0, 5], ids=str)
def test_wrong_indices_are_refused(indices):
    with pytest.raises(ValueError, match=r"out_indices is .*(twice|expected block indices from -4 to 3)"):
        timm.create_model(NAME, features_only=True, out_indices=indices)


def test_the_tiny_model_has_no_weights_to_fetch():
    with pytest.raises(ValueError, match=rf"{NAME} has no published weights"):
        timm.create_model(NAME, pretrained=True)


@pytest.mark.parametrize("overlay", [{"url": "https://example.org/x.pth"}, {"state_dict": {"a": 1}}], ids=str)
def test_sources_that_are_not_read_are_refused(overlay):
    with pytest.raises(ValueError, match=rf"{NAME}: weights come from a file, a directory or the hub, not from url"):
        timm.create_model(NAME, pretrained=True, pretrained_cfg_overlay=overlay)


def test_weights_do_not_go_onto_the_meta_device(fixed):
    with pytest.raises(ValueError, match="device is meta"):
        loaded(fixed["vision"], device="meta")


def test_weights_of_another_model_are_refused(fixed, naflex):
    with pytest.raises(ValueError, match=r"holds siglip2_custom \(NaFlex.*create_backbone with its path"):
        loaded(naflex["vision"])
    overlay = {"file": str(fixed["vision"])}
    for name in ("siglip2_base_patch16_naflex", "siglip2_base_patch16_256"):
        with pytest.raises(ValueError, match=rf"holds {NAME} \(fixed.*expected {name}.*Use {NAME} instead"):
            timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"No file or directory .*nothing\.safetensors"):
        loaded(tmp_path / "nothing.safetensors")


def test_a_part_of_a_pretrained_cfg_leaves_the_rest_true(fixed):
    model = timm.create_model(NAME, pretrained=True, pretrained_cfg={"file": str(fixed["whole"])})
    assert fingerprint(model) == fingerprint(loaded(fixed["whole"]))
    config = resolve_model_data_config(model)
    assert (
        config["mean"] == (0.5, 0.5, 0.5) and config["crop_mode"] == "squash" and config["input_size"] == (3, 128, 128)
    )


@pytest.mark.parametrize("way", ["npz", "npz numbered", "npz tower"])
def test_weights_come_from_an_npz_file_too(fixed, way):
    assert fingerprint(loaded(fixed[way])) == fingerprint(loaded(fixed["whole"]))


def test_weights_come_from_a_directory_of_timm_too(fixed, tmp_path):
    convert(fixed["whole"], tmp_path / "timm", "timm")
    assert fingerprint(loaded(tmp_path / "timm")) == fingerprint(loaded(fixed["whole"]))


@pytest.mark.parametrize("prefix", ["", "hf-hub:"])
def test_an_id_may_be_of_a_repository_of_timm(fixed, tmp_path, monkeypatch, prefix):
    convert(fixed["whole"], tmp_path / "models--me--tower" / "snapshots" / ("0" * 40), "timm")
    (tmp_path / "models--me--tower" / "refs").mkdir()
    (tmp_path / "models--me--tower" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = create_backbone(f"{prefix}me/tower", cache_dir=tmp_path, pooled=True)
    assert fingerprint(found) == fingerprint(loaded(fixed["whole"]))


def test_a_directory_with_our_name_is_built_by_timm_as_our_model(fixed, tmp_path, monkeypatch):
    folder = tmp_path / "models--me--tower" / "snapshots" / ("0" * 40)
    convert(fixed["whole"], folder, "siglip2")
    (tmp_path / "models--me--tower" / "refs").mkdir()
    (tmp_path / "models--me--tower" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in (f"local-dir:{folder}", "hf-hub:me/tower"):
        tower = timm.create_model(name, pretrained=True, cache_dir=tmp_path)
        assert type(tower) is Siglip2VisionTransformer
        assert fingerprint(tower) == fingerprint(loaded(fixed["whole"]))
        maps = timm.create_model(name, pretrained=True, cache_dir=tmp_path, features_only=True, out_indices=[1, 3])
        assert isinstance(maps, FeatureMaps)
        config = resolve_model_data_config(tower)
        assert (config["crop_mode"], config["interpolation"]) == ("squash", "bilinear")
        assert tuple(config["input_size"]) == (3, 128, 128)
