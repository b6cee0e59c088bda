"""Shared arguments of the commands on single images: model, images and input size."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from siglip2_backbone import FeatureMaps, create_backbone, fingerprint
from siglip2_backbone.hub import shared_source
from siglip2_backbone.names import a_pyramid, pyramid_of
from siglip2_backbone.partials import check_name
from siglip2_backbone.preprocess import MAX_PATCHES, naflex_size, normalize, squash

from ..data.image_listing import list_images

DEFAULT_MODEL = "google/siglip2-base-patch16-256"


def add_arguments(parser: argparse.ArgumentParser, *, images: str = "+") -> None:
    """Add the options for images, model, size and precision to a parser."""
    parser.add_argument("images", nargs=images, metavar="IMAGE", help="image files, or folders of images")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="checkpoint directory, Hugging Face id or model name")
    parser.add_argument("--random-weights", action="store_true", help="random weights, only for trying out")
    parser.add_argument(
        "--size",
        type=int,
        nargs="+",
        help="side, or height and width, of the resized images [px] (default: native; for NaFlex see --max-patches)",
    )
    parser.add_argument(
        "--max-patches",
        type=int,
        help="NaFlex checkpoints: each image is resized to at most this many patches, close to its aspect ratio "
        f"(default: {MAX_PATCHES})",
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")


def load_model(args: argparse.Namespace, layers: Sequence[int] = (-1,), *, norm: bool = True) -> FeatureMaps:
    """The whole model of :func:`add_arguments`, so that its fingerprint does not depend on ``layers``."""
    refuse_pyramid(args.model)
    model = create_backbone(
        args.model, out_indices=list(layers), norm=norm, pooled=True, pretrained=not args.random_weights
    )
    assert isinstance(model, FeatureMaps)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.eval().requires_grad_(False).to(device, getattr(torch, args.precision))
    return model


def refuse_pyramid(source: str) -> None:
    """Refuse the name of a pyramid: these commands read single blocks.

    Raises:
        ValueError: ``source`` is the name of a pyramid.
    """
    plain, kind = pyramid_of(source, None)
    if kind:
        raise ValueError(a_pyramid(source, plain))


def image_paths(names: Sequence[str]) -> list[Path]:
    """The named images, and the images of the named folders, in the order given.

    Raises:
        ValueError: A path is missing, or two images have the same name without suffix, which outputs are named after.
    """
    paths = [p for name in names for p in _files(Path(name).expanduser())]
    by_stem: dict[str, Path] = {}
    for path in paths:
        if not path.is_file():
            raise ValueError(f"No file or folder {path}; expected an image.")
        if by_stem.setdefault(path.stem, path) != path:
            raise ValueError(
                f"{by_stem[path.stem]} and {path} have the same name without suffix, which outputs are named after. "
                "Rename one of them."
            )
    return list(by_stem.values())


def _files(path: Path) -> list[Path]:
    return list_images(path) if path.is_dir() else [path]


def shared_name(path: Path) -> str:
    """The name of an image in a file that is shared: a path below the working folder, or else the bare file name.

    Other paths would reveal local folders. Bare names are unique too, see :func:`image_paths`.
    """
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()


def output_path(name: str) -> Path:
    """Type of ``--output``: refuses a name too long to write before the work starts."""
    path = Path(name).expanduser()
    try:
        check_name(path)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return path


@dataclass(frozen=True)
class InputSizes:
    """Input size of a model, fixed or chosen per image.

    Args:
        fixed: Height and width of all images [px], or ``None`` to choose a size per image within ``max_patches``.
        patch_size: Side of a patch [px].
        max_patches: Largest number of patches of an image.
    """

    fixed: tuple[int, int] | None
    patch_size: int
    max_patches: int = MAX_PATCHES

    def of(self, image: Tensor) -> tuple[int, int]:
        """Height and width [px] that an image ``(3, H, W)`` is resized to."""
        return self.fixed or naflex_size((image.shape[-2], image.shape[-1]), self.patch_size, self.max_patches)

    def card(self) -> dict[str, str]:
        """The fixed size, or ``max_patches``, as safetensors metadata."""
        if self.fixed:
            return {"size": json.dumps(list(self.fixed))}
        return {"max_patches": str(self.max_patches)}


def input_sizes(args: argparse.Namespace, model: FeatureMaps) -> InputSizes:
    """The size of ``--size``, or by default a size per image for NaFlex checkpoints and the native size for others.

    Raises:
        ValueError: ``--size`` is not one or two numbers of at least 2, or ``--max-patches`` is below 1, is combined
            with ``--size``, or is given for a checkpoint that is not NaFlex.
    """
    patch = model.feature_info.reduction()[0]
    naflex, budget = model.model.naflex, args.max_patches
    if budget is not None and (budget < 1 or args.size or not naflex):
        found = f"--max-patches is {budget}"
        if budget < 1:
            raise ValueError(f"{found}; expected at least 1.")
        if args.size:
            raise ValueError(f"{found} and --size is {args.size}; expected only one of them. Leave one out.")
        raise ValueError(f"{found}, but {args.model} is not a NaFlex checkpoint. Leave it out, or pass --size.")
    if args.size:
        if len(args.size) > 2 or min(args.size) < 2:
            raise ValueError(f"--size is {args.size}; expected one side, or height and width, of at least 2 px.")
        return InputSizes((args.size[0], args.size[-1]), patch)
    if naflex:
        return InputSizes(None, patch, MAX_PATCHES if budget is None else budget)
    _, height, width = model.pretrained_cfg["input_size"]
    return InputSizes((height, width), patch)


def weights_card(model: FeatureMaps, sizes: InputSizes) -> dict[str, str]:
    """Model and input size as safetensors metadata for every output, without local paths."""
    return {
        "model": model.pretrained_cfg["architecture"],
        "source": shared_source(model.pretrained_cfg["source"]),
        "fingerprint": fingerprint(model),
        **sizes.card(),
    }


def tower_input(image: Tensor, size: tuple[int, int], model: FeatureMaps) -> Tensor:
    """Resize and normalise a uint8 image ``(3, H, W)`` to ``(1, 3, *size)``, in the model's dtype, on its device."""
    parameter = next(model.parameters())
    cfg = model.pretrained_cfg
    pixels = squash(image, size)[None].to(parameter.device).float() / 255
    return normalize(pixels, cfg["mean"], cfg["std"]).to(parameter.dtype)


def refuse_not_finite(values: Sequence[Tensor], path: Path) -> None:
    """Refuse a model's output for an image if it is unusable.

    Raises:
        ValueError: A value is infinite or not a number.
    """
    if not all(value.isfinite().all() for value in values):
        raise ValueError(
            f"{path}: the model's output for this image is infinite or not a number, so it is not written. Try "
            "--precision float32 or another --size, and check the weights with `siglip2 verify`."
        )
