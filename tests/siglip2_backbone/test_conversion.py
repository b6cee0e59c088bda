import json
import shutil
import warnings

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.data import resolve_model_data_config
from timm.models.naflexvit import NaFlexVit
from timm.models.vision_transformer import VisionTransformer
from transformers import (
    AutoImageProcessor,
    Siglip2VisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from siglip2_backbone import VARIANTS, create_backbone, fingerprint
from siglip2_backbone.checkpoints import variant_of
from siglip2_backbone.checkpoints.sources import CheckpointFiles
from siglip2_backbone.conversion import convert, timm_config, to_timm, to_transformers, transformers_configs
from siglip2_backbone.variants import TINY

SOURCES = ["whole", "sharded", "vision", "npz"]
kinds = pytest.mark.parametrize("kind", ["fixed", "naflex"])
variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda v: v.name)


def vision(path):
    """The vision tensors of a file, by the name without prefix."""
    tensors = load_file(path / "model.safetensors")
    return {
        k.removeprefix("vision_model."): t for k, t in tensors.items() if not k.startswith(("text_model.", "logit_"))
    }


def same(one, other):
    assert one.keys() == other.keys()
    assert all(t.dtype == other[k].dtype and torch.equal(t, other[k]) for k, t in one.items())


@kinds
def test_google_to_timm_to_ours_to_google_is_bitwise(kind, request, tmp_path):
    source = request.getfixturevalue(kind)["whole"]
    printed = [
        convert(source, tmp_path / "timm", "timm"),
        convert(tmp_path / "timm", tmp_path / "timm2", "timm"),
        convert(tmp_path / "timm2", tmp_path / "google", "transformers"),
        convert(tmp_path / "google", tmp_path / "timm3", "timm"),
    ]
    assert set(printed) == {fingerprint(create_backbone(source, pooled=True))}
    same(vision(tmp_path / "google"), vision(source))
    same(load_file(tmp_path / "timm3" / "model.safetensors"), load_file(tmp_path / "timm" / "model.safetensors"))


def test_google_to_our_own_name_and_back_is_bitwise(fixed, tmp_path):
    convert(fixed["whole"], tmp_path / "own", "siglip2")
    convert(tmp_path / "own", tmp_path / "google", "transformers")
    same(vision(tmp_path / "google"), vision(fixed["whole"]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_stored_type_is_kept(dtype, edited, tmp_path):
    source = edited(tensors=lambda tensors: {k: t.to(dtype) for k, t in tensors.items()})
    convert(source, tmp_path / "timm", "timm")
    convert(tmp_path / "timm", tmp_path / "google", "transformers")
    same(vision(tmp_path / "google"), vision(source))
    assert json.loads((tmp_path / "google" / "config.json").read_text())["dtype"] == str(dtype).split(".")[1]


def test_of_several_types_the_one_that_holds_all_is_written(edited, tmp_path):
    def mixed(tensors):
        return {k: t.half() if "norm" in k else t.bfloat16() for k, t in tensors.items()}

    source = edited(tensors=mixed)
    convert(source, tmp_path / "google", "transformers")
    same(vision(tmp_path / "google"), {k: t.float() for k, t in vision(source).items()})


def ours(path):
    return create_backbone(path, pooled=True, dtype=torch.float64).model.eval()


@pytest.mark.parametrize("source", SOURCES)
@kinds
@torch.no_grad()
def test_plain_timm_gives_our_numbers(kind, source, request, tmp_path, relative_error):
    path = request.getfixturevalue(kind)[source]
    convert(path, tmp_path / "timm", "timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).double().eval()
    assert type(theirs) is (NaFlexVit if kind == "naflex" else VisionTransformer)
    image = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert relative_error(theirs(image), ours(path)(image)) < 1e-13
    assert relative_error(theirs.forward_features(image), ours(path).forward_features(image)) < 1e-13
    config = resolve_model_data_config(theirs)
    assert (config["interpolation"], config["crop_mode"], config["crop_pct"]) == ("bilinear", "squash", 1.0)
    assert tuple(config["mean"]) == tuple(config["std"]) == (0.5, 0.5, 0.5)
    assert tuple(config["input_size"]) == (3, 128, 128)


@variants
def test_timm_builds_the_architecture_from_what_is_written(variant, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(timm_config(variant)))
    with torch.device("meta"):
        theirs = timm.create_model(f"local-dir:{tmp_path}")
        own = timm.create_model(variant.name)
    shapes = {name: t.shape for name, t in to_timm(own.state_dict(), variant).items()}
    assert {name: t.shape for name, t in theirs.state_dict().items()} == shapes
    assert {type(m.mlp.act).__name__ for m in (*theirs.blocks, theirs.attn_pool)} == {
        type(own.blocks[0].mlp.act).__name__
    }
    assert theirs.blocks[0].attn.num_heads == theirs.attn_pool.num_heads == variant.num_heads
    assert theirs.norm.eps == theirs.attn_pool.norm.eps == 1e-6
    if not variant.naflex:
        assert theirs.patch_embed.img_size == (variant.img_size, variant.img_size)
    found = variant_of(CheckpointFiles("x", {}, json.loads((tmp_path / "config.json").read_text())))
    assert found is variant


def test_the_exact_gelu_of_timms_name_would_show(fixed, tmp_path, relative_error):
    convert(fixed["whole"], tmp_path / "timm", "timm")
    config = json.loads((tmp_path / "timm" / "config.json").read_text())
    config["architecture"] = "vit_base_patch16_siglip_256"  # exact by default
    assert config["model_args"].pop("act_layer") == "gelu_tanh"
    (tmp_path / "timm" / "config.json").write_text(json.dumps(config))
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).double().eval()
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        assert relative_error(theirs(image), ours(fixed["whole"])(image)) > 3e-5


def reduced(folder, scale_up, **sizes):
    """One block of a published width, as transformers writes it."""
    scale_up(
        SiglipVisionModel(SiglipVisionConfig(num_hidden_layers=1, num_attention_heads=16, **sizes))
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("sizes", "name", "side"),
    [
        (
            {"hidden_size": 1152, "intermediate_size": 4304, "patch_size": 14, "image_size": 384},
            "vit_so400m_patch14_siglip_378",
            384,
        ),
        (
            {"hidden_size": 1536, "intermediate_size": 6144, "patch_size": 16, "image_size": 256},
            "vit_giantopt_patch16_siglip_256",
            256,
        ),
    ],
    ids=["so400m/14-384", "giant-opt"],
)
@torch.no_grad()
def test_odd_sizes_at_one_block(sizes, name, side, tmp_path, scale_up, relative_error):
    source = reduced(tmp_path / "source", scale_up, **sizes)
    convert(source, tmp_path / "timm", "timm")
    config = json.loads((tmp_path / "timm" / "config.json").read_text())
    assert config["architecture"] == name
    assert config["model_args"] == {"act_layer": "gelu_tanh", "depth": 1} | ({"img_size": 384} if side == 384 else {})
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = ours(source)(image)
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).double().eval()
    assert theirs.patch_embed.grid_size == (side // sizes["patch_size"],) * 2
    assert relative_error(theirs(image), expected) < 1e-13
    convert(tmp_path / "timm", tmp_path / "google", "transformers")
    same(vision(tmp_path / "google"), vision(source))
    hf = SiglipVisionModel.from_pretrained(tmp_path / "google", dtype=torch.float64, attn_implementation="sdpa").eval()
    assert relative_error(hf(image).pooler_output, expected) < 1e-13


@pytest.mark.parametrize("source", ["whole", "npz"])
@kinds
def test_transformers_loads_it_without_a_word(kind, source, request, tmp_path, caplog, relative_error):
    path = request.getfixturevalue(kind)[source]
    convert(path, tmp_path / "google", "transformers")
    family = Siglip2VisionModel if kind == "naflex" else SiglipVisionModel
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, info = family.from_pretrained(tmp_path / "google", output_loading_info=True)
    assert not any(info.values())
    assert not caplog.records
    same(
        dict(model.state_dict()),
        to_transformers(create_backbone(path, pooled=True).model.state_dict(), model_variant(model)),
    )
    processor = AutoImageProcessor.from_pretrained(tmp_path / "google")
    assert type(processor).__name__.startswith("Siglip2ImageProcessor" if kind == "naflex" else "SiglipImageProcessor")
    assert processor.resample == 2 and list(processor.image_mean) == [0.5, 0.5, 0.5]


def model_variant(model):
    naflex = isinstance(model, Siglip2VisionModel)
    return type(TINY)("x", 96, 4, 3, 384, 8, 128, naflex)


@variants
def test_the_config_for_transformers_is_complete(variant, transformers_twin):
    written = transformers_configs(variant, torch.float32)["config.json"]
    expected = transformers_twin(variant).config
    assert type(expected)(**written).to_dict() == expected.to_dict() | {
        "architectures": written["architectures"],
        "dtype": "float32",
    }
    assert {key for key in expected.to_dict() if hasattr(type(expected)(), key)} - written.keys() <= IRRELEVANT


# what every config of transformers has, whatever the model
IRRELEVANT = {
    "transformers_version",
    "return_dict",
    "output_hidden_states",
    "chunk_size_feed_forward",
    "is_encoder_decoder",
}
IRRELEVANT |= {"id2label", "label2id", "problem_type", "output_attentions", "_name_or_path", "initializer_range"}


@pytest.mark.parametrize("side", [20, 22], ids=["whole patches", "a remainder"])
@torch.no_grad()
def test_sizes_that_nobody_has_published_survive_every_format(side, tmp_path, scale_up, relative_error):
    config = SiglipVisionConfig(
        hidden_size=22, intermediate_size=30, num_hidden_layers=3, num_attention_heads=2, patch_size=4, image_size=side
    )
    scale_up(SiglipVisionModel(config)).save_pretrained(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "timm", "timm")
    convert(tmp_path / "timm", tmp_path / "google", "transformers")
    same(vision(tmp_path / "google"), vision(tmp_path / "source"))
    assert json.loads((tmp_path / "google" / "config.json").read_text())["image_size"] == side
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).double().eval()
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert relative_error(theirs(image), ours(tmp_path / "google")(image)) < 1e-13


def test_sizes_that_have_no_name_here_cannot_have_one_written(naflex, tmp_path):
    with pytest.raises(ValueError, match=r"matches no model of this library.*Choose timm or transformers"):
        convert(naflex["whole"], tmp_path / "out", "siglip2")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ["timm", "transformers", "siglip2"])
def test_a_place_that_is_taken_is_left_alone(target, fixed, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("mine")
    with pytest.raises(ValueError, match="out exists and is not an empty directory"):
        convert(fixed["whole"], tmp_path / "out", target)
    with pytest.raises(ValueError, match="exists"):
        convert(fixed["vision"], fixed["vision"], target)
    assert [p.read_text() for p in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_source_that_is_damaged_leaves_nothing(edited, tmp_path):
    source = edited(tensors=lambda tensors: {k: t for k, t in tensors.items() if "head" not in k})
    with pytest.raises(ValueError, match="missing tensors"):
        convert(source, tmp_path / "out" / "timm", "timm")
    assert not (tmp_path / "out").exists()


def test_siglip_1_stays_siglip_1(fixed, tmp_path):
    folder = shutil.copytree(fixed["whole"], tmp_path / "one")
    table = {"text_model.embeddings.token_embedding.weight": torch.zeros(32000, 1)}
    save_file(load_file(folder / "model.safetensors") | table, folder / "model.safetensors")
    for target in ("timm", "siglip2"):
        with pytest.warns(UserWarning, match="SigLIP 1 checkpoint, according to the English"):
            convert(folder, tmp_path / target, target)
        with pytest.warns(UserWarning, match=r"SigLIP 1 checkpoint, according to the tag (v1_)?webli"):
            create_backbone(tmp_path / target)
        cfg = json.loads((tmp_path / target / "config.json").read_text())["pretrained_cfg"]
        assert "SigLIP 2" not in json.dumps(cfg)
