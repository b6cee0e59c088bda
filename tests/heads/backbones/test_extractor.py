import socket
import threading
from contextlib import suppress

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from heads import Extractor
from heads.training.optim import backbone_groups
from siglip2_backbone import create_backbone
from siglip2_backbone.conversion import convert


@pytest.fixture(scope="module")
def image():
    return torch.rand(2, 3, 50, 70, generator=torch.Generator().manual_seed(0))


def test_maps_are_the_backbones_on_normalised_pixels(checkpoint, image):
    extractor = Extractor(str(checkpoint), layers=[3, 1])
    backbone = create_backbone(checkpoint, out_indices=[3, 1]).eval()
    for found, expected in zip(extractor(image), backbone(2 * image - 1), strict=True):
        torch.testing.assert_close(found, expected)
    assert extractor.channels == [96, 96] and extractor.reductions == [8, 8]


def test_stays_frozen_and_in_evaluation_mode(checkpoint, image):
    extractor = Extractor(str(checkpoint)).train()
    assert extractor.training and not extractor.backbone.training
    assert not any(module.training for module in extractor.backbone.modules())
    assert not any(p.requires_grad for p in extractor.parameters())
    assert not extractor(image.requires_grad_())[0].requires_grad


def test_bfloat16_tower_gives_float32_maps(checkpoint, image):
    low, full = (Extractor(str(checkpoint), precision=p) for p in ("bfloat16", "float32"))
    assert {p.dtype for p in low.parameters()} == {torch.bfloat16}
    assert low(image)[0].dtype == torch.float32
    difference = (low(image)[0] - full(image)[0]).norm() / full(image)[0].norm()
    assert 1e-4 < difference < 3e-2


def test_autocast_does_not_lower_the_towers_precision(checkpoint, image):
    extractor = Extractor(str(checkpoint))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = extractor(image)[0]
    assert torch.equal(found, extractor(image)[0])


def test_pooled_output_is_concatenated_and_counted(checkpoint, image):
    extractor = Extractor(str(checkpoint), pooled=True)
    (found,) = extractor(image)
    maps, pooled = create_backbone(checkpoint, out_indices=[-1], pooled=True).eval().forward_pooled(2 * image - 1)
    assert extractor.channels == [192] and found.shape[1] == 192
    torch.testing.assert_close(found[:, :96], maps[0])
    assert (found[:, 96:] == pooled[:, :, None, None]).all()


def test_same_weights_same_fingerprint_whatever_is_not_used(checkpoint):
    last = Extractor(str(checkpoint)).fingerprint()
    assert last == Extractor(create_backbone(checkpoint, out_indices=[3])).fingerprint()
    assert last != Extractor(str(checkpoint), layers=[0]).fingerprint()


@pytest.mark.parametrize(
    ("name", "layers", "channels", "reductions"),
    [
        ("test_vit", [-1], [64], [16]),
        ("vit_tiny_patch16_224", [2, -1], [192, 192], [16, 16]),
        ("test_resnet", [1, 2], [32, 48], [4, 8]),
        ("resnet18", [-1, 1, 3], [512, 64, 256], [32, 4, 16]),
        ("convnext_atto", [0, -1], [40, 320], [4, 32]),
        ("swin_tiny_patch4_window7_224", [0, 2], [96, 384], [4, 16]),  # keeps channels last inside
    ],
)
def test_other_timm_models(image, name, layers, channels, reductions):
    extractor = Extractor(name, layers=layers, pretrained=False)
    maps = extractor(image)
    assert extractor.name == name and extractor.source == "random"
    assert extractor.channels == channels == [m.shape[1] for m in maps]
    assert extractor.reductions == reductions
    assert [m.shape[2:] for m in maps] == [(-(-50 // r), -(-70 // r)) for r in reductions]  # every pixel has a cell


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_layers_come_in_the_order_asked_for(image, name):
    torch.manual_seed(0)
    forward = Extractor(name, layers=[1, 3], pretrained=False)
    backward = Extractor(name, layers=[3, 1], pretrained=False)
    backward.load_state_dict(forward.state_dict())
    for found, expected in zip(backward(image), forward(image)[::-1], strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto"])
def test_other_backbones_get_pixels_normalised_their_own_way(image, name):
    extractor = Extractor(name, pretrained=False)
    cfg = timm.get_pretrained_cfg(name)
    seen = []
    extractor.backbone.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    extractor(image)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (cfg.mean, cfg.std))
    torch.testing.assert_close(seen[0], (image - mean) / std)


def test_final_norm_of_another_transformer(image):
    torch.manual_seed(0)
    extractor = Extractor("vit_tiny_patch16_224", pretrained=False)
    without = Extractor("vit_tiny_patch16_224", norm=False, pretrained=False)
    without.load_state_dict(extractor.state_dict(), strict=False)  # all but the norm
    (normed,), (raw,) = extractor(image), without(image)
    expected = F.layer_norm(raw.movedim(1, -1), (192,), eps=1e-6).movedim(-1, 1)  # weight 1, bias 0 at the start
    torch.testing.assert_close(normed, expected)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "siglip2_base_patch16_255",
            {},
            r"'siglip2_base_patch16_255' is no file.*Did you mean siglip2_base_patch16_256",
        ),
        ("resnet18x", {}, "'resnet18x' is no file.*Did you mean resnet18"),
        ("resnet18.nope", {"pretrained": False}, "timm cannot build resnet18.nope: Invalid pretrained tag"),
        ("coatnet_0_224", {}, "coatnet_0_224 has no published weights. Pass pretrained=False"),
        ("test_vit", {"pooled": True, "pretrained": False}, "MAP head; test_vit has none"),
        (
            "test_resnet",
            {"layers": [5], "pretrained": False},
            "out_indices is .5.; expected block indices from -5 to 4",
        ),
        ("test_resnet", {"layers": [1, 1], "pretrained": False}, "names block 1 twice"),
        ("siglip2_tiny_patch8_128", {"layers": [9], "pretrained": False}, "out_indices"),
        ("siglip2_tiny_patch8_128", {"layers": [], "pretrained": False}, "out_indices"),
        (
            "siglip2_tiny_patch8_128",
            {"precision": "float16", "pretrained": False},
            "'float16'; expected one of float32",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        Extractor(name, **arguments)


def test_no_network_is_said(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(
        ValueError, match=r"(timm cannot build test_vit: no route to host|The hub does not answer).*connection"
    ):
        Extractor("test_vit")


def test_a_model_of_one_size_refuses_others(image):
    extractor = Extractor("mixer_s32_224", pretrained=False)
    assert extractor(torch.rand(1, 3, 224, 224))[0].shape == (1, 512, 7, 7)
    with pytest.raises(ValueError, match=r"MlpMixer refuses images of 50 x 70 px.*Set img_size"):
        extractor(image)


def test_a_path_may_be_a_path(checkpoint):
    assert Extractor(checkpoint).arguments == Extractor(str(checkpoint)).arguments


def test_arguments_that_a_built_backbone_has_decided_are_refused(checkpoint):
    with pytest.raises(ValueError, match="belong to create_backbone"):
        Extractor(create_backbone(checkpoint), layers=[2])


def test_a_relative_path_is_remembered_as_an_absolute_one(checkpoint, monkeypatch):
    monkeypatch.chdir(checkpoint.parent)
    assert Extractor(checkpoint.name).arguments["backbone"] == str(checkpoint.resolve())


@pytest.mark.parametrize(("suffix", "channels"), [("_pyramid", 96), ("_sfp", 256)])
def test_a_pyramid_by_name(image, suffix, channels):
    name = "siglip2_tiny_patch8_128" + suffix
    extractor = Extractor(name, pretrained=False, tune="full" if suffix == "_sfp" else "frozen")
    maps = extractor(image)
    assert extractor.reductions == [4, 8, 16, 32] and extractor.channels == [channels] * 4
    assert [m.shape[1:] for m in maps] == [(channels, -(-50 // r), -(-70 // r)) for r in extractor.reductions]
    assert extractor.name == name


def test_layers_of_a_pyramid_are_the_blocks_that_it_reads(checkpoint, image):
    extractor = Extractor(checkpoint, pyramid="resample", layers=[3, 1, 0, 2])
    own = create_backbone(checkpoint, pyramid="resample", layers=[3, 1, 0, 2]).eval()
    for found, expected in zip(extractor(image), own(2 * image - 1), strict=True):
        torch.testing.assert_close(found, expected)
    assert extractor.arguments["layers"] == [3, 1, 0, 2] and extractor.arguments["pyramid"] == "resample"
    again = Extractor(**extractor.arguments)
    assert again.fingerprint() == extractor.fingerprint() == Extractor(checkpoint).fingerprint()
    assert all(torch.equal(a, b) for a, b in zip(again(image), extractor(image), strict=True))
    assert Extractor(own).arguments == extractor.arguments


def test_learned_levels_are_trained_with_the_backbone(checkpoint, image):
    extractor = Extractor(checkpoint, pyramid="sfp", tune="full", grad_checkpointing=True)
    assert extractor.arguments["layers"] == [3]
    assert any(name.startswith("backbone.levels.3") for name in extractor.trained)
    sum(m.square().mean() for m in extractor(image)).backward()
    assert all(p.grad is not None for p in extractor.parameters())
    groups = backbone_groups(extractor.layered, lr=1.0, weight_decay=0.1, layer_decay=0.5)
    assert sum(len(g["params"]) for g in groups) == len(list(extractor.parameters()))
    neck = next(extractor.backbone.levels.parameters())
    assert [g["lr"] for g in groups if any(p is neck for p in g["params"])] == [1.0]


@pytest.mark.parametrize(
    ("backbone", "arguments", "message"),
    [
        ("siglip2_tiny_patch8_128_pyramid", {"layers": [-1]}, r"layers is \[-1\].*the pyramid reads four"),
        ("siglip2_tiny_patch8_128_pyramid", {"pooled": True}, "as a pyramid returns maps only"),
        ("siglip2_tiny_patch8_128_sfp", {}, "tune is 'frozen', but the levels of sfp are learned"),
        ("siglip2_tiny_patch8_128_sfp", {"tune": "lora"}, "tune is 'lora', but the levels of sfp are learned"),
        ("test_vit", {"pyramid": "resample"}, "pyramid='resample' needs a SigLIP 2 tower; test_vit is not one"),
    ],
)
def test_pyramids_that_cannot_be_are_refused(backbone, arguments, message):
    with pytest.raises(ValueError, match=message):
        Extractor(backbone, pretrained=False, **arguments)


@pytest.mark.parametrize(
    "arguments", [{"pyramid": "resample", "out_indices": [1]}, {"pyramid": "sfp", "out_channels": 8}]
)
def test_a_built_pyramid_that_no_checkpoint_could_rebuild_is_refused(checkpoint, arguments):
    with pytest.raises(ValueError, match=r"expected all four in order.*Leave out out_indices and out_channels"):
        Extractor(create_backbone(checkpoint, **arguments), tune="full")


def test_timms_prefix_before_a_tower_changes_nothing(checkpoint, tmp_path):
    image, plain = torch.rand(1, 3, 32, 48), Extractor(str(checkpoint))
    prefixed = Extractor(f"local-dir:{checkpoint}")
    assert torch.equal(prefixed(image)[0], plain(image)[0]) and prefixed.fingerprint() == plain.fingerprint()
    convert(checkpoint, tmp_path / "timm", "timm")
    converted = Extractor(f"local-dir:{tmp_path / 'timm'}")
    assert torch.equal(converted(image)[0], plain(image)[0])


@pytest.mark.parametrize("pyramid", [None, "resample"])
def test_a_tower_with_windows_is_built_again_from_its_arguments(checkpoint, image, pyramid):
    windows = {"window_size": 3, "global_blocks": [1, -1]}
    extractor = Extractor(checkpoint, pyramid=pyramid, tower_args=windows)
    own = create_backbone(checkpoint, pyramid=pyramid, **({} if pyramid else {"out_indices": [-1]}), **windows).eval()
    for found, expected in zip(extractor(image), own(2 * image - 1), strict=True):
        torch.testing.assert_close(found, expected)
    assert not torch.allclose(extractor(image)[-1], Extractor(checkpoint, pyramid=pyramid)(image)[-1], atol=1e-3)
    assert extractor.arguments["tower_args"] == {"window_size": 3, "global_blocks": [1, 3]}
    again = Extractor(**extractor.arguments)
    assert again.arguments == extractor.arguments == Extractor(own).arguments
    assert all(torch.equal(a, b) for a, b in zip(again(image), extractor(image), strict=True))
    assert extractor.fingerprint() == Extractor(checkpoint, pyramid=pyramid).fingerprint()


def test_stochastic_depth_acts_in_training_of_a_tuned_backbone_only(checkpoint, image):
    dropping = {"tower_args": {"drop_path_rate": 0.5}}
    plain, tuned = Extractor(checkpoint), Extractor(checkpoint, tune="full", **dropping)
    frozen = Extractor(create_backbone(checkpoint, out_indices=[-1], drop_path_rate=0.5)).train()
    assert torch.equal(frozen(image)[0], plain(image)[0])
    assert torch.equal(tuned.eval()(image)[0], plain(image)[0])
    assert not torch.allclose(tuned.train()(image)[0], plain(image)[0], atol=1e-3)


def test_adapters_train_in_windows(checkpoint, image):
    pytest.importorskip("peft")
    windows = {"window_size": 3, "global_blocks": []}
    extractor = Extractor(checkpoint, tune="lora", grad_checkpointing=True, tower_args=windows).train()
    assert torch.allclose(extractor(image)[0], Extractor(checkpoint, tower_args=windows)(image)[0], atol=1e-5)
    extractor(image)[0].square().mean().backward()
    assert all(p.grad is not None for p in extractor.parameters() if p.requires_grad)


def test_tower_args_of_what_is_no_tower_to_build_are_refused(checkpoint):
    with pytest.raises(ValueError, match=r"tower_args=.'window_size': 3. needs a SigLIP 2 tower; test_vit is not one"):
        Extractor("test_vit", pretrained=False, tower_args={"window_size": 3})
    with pytest.raises(ValueError, match="tower_args belong to create_backbone"):
        Extractor(create_backbone(checkpoint), tower_args={"window_size": 3})
    assert Extractor("test_vit", pretrained=False).arguments["tower_args"] is None


@pytest.fixture
def silent_hub(tmp_path, monkeypatch):
    """A hub that takes every connection and never says anything; the connections."""
    server = socket.create_server(("127.0.0.1", 0), backlog=100)
    address = "http://{}:{}".format(*server.getsockname())
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("siglip2_backbone.hub._TIMEOUT", 0.2)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    taken = []

    def take():
        with suppress(OSError):  # until it is closed
            while True:
                taken.append(server.accept()[0])

    thread = threading.Thread(target=take)
    thread.start()
    yield taken
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()
    for connection in taken:
        connection.close()


@pytest.mark.parametrize("name", ["resnet18", "siglip2_base_patch16_256", "hf-hub:google/siglip2-base-patch16-256"])
def test_a_hub_that_never_answers_is_asked_once(silent_hub, name):
    with pytest.raises(ValueError, match=r"The hub does not answer, and timm/resnet18.* is not|hub cannot be reached"):
        Extractor(name)
    assert len(silent_hub) == 1
    assert not huggingface_hub.constants.HF_HUB_OFFLINE and socket.getdefaulttimeout() is None


def test_weights_in_the_cache_are_used_where_the_hub_never_answers(silent_hub, tmp_path):
    model = timm.create_model("resnet18", num_classes=1000)
    repository, _, _ = model.pretrained_cfg["hf_hub_id"].partition("@")
    folder = tmp_path / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(model.state_dict(), folder / "snapshots" / ("0" * 40) / "model.safetensors")
    found = Extractor("resnet18")
    assert len(silent_hub) == 1
    assert torch.equal(found.timm_model.conv1.weight, model.conv1.weight)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_padding_is_the_backbones_mean_bit_for_bit(checkpoint, precision):
    extractor = Extractor(checkpoint, precision=precision)
    extractor.mean = (0.1, 0.2, 0.3)
    padding = torch.zeros(2, 1, 40, 56, dtype=torch.bool)
    padding[1, :, 20:] = True
    image = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    filled = torch.where(padding, torch.tensor(extractor.mean)[:, None, None], image)
    for found, expected in zip(extractor(image, padding), extractor(filled), strict=True):
        assert torch.equal(found, expected)
