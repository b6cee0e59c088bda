"""Fuzz the readers with damaged small files: each must read the content or raise a ValueError with the file's name.

No reader may raise another error, take more than 1 GB or 10 s, or accept a file that the format's own library
(safetensors, numpy, scipy, h5py, yaml) refuses. Each reader runs in its own process with bounded memory. Exits with
status 1 on a failure.

    python -m benchmarks.fuzz [--count N] [--seed N] [READER ...]
"""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from .array_files import GeoNet, Hdf5, Npy, Splits
from .flipped_bits import FlippedBits
from .head_files import Checkpoint, Export
from .list_files import NameLists, Navi, PairLists
from .outcomes import Reader
from .processes import measure
from .tower_files import Config, Npz, Safetensors
from .yaml_files import Yaml

READERS: dict[str, Callable[[Path], Reader]] = {
    "safetensors": Safetensors,
    "npz": Npz,
    "config": Config,
    "checkpoint": Checkpoint,
    "bits": FlippedBits,
    "export": Export,
    "npy": Npy,
    "mat-splits": Splits,
    "mat-geonet": GeoNet,
    "mat-hdf5": Hdf5,
    "pair-lists": PairLists,
    "name-lists": NameLists,
    "navi": Navi,
    "yaml": Yaml,
}


def main() -> int:
    """Fuzz the named readers, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(READERS))
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if unknown := set(args.readers) - READERS.keys():
        parser.error(f"no reader {', '.join(sorted(unknown))}; expected {', '.join(READERS)}")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    failed = False
    print("| reader | inputs | accepted | refused | foreign exceptions | slowest [s] | peak growth [MB] |")
    print("|---|---|---|---|---|---|---|")
    for label in args.readers or READERS:
        found = measure(READERS[label], label, args.count, args.seed)
        o = found.outcomes
        print(f"| {label} | {args.count} | {o.accepted} | {o.refused} | {o.foreign} ", end="")
        print(f"| {o.slowest:.2f} | {found.grown / 1e6:.0f} |", flush=True)
        for line in o.wrong:
            print(f"WRONG {line}", file=sys.stderr)
        failed |= bool(o.wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
