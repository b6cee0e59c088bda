"""``siglip2 convert SRC DST``: the vision tower of a checkpoint, written for timm, transformers or this library."""

import argparse
from typing import get_args

from siglip2_backbone.conversion import Target, convert

_NEXT = {
    "timm": 'timm.create_model("local-dir:{0}", pretrained=True)',
    "transformers": 'AutoModel.from_pretrained("{0}")',
    "siglip2": 'import siglip2_backbone; timm.create_model("local-dir:{0}", pretrained=True)',
}


def run(command: str, arguments: list[str]) -> None:
    """Write model.safetensors and config.json, and say how they are loaded."""
    parser = argparse.ArgumentParser(prog=f"siglip2 {command}", description=__doc__)
    parser.add_argument(
        "source",
        metavar="SRC",
        help="directory or safetensors file in google's or timm's format, npz file of big_vision, Hugging Face id or "
        "model name",
    )
    parser.add_argument("destination", metavar="DST", help="directory to write; it must not exist or be empty")
    parser.add_argument(
        "--format",
        required=True,
        choices=get_args(Target),
        help="timm: its own model, with the tanh GELU that the weights were trained with; transformers: "
        "SiglipVisionModel or Siglip2VisionModel; siglip2: this library's model, through timm.create_model",
    )
    args = parser.parse_args(arguments)
    print(f"{args.destination}: fingerprint {convert(args.source, args.destination, args.format)}")
    print(f"Load it with {_NEXT[args.format].format(args.destination)}")
