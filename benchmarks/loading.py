"""Memory and time of ``create_model(pretrained=True)`` on a file of base size (1.5 GB), compared with other ways.

transformers writes the file with random weights. Each way runs in its own process; the file is in the page cache. Peak
is the growth of the resident set while loading, as a multiple of the tower's bytes (372 MB).

    python benchmarks/loading.py [--directory DIR]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from memory import peak_growth

WAYS = ("ours", "transformers", "transformers, values touched", "copy")


def write_checkpoint(directory: Path) -> None:
    """SiglipModel of base size, with the vocabulary that the published checkpoints have."""
    from transformers import SiglipConfig, SiglipModel

    text = {"vocab_size": 256000, "projection_size": 768}
    config = SiglipConfig(vision_config={"image_size": 256}, text_config=text)
    SiglipModel(config).save_pretrained(directory, max_shard_size="8GB")


def load(way: str, directory: str) -> object:
    import timm
    from safetensors.torch import load_file
    from transformers import SiglipVisionModel

    if way == "ours":
        overlay = {"file": directory}
        return timm.create_model("siglip2_base_patch16_256", pretrained=True, pretrained_cfg_overlay=overlay)
    if way == "copy":  # build with random values, read the whole file, copy
        model = SiglipVisionModel(SiglipVisionModel.config_class.from_pretrained(directory))
        state = load_file(Path(directory) / "model.safetensors")
        model.load_state_dict({k.removeprefix("vision_model."): v for k, v in state.items() if "vision" in k})
        return model
    model = SiglipVisionModel.from_pretrained(directory)
    if "touched" in way:  # transformers maps the file and reads values on first use; ours has read them all
        for p in model.parameters():
            p.sum()
    return model


def measure(way: str, directory: str) -> None:
    """In its own process: import, load once, print the growth and the seconds."""
    import time

    import timm
    import torch
    import transformers

    import siglip2_backbone

    assert timm and transformers.SiglipVisionModel and siglip2_backbone
    torch.set_num_threads(2)
    with peak_growth() as peak:
        start = time.perf_counter()
        model = load(way, directory)
        seconds = time.perf_counter() - start
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    print(json.dumps({"seconds": seconds, "peak": peak[0] / size}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--directory", help="folder of the checkpoint, written if missing (default: a temporary folder)"
    )
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.way:
        measure(args.way, args.directory)
        return
    with tempfile.TemporaryDirectory() as scratch:
        directory = args.directory or scratch
        if not (Path(directory) / "model.safetensors").is_file():
            write_checkpoint(Path(directory))
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(args.rounds):
            for way in WAYS:
                command = [sys.executable, __file__, "--way", way, "--directory", directory]
                output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                runs[way].append(json.loads(output.splitlines()[-1]))
    print("| way | seconds (median) | slowest | peak / tower |")
    print("|---|---|---|---|")
    for way, results in runs.items():
        seconds, peaks = ([r[key] for r in results] for key in ("seconds", "peak"))
        print(f"| {way} | {median(seconds):.2f} | {max(seconds):.2f} | {median(peaks):.2f} |")


if __name__ == "__main__":
    main()
