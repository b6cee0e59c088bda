"""``siglip2 demo``: dense features and their picture, offline, for photographs given or generated."""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from ..data.images import read_image
from .inputs import add_arguments, image_paths, input_size, load_model, output_path
from .pca import write_picture

_TINY = "siglip2_tiny_patch8_128"


def run(command: str, arguments: list[str]) -> None:
    """Write ``DIR/features.png`` and say what it is, and what to type next."""
    parser = argparse.ArgumentParser(prog=f"siglip2 {command}", description=__doc__)
    add_arguments(parser, images="*")
    parser.add_argument("--output", default="demo", type=output_path, help="folder to write to")
    parser.set_defaults(model=_TINY)
    args = parser.parse_args(arguments)
    args.random_weights = args.random_weights or args.model == _TINY
    torch.manual_seed(0)
    images = [read_image(p) for p in image_paths(args.images)] if args.images else [_generated(i) for i in range(3)]
    model = load_model(args)
    picture = args.output / "features.png"
    write_picture(model, images, input_size(args, model), picture)
    print(_report(model.pretrained_cfg["architecture"], args, picture))


def _report(name: str, args: argparse.Namespace, picture: Path) -> str:
    if args.random_weights:
        weights = (
            "RANDOM weights: nothing has been learned, so the colours show texture and position, not meaning.\n"
            "For real features name a checkpoint: siglip2 demo PHOTO... --model google/siglip2-base-patch16-256"
        )
    else:
        weights = f"weights from {args.model}."
    return (
        f"{picture}: {'your images' if args.images else 'three generated images'} beside the first three principal "
        f"components of their dense features,\nfrom {name} with {weights}\n\n"
        "Next:\n"
        "  siglip2 models                                       the checkpoints by name\n"
        "  siglip2 features PHOTO... --output DIR               the features themselves\n"
        "  siglip2 fit --config segmentation/linear_camvid ...  a linear probe on your own labels (see the README)"
    )


def _generated(seed: int, side: int = 256) -> Tensor:
    """Shaded discs before a striped wall, uint8 ``(3, side, side)``: something to look at, offline."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.rand(6, 7, generator=generator)
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    stripes = 0.5 + 0.2 * torch.sin(2 * math.pi * (8 + 4 * seed) * (x * math.cos(seed) + y * math.sin(seed)))
    image = stripes * torch.tensor([0.8, 0.7, 0.6])[:, None, None]
    for row, column, radius, *colour, shade in random.tolist():
        distance = ((y - row) ** 2 + (x - column) ** 2).sqrt() / (0.08 + 0.17 * radius)
        light = (1 - 0.6 * distance.clamp(max=1) ** 2) * (0.7 + 0.3 * shade)
        image = torch.where(distance < 1, light * torch.tensor(colour)[:, None, None], image)
    return (image.clamp(0, 1) * 255).round().byte()
