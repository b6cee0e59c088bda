"""``siglip2 embed``: pooled embeddings of images in one safetensors file."""

import argparse
import json

import torch
from rich.progress import track
from safetensors.torch import save_file

from siglip2_backbone.files import whole_file

from ..data.images import read_image
from .inputs import (
    add_arguments,
    image_paths,
    input_sizes,
    load_model,
    output_path,
    refuse_not_finite,
    shared_name,
    tower_input,
    weights_card,
)


def run(command: str, arguments: list[str]) -> None:
    """Write ``embeddings`` of shape (N, D), with the image names in the metadata."""
    parser = argparse.ArgumentParser(prog=f"siglip2 {command}", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--normalize", action="store_true", help="scale each embedding to unit length")
    parser.add_argument("--output", required=True, type=output_path, help="safetensors file to write")
    args = parser.parse_args(arguments)
    if args.output.suffix != ".safetensors":
        raise ValueError(f"--output is {args.output}; expected a name that ends in .safetensors.")
    paths = image_paths(args.images)
    model = load_model(args)
    sizes = input_sizes(args, model)
    weights = weights_card(model, sizes)
    rows, resized = [], []
    for path in track(paths, "embed"):
        image = read_image(path)
        resized.append(sizes.of(image))
        with torch.inference_mode():
            _, pooled = model.forward_pooled(tower_input(image, resized[-1], model))
        rows.append(torch.nn.functional.normalize(pooled, dim=-1) if args.normalize else pooled)
        refuse_not_finite(rows[-1:], path)
    images = [shared_name(path) for path in paths]
    card = weights | {"normalized": json.dumps(args.normalize), "images": json.dumps(images)}
    if not sizes.fixed:
        card["sizes"] = json.dumps(resized)
    with whole_file(args.output) as partial:
        save_file({"embeddings": torch.cat(rows).cpu().contiguous()}, partial, metadata=card)
    print(
        f"{len(rows)} embeddings of {rows[0].shape[-1]} values in {args.output}, fingerprint {weights['fingerprint']}"
    )
