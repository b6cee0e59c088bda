"""``siglip2 models``: the table of models."""

import argparse

from rich.console import Console
from rich.table import Column, Table

from siglip2_backbone import VARIANTS


def run(command: str, arguments: list[str]) -> None:
    """Print name, number of parameters, native size, patch size and source of every model."""
    argparse.ArgumentParser(prog=f"siglip2 {command}", description=__doc__).parse_args(arguments)
    table = Table("name", "million parameters", "native size in px", "patch in px", Column("source", overflow="fold"))
    for v in VARIANTS.values():
        size = f"any aspect, {v.grid_size**2} patches" if v.naflex else f"{v.img_size} x {v.img_size}"
        table.add_row(v.name, f"{v.num_params / 1e6:.1f}", size, str(v.patch_size), v.hub_id or "random weights only")
    Console(width=None if Console().is_terminal else 140).print(table)  # keeps piped output uncut
