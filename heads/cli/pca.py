"""``siglip2 pca``: images beside the first three principal components of their dense features."""

import argparse
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from siglip2_backbone import FeatureMaps

from ..data.images import read_image
from ..files import whole_file
from ..pca import pca_colours, side_by_side
from .inputs import add_arguments, image_paths, input_size, load_model, output_path, tower_input


def run(command: str, arguments: list[str]) -> None:
    """Write one PNG with a row for each image; the components are fitted over all of them."""
    parser = argparse.ArgumentParser(prog=f"siglip2 {command}", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--layer", type=int, default=-1, help="block; negative ones count from the end")
    parser.add_argument("--output", required=True, type=output_path, help="PNG file to write")
    args = parser.parse_args(arguments)
    if args.output.suffix.lower() != ".png":
        raise ValueError(f"--output is {args.output}; expected a name that ends in .png.")
    paths = image_paths(args.images)
    model = load_model(args, [args.layer])
    images = [read_image(path) for path in paths]
    write_picture(model, images, input_size(args, model), args.output)
    print(f"Written {args.output}")


def write_picture(model: FeatureMaps, images: list[Tensor], size: tuple[int, int], output: Path) -> None:
    """Extract, fit, and write the picture as PNG."""
    maps = []
    with torch.inference_mode():
        for image in track(images, "features"):
            maps.append(model(tower_input(image, size, model))[0][0].float().cpu())
    with whole_file(output) as partial:
        side_by_side(images, pca_colours(maps)).save(partial)
