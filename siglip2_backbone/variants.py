"""The table of models: the 17 published SigLIP 2 checkpoints and a tiny variant for tests and demos.

Source of the numbers: the checkpoints' config.json files on the hub and ``big_vision/configs/proj/image_text``
(google-research/big_vision @ 0127fb6); the parameter counts are checked against transformers in the tests.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """The architecture of one vision tower.

    Args:
        name: timm model name.
        embed_dim: Width of the tokens.
        depth: Number of transformer blocks.
        num_heads: Number of attention heads.
        mlp_dim: Hidden width of the MLPs.
        patch_size: Side of a square patch [px].
        img_size: Side of the native square image [px].
        naflex: Whether the checkpoint was trained on native aspect ratios (positions are resampled by another rule).
        hub_id: Hugging Face id of the published checkpoint, if any.
        timm_name: timm's name for the architecture of the published checkpoint, if any.
    """

    name: str
    embed_dim: int
    depth: int
    num_heads: int
    mlp_dim: int
    patch_size: int
    img_size: int
    naflex: bool = False
    hub_id: str | None = None
    timm_name: str | None = None

    @property
    def grid_size(self) -> int:
        """Side of the stored position table [cells]; so400m-patch14-384 has 27, because 384 = 27 x 14 + 6."""
        return self.img_size // self.patch_size

    @property
    def num_params(self) -> int:
        """Parameters of the vision tower with its MAP head."""
        d, m = self.embed_dim, self.mlp_dim
        attention = 4 * (d * d + d)
        mlp = 2 * d * m + m + d
        norm = 2 * d
        stem = 3 * self.patch_size**2 * d + d + self.grid_size**2 * d
        block = attention + mlp + 2 * norm
        map_head = d + attention + norm + mlp
        return stem + self.depth * block + norm + map_head

    def same_architecture(self, other: "Variant") -> bool:
        """Whether both describe the same network, regardless of name."""
        ours, theirs = dict(vars(self)), dict(vars(other))
        for key in ("name", "hub_id", "timm_name"):
            del ours[key], theirs[key]
        return ours == theirs


# embed_dim, depth, num_heads, mlp_dim
_SIZES = {
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "so400m": (1152, 27, 16, 4304),
    "giant-opt": (1536, 40, 16, 6144),
}

# size, patch_size [px], img_size [px]; "naflex" has a table of 16 x 16 cells, so 256 px at patch 16
_PUBLISHED: tuple[tuple[str, int, int | str], ...] = (
    ("base", 32, 256),
    ("base", 16, 224),
    ("base", 16, 256),
    ("base", 16, 384),
    ("base", 16, 512),
    ("large", 16, 256),
    ("large", 16, 384),
    ("large", 16, 512),
    ("so400m", 14, 224),
    ("so400m", 14, 384),
    ("so400m", 16, 256),
    ("so400m", 16, 384),
    ("so400m", 16, 512),
    ("giant-opt", 16, 256),
    ("giant-opt", 16, 384),
    ("base", 16, "naflex"),
    ("so400m", 16, "naflex"),
)

# timm uses 378 px here, which the 27 cells cover; google squashes images to 384 px and drops the last 6
_TIMM_SIDE = {"siglip2-so400m-patch14-384": 378}


def _published(size: str, patch_size: int, img_size: int | str) -> Variant:
    checkpoint = f"siglip2-{size}-patch{patch_size}-{img_size}"
    theirs = f"{size.replace('-', '')}_patch{patch_size}_siglip"
    return Variant(
        checkpoint.replace("-", "_"),
        *_SIZES[size],
        patch_size=patch_size,
        img_size=img_size if isinstance(img_size, int) else 256,
        naflex=img_size == "naflex",
        hub_id=f"google/{checkpoint}",
        timm_name=f"naflexvit_{theirs}"
        if img_size == "naflex"
        else f"vit_{theirs}_{_TIMM_SIDE.get(checkpoint, img_size)}",
    )


CUSTOM = "siglip2_custom"  # name of every other architecture

TINY = Variant("siglip2_tiny_patch8_128", 96, 4, 3, 384, patch_size=8, img_size=128)

VARIANTS: dict[str, Variant] = {v.name: v for v in (*(_published(*row) for row in _PUBLISHED), TINY)}


def by_hub_id(hub_id: str) -> Variant | None:
    """The published variant behind a Hugging Face id of google's or timm's, or None."""
    if hub_id.startswith("timm/"):
        return by_timm_name(hub_id.removeprefix("timm/").split(".")[0])
    return next((v for v in VARIANTS.values() if v.hub_id == hub_id), None)


def by_timm_name(name: str) -> Variant | None:
    """The published variant that timm calls ``name``, or None."""
    # timm calls the tower of 27 cells 384 for SigLIP 1, and 378 for SigLIP 2
    name = name.replace("patch14_siglip_384", "patch14_siglip_378")
    return next((v for v in VARIANTS.values() if v.timm_name == name), None)


def published(found: Variant) -> Variant:
    """The variant of the table with this architecture, or ``found`` itself if there is none."""
    return next((v for v in VARIANTS.values() if v.same_architecture(found)), found)


def native_size(patch_size: int, grid_size: int) -> int:
    """Side of the native image [px] of a square table: patch times cells, except 384 for 27 cells at patch 14."""
    sides = (v.img_size for v in VARIANTS.values() if (v.patch_size, v.grid_size) == (patch_size, grid_size))
    return next(sides, patch_size * grid_size)
