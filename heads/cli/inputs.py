"""What the commands on single images share: which model, which images, at which size."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from siglip2_backbone import FeatureMaps, create_backbone, fingerprint
from siglip2_backbone.factory import a_pyramid, pyramid_of
from siglip2_backbone.hub import shared_source
from siglip2_backbone.partials import check_name
from siglip2_backbone.preprocess import MAX_PATCHES, naflex_size, normalize, squash

from ..data.image_listing import list_images

DEFAULT_MODEL = "google/siglip2-base-patch16-256"


def add_arguments(parser: argparse.ArgumentParser, *, images: str = "+") -> None:
    """Images, model, size and precision."""
    parser.add_argument("images", nargs=images, metavar="IMAGE", help="image files, or folders of images")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="checkpoint directory, Hugging Face id or model name")
    parser.add_argument("--random-weights", action="store_true", help="do not load weights: for trying things out only")
    parser.add_argument(
        "--size",
        type=int,
        nargs="+",
        help="height and width that images are resized to [px]; native if absent, and of NaFlex see --max-patches",
    )
    parser.add_argument(
        "--max-patches",
        type=int,
        help="NaFlex checkpoints: each image is resized, close to its own shape, to at most so many patches "
        f"({MAX_PATCHES} if absent)",
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")


def load_model(args: argparse.Namespace, layers: Sequence[int] = (-1,), *, norm: bool = True) -> FeatureMaps:
    """The model of :func:`add_arguments`, whole, so that its fingerprint does not depend on the layers asked for."""
    refuse_pyramid(args.model)
    model = create_backbone(
        args.model, out_indices=list(layers), norm=norm, pooled=True, pretrained=not args.random_weights
    )
    assert isinstance(model, FeatureMaps)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.eval().requires_grad_(False).to(device, getattr(torch, args.precision))
    return model


def refuse_pyramid(source: str) -> None:
    """Refuse the name of a pyramid where blocks are asked for.

    Raises:
        ValueError: It is one.
    """
    plain, kind = pyramid_of(source, None)
    if kind:
        raise ValueError(a_pyramid(source, plain))


def image_paths(names: Sequence[str]) -> list[Path]:
    """The images themselves and those of the folders, in this order.

    Raises:
        ValueError: One is missing, or two have the same name without suffix, by which outputs are called.
    """
    paths = [p for name in names for p in _files(Path(name).expanduser())]
    by_stem: dict[str, Path] = {}
    for path in paths:
        if not path.is_file():
            raise ValueError(f"No file or folder {path}; expected an image.")
        if by_stem.setdefault(path.stem, path) != path:
            raise ValueError(f"{by_stem[path.stem]} and {path} have the same name without suffix; outputs go by it.")
    return list(by_stem.values())


def _files(path: Path) -> list[Path]:
    return list_images(path) if path.is_dir() else [path]


def output_path(name: str) -> Path:
    """Type of ``--output``: a path whose names are short enough to be written once the work is done."""
    path = Path(name).expanduser()
    try:
        check_name(path)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return path


@dataclass(frozen=True)
class InputSizes:
    """At which size images go into a model.

    Args:
        fixed: Height and width of all images [px], or ``None`` where each has its own, to a budget of patches.
        patch_size: Side of a patch [px].
        max_patches: The budget.
    """

    fixed: tuple[int, int] | None
    patch_size: int
    max_patches: int = MAX_PATCHES

    def of(self, image: Tensor) -> tuple[int, int]:
        """Height and width [px] that an image ``(3, H, W)`` is resized to."""
        return self.fixed or naflex_size((image.shape[-2], image.shape[-1]), self.patch_size, self.max_patches)

    def card(self) -> dict[str, str]:
        """The one size, or the budget, as safetensors metadata."""
        if self.fixed:
            return {"size": json.dumps(list(self.fixed))}
        return {"max_patches": str(self.max_patches)}


def input_sizes(args: argparse.Namespace, model: FeatureMaps) -> InputSizes:
    """The size of ``--size``; of a NaFlex checkpoint one for each image; the native one otherwise.

    Raises:
        ValueError: ``--size`` is not one or two numbers of at least 2, or ``--max-patches`` is below 1, stands beside
            ``--size``, or is asked of a model that was trained on squares.
    """
    patch = model.feature_info.reduction()[0]
    naflex, budget = model.model.naflex, args.max_patches
    if budget is not None and (budget < 1 or args.size or not naflex):
        found = f"--max-patches is {budget}"
        if budget < 1:
            raise ValueError(f"{found}; expected at least 1.")
        if args.size:
            raise ValueError(f"{found} and --size {args.size}. Leave one of them out.")
        raise ValueError(f"{found}, but {args.model} is no NaFlex checkpoint. Leave it out, or pass --size.")
    if args.size:
        if len(args.size) > 2 or min(args.size) < 2:
            raise ValueError(f"--size is {args.size}; expected one side, or height and width, of at least 2 px.")
        return InputSizes((args.size[0], args.size[-1]), patch)
    if naflex:
        return InputSizes(None, patch, MAX_PATCHES if budget is None else budget)
    _, height, width = model.pretrained_cfg["input_size"]
    return InputSizes((height, width), patch)


def weights_card(model: FeatureMaps, sizes: InputSizes) -> dict[str, str]:
    """What every output says about the model and the size of its input, as safetensors metadata; no path is in it."""
    return {
        "model": model.pretrained_cfg["architecture"],
        "source": shared_source(model.pretrained_cfg["source"]),
        "fingerprint": fingerprint(model),
        **sizes.card(),
    }


def tower_input(image: Tensor, size: tuple[int, int], model: FeatureMaps) -> Tensor:
    """An image uint8 ``(3, H, W)`` as the model takes it: ``(1, 3, *size)``, in the model's type and place."""
    parameter = next(model.parameters())
    cfg = model.pretrained_cfg
    pixels = squash(image, size)[None].to(parameter.device).float() / 255
    return normalize(pixels, cfg["mean"], cfg["std"]).to(parameter.dtype)
