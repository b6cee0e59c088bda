"""``siglip2 features``: dense features of images as safetensors, one file per image."""

import argparse
import json

import torch
from rich.progress import track
from safetensors.torch import save_file

from siglip2_backbone.files import whole_file
from siglip2_backbone.partials import check_name

from ..data.images import read_image
from .inputs import (
    add_arguments,
    image_paths,
    input_sizes,
    load_model,
    output_path,
    refuse_not_finite,
    tower_input,
    weights_card,
)


def run(command: str, arguments: list[str]) -> None:
    """Write ``DIR/NAME.safetensors`` with a feature map ``layer_I`` of shape (D, rows, columns) for each layer."""
    parser = argparse.ArgumentParser(prog=f"siglip2 {command}", description=__doc__)
    add_arguments(parser)
    parser.add_argument(
        "--layers", type=int, nargs="+", default=[-1], help="block indices; negative ones count from the end"
    )
    parser.add_argument("--no-norm", action="store_true", help="skip the final norm")
    parser.add_argument("--output", required=True, type=output_path, help="folder to write to")
    args = parser.parse_args(arguments)
    paths = image_paths(args.images)
    for path in paths:
        check_name(args.output / f"{path.stem}.safetensors")
    model = load_model(args, args.layers, norm=not args.no_norm)
    sizes = input_sizes(args, model)
    weights = weights_card(model, sizes)
    for path in track(paths, "features"):
        image = read_image(path)
        size = sizes.of(image)
        with torch.inference_mode():
            maps = model(tower_input(image, size, model))
        refuse_not_finite(maps, path)
        tensors = {f"layer_{i}": m[0].contiguous().cpu() for i, m in zip(model.out_indices, maps, strict=True)}
        card = weights | {
            "size": json.dumps(list(size)),
            "grid": json.dumps(list(maps[0].shape[-2:])),
            "patch": str(model.feature_info.reduction()[0]),
            "original_size": json.dumps(list(image.shape[1:])),
            "norm": json.dumps(not args.no_norm),
        }
        with whole_file(args.output / f"{path.stem}.safetensors", durable=False) as partial:
            save_file(tensors, partial, metadata=card)
    print(f"{len(paths)} files in {args.output}, fingerprint {weights['fingerprint']}")
