"""``siglip2 pca``: images next to the first three principal components of their dense features."""

import argparse

import torch
from rich.progress import track

from ..data.images import read_image
from ..outputs.contact_sheet import picture, sheet
from ..outputs.encoded import write_picture
from ..outputs.pca import pca_colours
from .inputs import add_arguments, image_paths, input_sizes, load_model, output_path, refuse_not_finite, tower_input


def run(command: str, arguments: list[str]) -> None:
    """Write one PNG with a row per image; the components are fitted over all images."""
    parser = argparse.ArgumentParser(prog=f"siglip2 {command}", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--layer", type=int, default=-1, help="block index; negative ones count from the end")
    parser.add_argument("--output", required=True, type=output_path, help="PNG file to write")
    args = parser.parse_args(arguments)
    if args.output.suffix.lower() != ".png":
        raise ValueError(f"--output is {args.output}; expected a name that ends in .png.")
    paths = image_paths(args.images)
    model = load_model(args, [args.layer])
    images = [read_image(path) for path in paths]
    sizes, maps = input_sizes(args, model), []
    with torch.inference_mode():
        for path, image in zip(paths, track(images, "features"), strict=True):
            maps.append(model(tower_input(image, sizes.of(image), model))[0][0].float().cpu())
            refuse_not_finite(maps[-1:], path)
    rows = [[picture(image), picture(colours)] for image, colours in zip(images, pca_colours(maps), strict=True)]
    write_picture(sheet(rows), args.output)
    budget = "" if sizes.fixed else f", each image at up to {sizes.max_patches} patches"
    print(f"Wrote {args.output}{budget}")
