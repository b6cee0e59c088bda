"""``siglip2 convert SRC DST``: write a checkpoint's vision tower for timm, transformers or this library."""

import argparse
from typing import get_args

from siglip2_backbone.conversion import Library, convert

# format -> code that loads it from folder {0}
_NEXT = {
    "timm": 'timm.create_model("local-dir:{0}", pretrained=True)',
    "transformers": 'AutoModel.from_pretrained("{0}")',
    "siglip2": 'import siglip2_backbone; timm.create_model("local-dir:{0}", pretrained=True)',
}


def run(command: str, arguments: list[str]) -> None:
    """Write model.safetensors and config.json, and print how to load them."""
    parser = argparse.ArgumentParser(prog=f"siglip2 {command}", description=__doc__)
    parser.add_argument(
        "source",
        metavar="SRC",
        help="directory or safetensors file in google's or timm's format, big_vision npz file, Hugging Face id or "
        "model name",
    )
    parser.add_argument("destination", metavar="DST", help="directory to write to; it must be new or empty")
    parser.add_argument(
        "--format",
        required=True,
        choices=get_args(Library),
        help="timm: timm's model, with the tanh GELU that the weights were trained with; transformers: "
        "SiglipVisionModel or Siglip2VisionModel; siglip2: this library's model, through timm.create_model",
    )
    args = parser.parse_args(arguments)
    print(f"{args.destination}: fingerprint {convert(args.source, args.destination, args.format)}")
    print(f"Load it with {_NEXT[args.format].format(args.destination)}")
