import pytest
import timm
import torch
import torch.nn.functional as F
from timm.data import resolve_model_data_config
from timm.models import FeatureInfo, get_pretrained_cfg, is_model_pretrained
from timm.optim import param_groups_layer_decay
from torch.export import Dim

from siglip2_backbone import (
    VARIANTS,
    Pyramid,
    ResampledPyramid,
    SimpleFeaturePyramid,
    create_backbone,
    fingerprint,
    tap_indices,
)
from siglip2_backbone.levels import level_matrix, resample_map
from siglip2_backbone.pyramid import STRIDES, split_suffix

TINY = "siglip2_tiny_patch8_128"
patches = pytest.mark.parametrize("patch", [8, 14, 16, 32])
strides = pytest.mark.parametrize("stride", STRIDES)
kinds = pytest.mark.parametrize("suffix", ["_pyramid", "_sfp"])
SIZES = [(128, 128), (96, 160), (33, 50), (257, 31), (1, 1)]


def image_of(*size, seed=1):
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(seed))


def built(suffix, seed=0, **args):
    torch.manual_seed(seed)
    return timm.create_model(TINY + suffix, **args).eval()


def centres(cells, side):
    return (torch.arange(cells, dtype=torch.float64) + 0.5) * side


# The resampling.


@patches
@strides
@pytest.mark.parametrize("size", [448, 451])
def test_a_ramp_of_pixels_stays_one_inside(patch, stride, size):
    old, new = -(-size // patch), -(-size // stride)
    matrix = level_matrix(old, new, patch, stride, dtype=torch.float64)
    found, expected = matrix @ centres(old, patch), centres(new, stride)
    reach = max(patch, stride)
    inside = (expected >= reach) & (expected <= old * patch - reach)
    assert inside.sum() >= 10
    torch.testing.assert_close(found[inside], expected[inside], rtol=0, atol=1e-10)


@patches
@strides
def test_a_constant_stays_one_everywhere(patch, stride):
    matrix = level_matrix(-(-90 // patch), -(-90 // stride), patch, stride)
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix)))


@patches
@strides
def test_the_border_value_is_repeated(patch, stride):
    step = torch.arange(-(-448 // patch)).double()
    level = level_matrix(len(step), 448 // stride, patch, stride, dtype=torch.float64) @ step
    outermost = step[0] if stride <= patch else level[0]
    assert level[0] == outermost and level.min() >= 0 and level.max() <= step[-1]
    assert (level[1:] >= level[:-1]).all()
    if stride <= patch:
        assert level[-1] == step[-1]


def test_equal_strides_are_the_identity_and_twice_the_stride_the_mean_of_two():
    assert torch.equal(level_matrix(5, 5, 16, 16), torch.eye(5))
    x = torch.randn(2, 3, 6, 8)
    torch.testing.assert_close(resample_map(x, 16, 32, (96, 128)), F.avg_pool2d(x, 2))
    torch.testing.assert_close(resample_map(x, 8, 4, (48, 64)), F.interpolate(x, scale_factor=2, mode="bilinear"))


@pytest.mark.parametrize(("patch", "stride"), [(8, 32), (14, 16), (14, 32)])
def test_a_coarser_level_is_the_mean_of_the_line_around_its_centre(patch, stride):
    values = torch.randn(32, generator=torch.Generator().manual_seed(0)).double()
    fine = 100  # samples a pixel
    at = (torch.arange(32 * patch * fine, dtype=torch.float64) + 0.5) / fine
    position = (at / patch - 0.5).clamp(0, 31)
    left = position.floor().long().clamp(max=30)
    line = torch.lerp(values[left], values[left + 1], position - left)
    centre, half = int(5.5 * stride * fine), (stride - patch) * fine // 2
    expected = line[centre - half : centre + half].mean()
    found = level_matrix(32, 12, patch, stride, dtype=torch.float64)[5] @ values
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_type_of_a_map_stays_and_autocast_costs_no_accuracy(dtype):
    x = torch.randn(1, 2, 7, 7).to(dtype)
    expected = resample_map(x.double(), 14, 16, (98, 98)).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = resample_map(x, 14, 16, (98, 98))
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected)


# What every pyramid is.


@torch.no_grad()
@kinds
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_level_has_a_cell_for_every_pixel(suffix, size):
    maps = built(suffix)(image_of(*size))
    assert type(maps) is list
    assert [m.shape[2:] for m in maps] == [(-(-size[0] // r), -(-size[1] // r)) for r in STRIDES]
    assert all(m.isfinite().all() for m in maps)


@kinds
@pytest.mark.parametrize("features_only", [{}, {"features_only": True}, {"features_only": False}], ids=str)
def test_maps_come_whether_or_not_features_only_is_said(suffix, features_only):
    model = built(suffix, **features_only)
    assert isinstance(model, Pyramid) and len(model(image_of(64, 40))) == 4
    assert not hasattr(model, "forward_intermediates")


@kinds
@pytest.mark.parametrize("name", VARIANTS)
def test_every_model_has_both_pyramids(name, suffix):
    variant = VARIANTS[name]
    with torch.device("meta"):
        model = timm.create_model(name + suffix, features_only=True)
        maps = model(torch.empty(1, 3, variant.img_size, variant.img_size))
    channels = variant.embed_dim if suffix == "_pyramid" else 256
    expected = tap_indices(variant.depth) if suffix == "_pyramid" else [variant.depth - 1]
    assert model.layers == expected
    assert model.feature_info.reduction() == list(STRIDES)
    assert model.feature_info.channels() == [channels] * 4
    assert [tuple(m.shape) for m in maps] == [(1, channels, *[-(-variant.img_size // r)] * 2) for r in STRIDES]
    assert {p.device.type for p in model.parameters()} == {"meta"}


@kinds
@pytest.mark.parametrize("name", VARIANTS)
def test_the_names_are_registered_like_the_towers(name, suffix):
    published = VARIANTS[name].hub_id is not None
    assert is_model_pretrained(name + suffix) is published
    cfg = get_pretrained_cfg(name + suffix)
    assert (cfg.mean, cfg.std, cfg.hf_hub_id) == ((0.5,) * 3, (0.5,) * 3, VARIANTS[name].hub_id)
    assert cfg.architecture == name + suffix and cfg.tag == ("webli" if published else None)
    if published:
        assert timm.create_model(f"{name}{suffix}.webli", device="meta").pretrained_cfg["tag"] == "webli"


@kinds
def test_feature_info_is_what_clients_of_timm_read(suffix):
    model = built(suffix)
    info = model.feature_info
    assert type(info) is FeatureInfo and tuple(info.out_indices) == (0, 1, 2, 3)
    assert info.module_name() == [f"levels.{i}" for i in range(4)]
    assert set(info.module_name()) <= {name for name, _ in model.named_modules()}
    assert [d["index"] for d in info.get_dicts()] == [0, 1, 2, 3]
    assert model.num_features == 96
    assert model.default_cfg is model.pretrained_cfg and model.pretrained_cfg["source"] == "random"
    assert resolve_model_data_config(model)["mean"] == (0.5, 0.5, 0.5)


@torch.no_grad()
@kinds
@pytest.mark.parametrize("asked", [[3, 0], [-1], (1, 2), 2, range(3)], ids=str)
def test_levels_come_in_the_order_asked_for(suffix, asked):
    indices = [i % 4 for i in asked] if not isinstance(asked, int) else [2, 3]
    model, everything = built(suffix, out_indices=asked), built(suffix)
    model.load_state_dict({k: v for k, v in everything.state_dict().items() if k in model.state_dict()})
    maps, expected = model(image_of(40, 72)), everything(image_of(40, 72))
    assert model.out_indices == indices and model.feature_info.reduction() == [STRIDES[i] for i in indices]
    assert all(torch.equal(found, expected[i]) for found, i in zip(maps, indices, strict=True))


def test_what_other_levels_need_is_dropped():
    assert len(built("_pyramid", out_indices=[1, 0]).model.blocks) == 2
    assert not any(name.startswith("levels.0") for name in built("_sfp", out_indices=[2]).state_dict())
    assert not any("attn_pool" in name for name in built("_pyramid").state_dict())


@kinds
@pytest.mark.parametrize("asked", [[0, 0], [3, -1], [4], [-5], [1.0], ["1"], [], 0, 5, True], ids=str)
def test_what_is_no_level_is_refused(suffix, asked):
    with pytest.raises(ValueError, match=r"out_indices is .*(names level \d twice|expected level indices from -4)"):
        built(suffix, out_indices=asked)


@kinds
@pytest.mark.parametrize("asked", [[0, 1, 2, 2], [0, 1, 2, 4], ["a"]], ids=str)
def test_what_is_no_block_is_refused(suffix, asked):
    with pytest.raises(ValueError, match=r"layers is .*(names block \d twice|expected block indices from -4)"):
        built(suffix, layers=asked)


def test_the_wrong_number_of_blocks_is_refused():
    with pytest.raises(
        ValueError, match=r"layers is \[-1\], which is 1 of the tower's 4 blocks; the pyramid reads four"
    ):
        built("_pyramid", layers=[-1])
    with pytest.raises(ValueError, match=r"layers is None, which is 2 of the tower's 2 blocks"):
        built("_pyramid", depth=2)
    with pytest.raises(ValueError, match=r"layers is \[0, 3\], which is 2 blocks; ViTDet's pyramid reads one"):
        built("_sfp", layers=[0, 3])


@kinds
@pytest.mark.parametrize("argument", ["no_such_argument", "pooled", "class_token"])
def test_an_unknown_argument_is_refused_by_name(suffix, argument):
    with pytest.raises(ValueError, match=f"{TINY}{suffix} takes no argument {argument}"):
        built(suffix, **{argument: 16})


@kinds
def test_the_getter_is_accepted_and_another_feature_class_refused(suffix):
    assert len(built(suffix, features_only=True, feature_cls="getter")(image_of(32, 32))) == 4
    with pytest.raises(ValueError, match="feature_cls is 'list'; expected 'getter'"):
        built(suffix, feature_cls="list")


@kinds
def test_another_output_stride_is_refused_with_the_remedy(suffix):
    message = (
        rf"output_stride is 16; the levels of {TINY}{suffix} are always at 4, 8, 16, 32 px.*encoder_output_stride=32"
    )
    with pytest.raises(ValueError, match=message):
        built(suffix, features_only=True, output_stride=16)


def test_channels_belong_to_the_learned_levels():
    assert [m.shape[1] for m in built("_sfp", out_channels=12)(image_of(32, 32))] == [12] * 4
    with pytest.raises(ValueError, match="takes no argument out_channels"):
        built("_pyramid", out_channels=12)
    with pytest.raises(ValueError, match=r"out_channels is 0; expected an integer of at least 1"):
        built("_sfp", out_channels=0)


# The levels themselves.


@torch.no_grad()
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("layers", [None, [3, 0, 2, 1]], ids=str)
def test_each_level_is_a_resampled_block(layers, norm):
    model, tower, image = built("_pyramid", layers=layers, norm=norm), built(""), image_of(40, 72)
    blocks = tower.forward_intermediates(image, norm=norm, intermediates_only=True)
    for found, block, stride in zip(model(image), layers or [0, 1, 2, 3], STRIDES, strict=True):
        torch.testing.assert_close(found, resample_map(blocks[block], 8, stride, (40, 72)))
    assert torch.equal(model(image)[1], blocks[(layers or [0, 1])[1]])  # its own stride


@torch.no_grad()
def test_so400m_patch14_384_repeats_its_last_cell_over_the_pixels_it_does_not_see():
    with torch.device("meta"):
        model = timm.create_model("siglip2_so400m_patch14_384_pyramid")
        assert [m.shape[2] for m in model(torch.empty(1, 3, 384, 384))] == [96, 48, 24, 12]
    ramp = centres(27, 14).expand(1, 1, 27, 27)
    for stride in STRIDES:
        level = resample_map(ramp, 14, stride, (384, 384))[0, 0]
        expected = centres(384 // stride, stride)
        inside = (expected > 32) & (expected < 340)
        torch.testing.assert_close(level[0][inside], expected[inside])
    last = resample_map(ramp, 14, 4, (384, 384))[..., -3:]
    torch.testing.assert_close(last, torch.full_like(last, 371))  # the centre of the last cell


@torch.no_grad()
@pytest.mark.parametrize("patch", [14, 16, 32])
def test_a_pyramid_of_any_patch_locates_a_bright_spot_at_every_level(patch):
    torch.manual_seed(0)
    args = {"patch_size": patch, "img_size": 10 * patch, "depth": 4}
    model = timm.create_model(TINY + "_pyramid", **args, norm=False).eval()
    tower = model.model
    for module in (*tower.blocks.modules(), tower.patch_embed):  # leave a linear map of the pixels
        for parameter in module.parameters():
            parameter.zero_()
    tower.pos_embed.zero_()
    tower.patch_embed.proj.weight[:] = 1 / (3 * patch**2)
    height, width = 230, 391
    ramp = torch.arange(width) + 0.5
    maps = model(ramp.expand(1, 3, height, width))
    for level, stride in zip(maps, STRIDES, strict=True):
        expected = (torch.arange(level.shape[-1]) + 0.5) * stride
        inside = (expected > 64) & (expected < width - 96)
        torch.testing.assert_close(level[0, 0, 0][inside], expected[inside], rtol=1e-4, atol=1e-2)


@torch.no_grad()
def test_simple_levels_are_those_of_vitdet():
    model, image = built("_sfp", out_channels=6), image_of(64, 96)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    last = model.model.forward_features(image).mT.reshape(1, 96, 8, 12)
    x = F.avg_pool2d(last, 2)  # from 8 to 16 px
    w = model.state_dict()

    def norm(x, name):
        mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
        return (x - mean) / (variance + 1e-6).sqrt() * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][
            :, None, None
        ]

    def up(x, name):
        return F.conv_transpose2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride=2)

    resized = [
        up(F.gelu(norm(up(x, "levels.0.rescale.0"), "levels.0.rescale.1")), "levels.0.rescale.3"),
        up(x, "levels.1.rescale.0"),
        x,
        F.max_pool2d(x, 2),
    ]
    assert [m.shape[1] for m in resized] == [24, 48, 96, 96]
    for i, (level, found) in enumerate(zip(resized, model(image), strict=True)):
        expected = norm(F.conv2d(level, w[f"levels.{i}.project.0.weight"]), f"levels.{i}.project.1")
        expected = F.conv2d(expected, w[f"levels.{i}.project.2.weight"], padding=1)
        torch.testing.assert_close(found, norm(expected, f"levels.{i}.project.3"), rtol=1e-4, atol=1e-5)


# Weights.


@torch.no_grad()
@kinds
def test_the_tower_is_pretrained(fixed, suffix):
    overlay = {"file": str(fixed["whole"])}
    by_name = timm.create_model(TINY + suffix, pretrained=True, pretrained_cfg_overlay=overlay)
    kind = split_suffix(TINY + suffix)[1]
    by_path = create_backbone(fixed["vision"], pyramid=kind)
    plain = create_backbone(fixed["vision"], out_indices=[3])
    assert fingerprint(by_name) == fingerprint(by_path) == fingerprint(plain)
    assert by_path.pretrained_cfg["source"] == str(fixed["vision"])
    assert by_path.pretrained_cfg["architecture"] == TINY + suffix
    assert not any(p.is_meta for p in by_name.parameters())
    assert all(m.isfinite().all() for m in by_path(image_of(64, 40)))


@torch.no_grad()
def test_a_pretrained_resampled_pyramid_has_nothing_untrained(fixed):
    model = create_backbone(fixed["whole"], pyramid="resample").eval()
    plain = create_backbone(fixed["whole"]).eval()
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(model(image_of(64, 40))[1], plain(image_of(64, 40))[1])


def test_create_backbone_takes_names_and_ids():
    assert isinstance(create_backbone(f"{TINY}_sfp", pretrained=False, out_channels=8), SimpleFeaturePyramid)
    assert isinstance(create_backbone(f"{TINY}_pyramid", pretrained=False, out_indices=[2]), ResampledPyramid)
    assert isinstance(create_backbone(TINY, pyramid="resample", pretrained=False), ResampledPyramid)
    hub_id = "google/siglip2-base-patch16-256"
    model = create_backbone(hub_id, pyramid="sfp", pretrained=False, device="meta")
    assert model.pretrained_cfg["architecture"] == "siglip2_base_patch16_256_sfp"
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert isinstance(
        create_backbone("siglip2_base_patch16_256_pyramid.webli", pretrained=False, device="meta"), Pyramid
    )


def test_an_existing_path_wins_over_a_suffix(fixed, tmp_path, monkeypatch):
    (tmp_path / "weights_sfp").symlink_to(fixed["vision"])
    monkeypatch.chdir(tmp_path)
    assert not isinstance(create_backbone("weights_sfp"), Pyramid)


@pytest.mark.parametrize(
    ("source", "args", "message"),
    [
        (TINY, {"pyramid": "fpn"}, "pyramid is 'fpn'; expected one of resample, sfp, or None"),
        (f"{TINY}_sfp", {"pyramid": "resample"}, r"is a pyramid of kind 'sfp', but pyramid is 'resample'"),
        (f"{TINY}_sfp", {"pooled": True}, "as a pyramid returns maps only"),
        (f"{TINY}_pyramid", {"pretrained": True}, f"{TINY} has no published weights"),
        (
            "siglip2_base_patch16_265_pyramid",
            {},
            r"'siglip2_base_patch16_265' is not a file.*siglip2_base_patch16_256",
        ),
    ],
)
def test_what_does_not_fit_is_refused(source, args, message):
    with pytest.raises(ValueError, match=message):
        create_backbone(source, **{"pretrained": False, **args})


@kinds
def test_place_and_type_hold_for_tower_and_neck(suffix):
    assert {p.dtype for p in built(suffix, dtype=torch.float64).parameters()} == {torch.float64}
    assert built(suffix, in_chans=1)(torch.randn(1, 1, 32, 32))[0].shape[2:] == (8, 8)


# Training.


@pytest.mark.parametrize("suffix", ["_pyramid", "_sfp"])
def test_gradient_checkpointing_changes_no_gradient(suffix):
    gradients = []
    for enable in (False, True):
        model = built(suffix).train()
        model.set_grad_checkpointing(enable)
        assert model.model.grad_checkpointing is enable
        sum(m.square().sum() for m in model(image_of(64, 40))).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() == dict(model.named_parameters()).keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-4)


@kinds
def test_layer_decay_halves_from_block_to_block_and_leaves_the_neck(suffix):
    model = built(suffix)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = param_groups_layer_decay(
        model, weight_decay=0.1, no_weight_decay_list=model.no_weight_decay(), layer_decay=0.5
    )
    found = {names[id(p)]: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    neck = {name: value for name, value in found.items() if name.startswith("levels.")}
    top = 0.5 if neck else 1
    assert [found[f"model.blocks.{i}.mlp.fc1.weight"][0] for i in range(4)] == [top / 8, top / 4, top / 2, top]
    assert found["model.norm.weight"][0] == top and found["model.pos_embed"] == (top / 16, 0)
    assert bool(neck) is (suffix == "_sfp") and all(scale == 1 for scale, _ in neck.values())


def test_the_announced_size_is_passed_on():
    model = built("_pyramid")
    model.set_input_size((64, 96))
    assert model.model.patch_embed.grid_size == (8, 12)


# Graphs.


@torch.no_grad()
@kinds
def test_one_exported_graph_takes_every_size(suffix):
    model = built(suffix)
    height, width = Dim("height", max=20), Dim("width", max=20)
    exported = torch.export.export(model, (image_of(96, 160),), dynamic_shapes=({2: 16 * height, 3: 16 * width},))
    for size in [(96, 160), (128, 128), (48, 320), (320, 64)]:
        for found, expected in zip(exported.module()(image_of(*size)), model(image_of(*size)), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_one_compiled_graph_takes_every_size():
    graphs = []

    def capture(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model = built("_sfp")  # it resamples as well
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=capture)
    for size in [(96, 160), (128, 128), (48, 320), (320, 64)]:
        for found, expected in zip(compiled(image_of(*size)), model(image_of(*size)), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert len(graphs) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a_pyramid", ("a", "resample")),
        ("a_sfp.webli", ("a.webli", "sfp")),
        ("a.x_sfp", ("a.x_sfp", None)),
        ("a", ("a", None)),
    ],
)
def test_suffixes(name, expected):
    assert split_suffix(name) == expected
