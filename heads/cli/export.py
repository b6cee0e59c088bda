"""``siglip2 export CKPT DIR``: a trained head as safetensors and json."""

import argparse

from ..loading import export


def run(command: str, arguments: list[str]) -> None:
    """Write the head and say where it is."""
    parser = argparse.ArgumentParser(prog=f"siglip2 {command}", description=__doc__)
    parser.add_argument("checkpoint", help="a .ckpt file of `siglip2 fit`")
    parser.add_argument("directory", help="folder to write head.safetensors and head.json to")
    args = parser.parse_args(arguments)
    print(f"Written {export(args.checkpoint, args.directory)}")
