import pytest

from siglip2_backbone.variants import TINY, VARIANTS, by_hub_id, by_timm_name, native_size

# parameters of the vision towers of the 17 published checkpoints
PUBLISHED = {
    "google/siglip2-base-patch32-256": 94_552_320,
    "google/siglip2-base-patch16-224": 92_884_224,
    "google/siglip2-base-patch16-256": 92_930_304,
    "google/siglip2-base-patch16-384": 93_176_064,
    "google/siglip2-base-patch16-512": 93_520_128,
    "google/siglip2-large-patch16-256": 315_956_224,
    "google/siglip2-large-patch16-384": 316_283_904,
    "google/siglip2-large-patch16-512": 316_742_656,
    "google/siglip2-so400m-patch14-224": 427_680_704,
    "google/siglip2-so400m-patch14-384": 428_225_600,
    "google/siglip2-so400m-patch16-256": 427_888_064,
    "google/siglip2-so400m-patch16-384": 428_256_704,
    "google/siglip2-so400m-patch16-512": 428_772_800,
    "google/siglip2-giant-opt-patch16-256": 1_163_168_256,
    "google/siglip2-giant-opt-patch16-384": 1_163_659_776,
    "google/siglip2-base-patch16-naflex": 92_930_304,
    "google/siglip2-so400m-patch16-naflex": 427_888_064,
}


def test_all_published_checkpoints_are_there():
    assert {v.hub_id: v.num_params for v in VARIANTS.values() if v.hub_id} == PUBLISHED


def test_names_are_the_hub_ids_with_underscores():
    for hub_id in PUBLISHED:
        variant = by_hub_id(hub_id)
        assert variant is VARIANTS[hub_id.removeprefix("google/").replace("-", "_")]
        assert variant.name.startswith("siglip2_")
    assert by_hub_id("google/siglip-base-patch16-256") is None


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda v: v.name)
def test_sizes_agree_with_transformers(variant, transformers_twin):
    reference = transformers_twin(variant)
    assert sum(p.numel() for p in reference.parameters()) == variant.num_params
    assert reference.embeddings.position_embedding.num_embeddings == variant.grid_size**2


def test_head_widths():
    widths = {v.name: v.embed_dim // v.num_heads for v in VARIANTS.values() if v.hub_id}
    for name, width in widths.items():
        assert width == (72 if "so400m" in name else 96 if "giant" in name else 64), name
    assert all(v.embed_dim % v.num_heads == 0 for v in VARIANTS.values())


def test_same_architecture_looks_at_sizes_and_not_at_names():
    fields = {key: value for key, value in vars(TINY).items() if key != "name"}
    assert TINY.same_architecture(type(TINY)("another", **fields))
    assert not TINY.same_architecture(type(TINY)("another", **fields | {"num_heads": 4}))
    fixed, naflex = VARIANTS["siglip2_base_patch16_256"], VARIANTS["siglip2_base_patch16_naflex"]
    assert not fixed.same_architecture(naflex)


def test_ids_and_names_of_timm():
    assert by_hub_id("timm/vit_base_patch16_siglip_256.v2_webli") is VARIANTS["siglip2_base_patch16_256"]
    assert by_hub_id("timm/naflexvit_so400m_patch16_siglip.v2_webli") is VARIANTS["siglip2_so400m_patch16_naflex"]
    assert by_timm_name("vit_giantopt_patch16_siglip_384") is VARIANTS["siglip2_giant_opt_patch16_384"]
    for unknown in ("vit_base_patch16_siglip_gap_256", "vit_base_patch16_224", "siglip2_tiny_patch8_128"):
        assert by_timm_name(unknown) is None and by_hub_id(f"timm/{unknown}.tag") is None


def test_27_cells_at_patch_14_are_384_px():
    assert native_size(14, 27) == 384
    assert (native_size(14, 16), native_size(16, 27), native_size(8, 16)) == (224, 432, 128)
