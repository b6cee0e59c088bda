"""``siglip2 verify CHECKPOINT``: compare the tower with transformers, block by block, on the checkpoint's weights."""

import argparse
from importlib.metadata import version

import torch
from rich.console import Console
from rich.table import Table

from siglip2_backbone.verification import Difference, verify


def run(command: str, arguments: list[str]) -> int:
    """Print the differences at two sizes; return 1 if one exceeds its tolerance."""
    parser = argparse.ArgumentParser(
        prog=f"siglip2 {command}",
        description=__doc__,
        epilog="Exits with 1 if an output differs. Both libraries read a checkpoint in google's format. timm's and "
        "big_vision's formats are read by this library only, and converted in memory for transformers.",
    )
    parser.add_argument("checkpoint", help="directory, safetensors or npz file, Hugging Face id or model name")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="the second size [px] (default: 3/4 and 5/4 of the grid)"
    )
    args = parser.parse_args(arguments)
    with Console(stderr=True).status("comparing two towers at two sizes"):
        differences = verify(args.checkpoint, dtype=getattr(torch, args.dtype), size=args.size)
    Console(width=None if Console().is_terminal else 140).print(_table(differences))
    wrong = [d for d in differences if not d.agrees]
    reference = f"transformers {version('transformers')} in {args.dtype}"
    if not wrong:
        print(f"{args.checkpoint} agrees with {reference}.")
        return 0
    first = wrong[0]
    print(
        f"{args.checkpoint} DIFFERS from {reference} in {len(wrong)} of {len(differences)} outputs, first in "
        f"{first.output} at {_px(first)}: relative L2 {first.rel_l2:.1e}, tolerance {first.tolerance:.0e}."
    )
    return 1


def _table(differences: list[Difference]) -> Table:
    """A row per output, with two columns per size."""
    by_size: dict[tuple[int, int], dict[str, Difference]] = {}
    for d in differences:
        by_size.setdefault(d.size, {})[d.output] = d
    table = Table("output")
    for columns in by_size.values():
        first = next(iter(columns.values()))
        table.add_column(f"{_px(first)}: max abs", justify="right")
        table.add_column(f"relative L2 (tolerance {first.tolerance:.0e})", justify="right")
    for output in next(iter(by_size.values())):
        cells = [columns[output] for columns in by_size.values()]
        table.add_row(output, *(text for d in cells for text in (f"{d.max_abs:.1e}", _marked(d))))
    return table


def _marked(d: Difference) -> str:
    return f"{d.rel_l2:.1e}" + ("" if d.agrees else " [bold red]differs[/]")


def _px(d: Difference) -> str:
    return f"{d.size[0]} x {d.size[1]} px"
