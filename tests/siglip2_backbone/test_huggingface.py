import json

import pytest
import torch
from transformers import AutoBackbone, AutoConfig, SiglipVisionModel

from siglip2_backbone import FeatureMaps, create_backbone, fingerprint
from siglip2_backbone.huggingface import Siglip2Backbone, Siglip2BackboneConfig
from siglip2_backbone.variants import VARIANTS

NAME = "siglip2_tiny_patch8_128"
SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 50,
    "patch_size": 14,
    "image_size": 70,
}
IMAGE = torch.randn(2, 3, 40, 72, generator=torch.Generator().manual_seed(1))


def random_backbone(**options):
    torch.manual_seed(0)
    return AutoBackbone.from_config(Siglip2BackboneConfig(NAME, **options)).eval()


@torch.no_grad()
def test_stage_k_is_transformers_hidden_state_k_and_timms_block_k_minus_one(fixed, relative_error):
    backbone = Siglip2Backbone.from_checkpoint(fixed["vision"], out_indices=[0, 1, 3, 4], apply_layernorm=False)
    reference = SiglipVisionModel.from_pretrained(fixed["vision"], attn_implementation="sdpa").eval()
    assert backbone.out_features == ["stem", "stage1", "stage3", "stage4"]
    native = torch.nn.functional.interpolate(IMAGE, (128, 128))  # where both have the same positions
    expected = reference(native, output_hidden_states=True).hidden_states
    blocks = create_backbone(fixed["vision"], out_indices=[0, 2, 3], norm=False)(native)
    maps = backbone(native).feature_maps
    for k, found in zip([0, 1, 3, 4], maps, strict=True):
        assert relative_error(found.flatten(2).transpose(1, 2), expected[k]) < 3e-6
    for found, block in zip(maps[1:], blocks, strict=True):
        assert torch.equal(found, block)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["fixed", "naflex"])
def test_tokens_start_with_the_output_of_the_map_head(kind, request):
    path = request.getfixturevalue(kind)["vision"]
    backbone = Siglip2Backbone.from_checkpoint(path, reshape_hidden_states=False, out_indices=[2, 4])
    maps, pooled = create_backbone(path, out_indices=[1, 3], pooled=True).eval().forward_pooled(IMAGE)
    tokens = backbone(IMAGE).feature_maps
    assert [t.shape for t in tokens] == [(2, 1 + 5 * 9, 96)] * 2
    for t, m in zip(tokens, maps, strict=True):
        assert torch.equal(t[:, 0], pooled)
        assert torch.equal(t[:, 1:], m.flatten(2).transpose(1, 2))


@torch.no_grad()
def test_other_prefixes_need_no_map_head():
    kept = {}
    for prefix in ("zeros", "none"):
        backbone = random_backbone(reshape_hidden_states=False, prefix_token=prefix)
        assert backbone.tower.attn_pool is None
        kept[prefix] = backbone(IMAGE).feature_maps[-1]
    assert torch.equal(kept["zeros"][:, 0], torch.zeros(2, 96))
    assert torch.equal(kept["zeros"][:, 1:], kept["none"])


@torch.no_grad()
def test_maps_are_normed_unless_told_otherwise():
    normed, raw = random_backbone(), random_backbone(apply_layernorm=False)
    tower = normed.tower
    assert not torch.equal(normed(IMAGE).feature_maps[-1], raw(IMAGE).feature_maps[-1])
    expected = FeatureMaps(tower, norm=True)(IMAGE)
    assert all(torch.equal(a, b) for a, b in zip(normed(IMAGE).feature_maps, expected, strict=True))


def test_four_stages_by_the_tap_rule_unless_told_otherwise():
    config = Siglip2BackboneConfig("google/siglip2-so400m-patch14-384")
    assert (config.architecture, config.out_indices) == ("siglip2_so400m_patch14_384", [6, 13, 20, 27])
    assert (config.hidden_size, config.patch_size, config.image_size) == (1152, 14, 384)
    assert config.stage_names[:2] == ["stem", "stage1"] and len(config.stage_names) == 28
    assert Siglip2BackboneConfig(**SIZES).out_indices == [1, 2]


def test_stages_by_name_and_by_number_are_the_same():
    by_name, by_number = Siglip2BackboneConfig(NAME, out_features=["stem", "stage3"]), Siglip2BackboneConfig(NAME)
    by_number.out_indices = [0, 3]
    assert by_name.out_indices == [0, 3] and by_number.out_features == ["stem", "stage3"]
    assert Siglip2BackboneConfig(NAME, out_indices=[-1]).out_features == ["stage4"]
    with pytest.raises(ValueError, match="stage9"):
        Siglip2BackboneConfig(NAME, out_features=["stage9"])


def test_what_clients_read():
    backbone = random_backbone(out_indices=[0, 2, 4])
    assert backbone.channels == [96, 96, 96]
    assert backbone.out_feature_channels["stem"] == 96
    assert (backbone.config.hidden_size, backbone.config.patch_size) == (96, 8)


@torch.no_grad()
def test_hidden_states_and_plain_tuples():
    backbone = random_backbone(out_indices=[4])
    output = backbone(IMAGE, output_hidden_states=True)
    assert [h.shape for h in output.hidden_states] == [(2, 45, 96)] * 5
    raw = backbone.tower.forward_intermediates(IMAGE, output_fmt="NLC", intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(output.hidden_states[1:], raw, strict=True))
    maps, states = backbone(IMAGE, output_hidden_states=True, return_dict=False)
    assert torch.equal(maps[0], output.feature_maps[0]) and len(states) == 5
    assert backbone(IMAGE).hidden_states is None
    backbone.config.output_hidden_states = True
    assert len(backbone(IMAGE).hidden_states) == 5
    with pytest.raises(ValueError, match="output_attentions=True"):
        backbone(IMAGE, output_attentions=True)


@torch.no_grad()
def test_blocks_that_nobody_asked_for_do_not_run():
    backbone = random_backbone(out_indices=[0, 1])
    backbone.tower.blocks[1].register_forward_hook(lambda *_: pytest.fail("block 1 ran"))
    assert len(backbone(IMAGE).feature_maps) == 2


@torch.no_grad()
@pytest.mark.parametrize("size", [(40, 73), (39, 72)], ids=str)
def test_maps_of_any_size_but_tokens_of_whole_patches(size):
    image = torch.zeros(1, 3, *size)
    assert random_backbone()(image).feature_maps[0].shape == (1, 96, 5, -(-size[1] // 8))
    with pytest.raises(ValueError, match=rf"pixel_values are {size[0]} x {size[1]} px.*multiple of 8"):
        random_backbone(reshape_hidden_states=False)(image)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["fixed", "naflex"])
def test_a_saved_backbone_comes_back_bit_for_bit(kind, dtype, request, tmp_path):
    path = request.getfixturevalue(kind)["vision"]
    options = {"reshape_hidden_states": False, "out_indices": [1, 4], "apply_layernorm": False}
    backbone = Siglip2Backbone.from_checkpoint(path, dtype=dtype, **options)
    backbone.save_pretrained(tmp_path)
    loaded = Siglip2Backbone.from_pretrained(tmp_path)
    assert fingerprint(loaded.tower) == fingerprint(create_backbone(path, dtype=dtype, pooled=True))
    assert loaded.tower.pos_interp == ("bilinear_antialias" if kind == "naflex" else "bicubic_antialias")
    assert not loaded.training
    image = IMAGE.to(dtype)
    for a, b in zip(loaded(image).feature_maps, backbone(image).feature_maps, strict=True):
        # the weights are equal; mapped from the file they lie at other addresses, where kernels may round otherwise
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.1)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is Siglip2BackboneConfig
    assert config.to_dict().keys() == backbone.config.to_dict().keys()
    assert config.out_features == ["stage1", "stage4"]


def test_the_rule_of_positions_is_saved(fixed, tmp_path):
    Siglip2Backbone.from_checkpoint(fixed["vision"], pos_interp="bicubic").save_pretrained(tmp_path)
    assert Siglip2Backbone.from_pretrained(tmp_path).tower.pos_interp == "bicubic"


def test_tokens_can_be_loaded_as_maps_but_not_the_other_way(fixed, tmp_path):
    tokens = Siglip2Backbone.from_checkpoint(fixed["vision"], reshape_hidden_states=False)
    tokens.save_pretrained(tmp_path / "tokens")
    maps, info = Siglip2Backbone.from_pretrained(
        tmp_path / "tokens", reshape_hidden_states=True, output_loading_info=True
    )
    assert maps.tower.attn_pool is None and not info["unexpected_keys"]
    maps.save_pretrained(tmp_path / "maps")
    with pytest.raises(ValueError, match=r"maps lacks 13 tensors.*tower\.attn_pool.*save_pretrained"):
        Siglip2Backbone.from_pretrained(tmp_path / "maps", reshape_hidden_states=False)


def test_a_google_folder_is_not_taken_for_a_saved_backbone(fixed):
    with pytest.raises(ValueError, match=r"lacks \d+ tensors of this backbone.*from_checkpoint"):
        Siglip2Backbone.from_pretrained(fixed["vision"])


def test_nothing_is_random_in_silence():
    with pytest.raises(ValueError, match="has no published weights"):
        Siglip2Backbone.from_checkpoint(NAME)
    with pytest.raises(ValueError, match="is not a file, directory or model name"):
        Siglip2Backbone.from_checkpoint("siglip2_base_patch16_257")


def test_a_checkpoint_tells_its_sizes_itself(fixed):
    with pytest.raises(ValueError, match=r"hidden_size: already set by the checkpoint"):
        Siglip2Backbone.from_checkpoint(fixed["vision"], hidden_size=96)
    config = Siglip2Backbone.from_checkpoint(fixed["vision"]).config
    assert (config.architecture, config.hidden_size, config.image_size) == (NAME, 96, 128)
    assert config.name_or_path == str(fixed["vision"])


def test_custom_sizes():
    backbone = Siglip2Backbone(Siglip2BackboneConfig(**SIZES))
    assert backbone.config.architecture == "siglip2_custom"
    assert backbone(torch.zeros(1, 3, 70, 28)).feature_maps[0].shape == (1, 48, 5, 2)
    again = Siglip2BackboneConfig.from_dict(json.loads(backbone.config.to_json_string()))
    assert again.to_dict() == backbone.config.to_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "siglip2_base_patch16_265"}, r"Did you mean .*siglip2_base_patch16_256"),
        ({"architecture": NAME, "hidden_size": 95}, r"hidden_size is 95; siglip2_tiny_patch8_128 has 96.*custom"),
        ({"hidden_size": 96}, r"num_hidden_layers, .*image_size missing; expected an architecture by name, or all"),
        (SIZES | {"num_attention_heads": 5}, r"hidden_size is 48 and num_attention_heads 5"),
        (SIZES | {"patch_size": 1.5}, r"patch_size is 1.5; expected a positive whole number"),
        (SIZES | {"patch_size": 0}, r"patch_size is 0; expected a positive whole number"),
        ({"architecture": NAME, "prefix_token": "cls"}, r"prefix_token is 'cls'; expected 'pooled', 'zeros' or"),
    ],
    ids=str,
)
def test_a_config_that_describes_no_backbone_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Siglip2BackboneConfig(**arguments)


@pytest.mark.parametrize(("option", "value"), [("prefix_token", "cls"), ("num_hidden_layers", 2)])
def test_an_option_changed_after_the_fact_is_checked_as_well(option, value, fixed, tmp_path):
    Siglip2Backbone.from_checkpoint(fixed["vision"], reshape_hidden_states=False).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"{option} is {value!r}"):
        Siglip2Backbone.from_pretrained(tmp_path, **{option: value})


def test_the_default_architecture_is_a_published_one():
    assert Siglip2BackboneConfig().variant() is VARIANTS["siglip2_base_patch16_256"]


def test_random_weights_are_a_sound_start():
    tower = random_backbone(reshape_hidden_states=False).tower
    assert tower.pos_embed.std().item() == pytest.approx(0.02, rel=0.2)
    assert tower.attn_pool.latent.std().item() == pytest.approx(96**-0.5, rel=0.3)
    assert tower.blocks[0].attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert torch.equal(tower.norm.weight, torch.ones(96)) and not tower.blocks[0].mlp.fc1.bias.any()


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for enable in (False, True):
        backbone = random_backbone(reshape_hidden_states=False).train()
        if enable:
            backbone.activation_checkpointing_enable()
        assert backbone.tower.grad_checkpointing is backbone.gradient_checkpointing is enable
        sum(t.square().sum() for t in backbone(IMAGE).feature_maps).backward()
        gradients.append({name: p.grad for name, p in backbone.named_parameters()})
        assert all(gradient is not None for gradient in gradients[-1].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-6)


def test_stochastic_depth_acts_in_training_only(fixed):
    dropping = Siglip2Backbone.from_checkpoint(fixed["vision"], drop_path_rate=0.9)
    assert dropping.config.drop_path_rate == 0.9
    plain = Siglip2Backbone.from_checkpoint(fixed["vision"])
    with torch.no_grad():
        assert torch.equal(dropping(IMAGE).feature_maps[-1], plain(IMAGE).feature_maps[-1])
        torch.manual_seed(0)
        assert not torch.equal(dropping.train()(IMAGE).feature_maps[-1], plain(IMAGE).feature_maps[-1])


def test_an_option_that_there_is_not_is_refused(fixed):
    with pytest.raises(ValueError, match="out_indexes: unknown option; expected out_indices"):
        Siglip2Backbone.from_checkpoint(fixed["vision"], out_indexes=[1])


def test_a_saved_backbone_is_no_checkpoint_of_a_tower(tmp_path):
    random_backbone().save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"written by Siglip2Backbone\.save_pretrained.*Siglip2Backbone\.from_pretrained"
    ):
        create_backbone(tmp_path)
