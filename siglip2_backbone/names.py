"""Names of models: with and without a pyramid, unknown ones, and those without weights."""

import difflib
from pathlib import Path

from .pyramid import PYRAMIDS, SUFFIXES, PyramidKind, split_suffix
from .variants import VARIANTS, Variant


def pyramid_of(source: str | Path, pyramid: PyramidKind | None) -> tuple[str | Path, PyramidKind | None]:
    """The source without a pyramid's suffix, and the requested kind of pyramid."""
    if pyramid not in (None, *PYRAMIDS):
        raise ValueError(f"pyramid is {pyramid!r}; expected one of {', '.join(PYRAMIDS)}, or None.")
    if isinstance(source, Path) or Path(source).expanduser().exists():
        return source, pyramid
    plain, kind = split_suffix(source)
    if kind and pyramid not in (None, kind):
        raise ValueError(f"{source} is a pyramid of kind {kind!r}, but pyramid is {pyramid!r}; leave one of them out.")
    return plain, kind or pyramid


def model_name(variant: Variant, pyramid: PyramidKind | None) -> str:
    """timm's name of a variant's tower, or of its pyramid."""
    return variant.name + (SUFFIXES[pyramid] if pyramid else "")


def unknown_name(name: str) -> str:
    """Message for a name that is neither a path nor a model, with the closest names."""
    names = [*VARIANTS, *(v.hub_id for v in VARIANTS.values() if v.hub_id)]
    plain, kind = split_suffix(name)
    if kind and plain.removesuffix(".webli") in VARIANTS:
        return a_pyramid(name, plain)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    meant = f" Did you mean {', '.join(near)}?" if near else ""
    return f"{name!r} is not a file, directory or model name.{meant} `siglip2 models` lists all names."


def a_pyramid(source: str | Path, plain: str | Path) -> str:
    """Message for a pyramid where a tower is needed, whose name is ``plain``."""
    return f"{source} is a pyramid; expected a tower, whose blocks can be selected one by one. Pass {plain}."


def no_weights(variant: Variant) -> str:
    """Message for a variant that was never published."""
    return (
        f"{variant.name} has no published weights. Pass the path of a checkpoint instead of the name (to "
        "timm.create_model as pretrained_cfg_overlay=dict(file=PATH)), or pretrained=False for random weights "
        "(--random-weights on the command line, where available)."
    )
