"""``siglip2 export CKPT DIR``: write a trained head as safetensors and JSON, with a model card for the hub."""

import argparse

from siglip2_backbone.json_files import read_json

from ..storage.loading import DESCRIPTION, export


def run(command: str, arguments: list[str]) -> None:
    """Write the head; print its path and the splits that it has scores of."""
    parser = argparse.ArgumentParser(prog=f"siglip2 {command}", description=__doc__)
    parser.add_argument("checkpoint", help="a .ckpt file that `siglip2 fit` wrote")
    parser.add_argument("directory", help="folder to write head.safetensors, head.json and README.md to")
    args = parser.parse_args(arguments)
    path = export(args.checkpoint, args.directory)
    card = read_json(path.with_name(DESCRIPTION))
    found = [name for name, scores in (("validation", card["metrics"]), ("test", card.get("test"))) if scores]
    print(f"Wrote {path}, with {'the scores of ' + ' and '.join(found) if found else 'no scores'}")
    if "test" not in found:
        print("To add test scores, run siglip2 test on this checkpoint and export it again.")
