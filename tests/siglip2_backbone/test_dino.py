import pytest
import timm
import torch

from siglip2_backbone import FeatureMaps, as_dino

IMAGE = torch.randn(2, 3, 40, 50, generator=torch.Generator().manual_seed(1))


def tower_of(**args):
    torch.manual_seed(0)
    return timm.create_model("siglip2_tiny_patch8_128", **args).eval()


def test_what_evaluation_code_reads():
    model = as_dino(tower_of())
    assert (model.n_blocks, model.embed_dim, model.patch_size) == (4, 96, 8)
    assert (model.embed_dims, model.num_features, model.input_pad_size) == ([96] * 4, 96, 8)
    assert model.num_register_tokens == model.n_storage_tokens == 0
    assert model.blocks is model.tower.blocks
    assert {name.split(".")[0] for name in model.state_dict()} == {"tower"}  # the blocks are not stored twice


@torch.no_grad()
def test_forward_features_is_the_dict_of_dino():
    tower = tower_of()
    found = as_dino(tower).forward_features(IMAGE)
    (before,) = tower.forward_intermediates(IMAGE, indices=[3], output_fmt="NLC", intermediates_only=True)
    assert torch.equal(found["x_norm_patchtokens"], tower.forward_features(IMAGE))
    assert torch.equal(found["x_norm_clstoken"], tower(IMAGE))
    assert torch.equal(found["x_prenorm"], before) and not torch.equal(before, found["x_norm_patchtokens"])
    assert found["x_norm_regtokens"].shape == found["x_storage_tokens"].shape == (2, 0, 96)
    assert found["masks"] is None
    with pytest.raises(ValueError, match="masks"):
        as_dino(tower).forward_features(IMAGE, torch.ones(2, 35, dtype=torch.bool))


def test_forward_features_needs_no_map_head():
    found = as_dino(tower_of(global_pool="avg")).forward_features(IMAGE)
    assert found["x_norm_clstoken"] is None and found["x_norm_patchtokens"].shape == (2, 35, 96)


@torch.no_grad()
@pytest.mark.parametrize(("n", "blocks"), [(1, [3]), (3, [1, 2, 3]), ([0, 2], [0, 2]), ([-1], [3]), (range(2), [0, 1])])
def test_an_int_is_the_last_blocks_and_a_sequence_names_them(n, blocks):
    tower = tower_of()
    layers = as_dino(tower).get_intermediate_layers(IMAGE, n)
    expected = tower.forward_intermediates(IMAGE, output_fmt="NLC", norm=True, intermediates_only=True)
    assert type(layers) is tuple and len(layers) == len(blocks)
    assert all(torch.equal(layer, expected[i]) for layer, i in zip(layers, blocks, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("norm", [True, False])
def test_reshape_and_norm(norm):
    tower = tower_of()
    (found,) = as_dino(tower).get_intermediate_layers(IMAGE, n=[1], reshape=True, norm=norm)
    assert found.shape == (2, 96, 5, 7)  # 50 px are seven cells
    assert torch.equal(found, FeatureMaps(tower, [1], norm=norm)(IMAGE)[0])


@torch.no_grad()
@pytest.mark.parametrize("norm", [True, False])
def test_the_pooled_output_is_the_class_token_of_every_layer(norm):
    tower = tower_of()
    pairs = as_dino(tower).get_intermediate_layers(IMAGE, n=[0, 2], return_class_token=True, norm=norm)
    plain = as_dino(tower).get_intermediate_layers(IMAGE, n=[0, 2], norm=norm)
    for (tokens, pooled), expected in zip(pairs, plain, strict=True):
        assert torch.equal(tokens, expected)
        assert torch.equal(pooled, tower(IMAGE))
    assert torch.equal(as_dino(tower)(IMAGE), tower(IMAGE))


def test_a_whole_feature_maps_is_taken_as_well():
    features = FeatureMaps(tower_of(), [1], pooled=True)
    assert as_dino(features).tower is features.model
    with pytest.raises(ValueError, match="build it with pooled=True"):
        as_dino(FeatureMaps(tower_of(), [1]))


def test_a_class_token_needs_the_map_head():
    model = as_dino(tower_of(global_pool="avg"))
    assert model.get_intermediate_layers(IMAGE)[0].shape == (2, 35, 96)
    with pytest.raises(ValueError, match=r"MAP head.*global_pool='map'"):
        model.get_intermediate_layers(IMAGE, return_class_token=True)
    with pytest.raises(ValueError, match="MAP head"):
        model(IMAGE)


@pytest.mark.parametrize(
    ("n", "message"),
    [
        ([2, 0], "ascending"),
        ([0, -4], "twice"),
        ([-1, 0], "ascending"),
        (5, "n is 5; expected block indices"),
        ([4], "expected"),
    ],
)
def test_layers_that_are_none_or_out_of_order_are_refused(n, message):
    with pytest.raises(ValueError, match=message):
        as_dino(tower_of()).get_intermediate_layers(IMAGE, n)


def test_another_model_is_refused():
    with pytest.raises(ValueError, match="model is a Linear; expected a Siglip2VisionTransformer or FeatureMaps"):
        as_dino(torch.nn.Linear(1, 1))
