"""Time of ``import siglip2_backbone`` compared with ``import timm``, each in fresh processes, interleaved.

    python benchmarks/imports.py [--rounds N]

The target is at most 1.15 times timm's time.
"""

import argparse
import subprocess
import sys
from functools import partial
from statistics import median

from timing import interleaved, ratio

MODULES = ("timm", "siglip2_backbone", "siglip2_backbone.huggingface")


def import_in_a_process(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    seconds = interleaved({name: partial(import_in_a_process, name) for name in MODULES}, rounds, warmup=1)
    print("| import | seconds (median) | time / timm's |")
    print("|---|---|---|")
    for name in MODULES:
        print(f"| `{name}` | {median(seconds[name]):.2f} | {ratio(seconds[name], seconds['timm']):.2f} |")


if __name__ == "__main__":
    main()
