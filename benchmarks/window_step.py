"""A fine-tuning step at 1024 px with windowed attention, compared with global attention, all in one run.

Base/16 with random weights in ViTDet's pyramid, one image, the mean of all levels as the loss, forward and backward, in
float32; windows of 14 and 16 cells with four global blocks. Each way runs with and without recomputing every block in
the backward pass. At 1024 px there are 64 x 64 cells, which 16 divides and 14 does not. Medians of interleaved rounds;
ratios are taken within each round. Peak is the memory of a step beyond weights and gradients: the growth of the
resident set after a step on a small image, in its own process (Linux), or on cuda that of the allocated memory.

    python benchmarks/detection.py step [--rounds 3] [--size 1024] [--threads 2] [--device cuda]
"""

import argparse
import subprocess
import sys
from functools import partial
from statistics import median

import torch
from memory import peak_growth
from timing import device_name, interleaved, ratio

from siglip2_backbone import Pyramid, create_backbone

NAME = "siglip2_base_patch16_256_sfp"
WINDOWS = {"everywhere": None, "window 14": 14, "window 16": 16}
RECOMPUTED = ", recomputed"
WAYS = [window + suffix for suffix in ("", RECOMPUTED) for window in WINDOWS]


def model_of(way: str, device: str) -> Pyramid:
    torch.manual_seed(0)
    window = WINDOWS[way.removesuffix(RECOMPUTED)]
    return create_backbone(NAME, pretrained=False, device=device, window_size=window).train()


def step(model: Pyramid, size: int, device: str, recompute: bool) -> None:
    model.set_grad_checkpointing(recompute)
    model.zero_grad(set_to_none=False)
    image = torch.randn(1, 3, size, size, device=device)
    torch.stack([level.mean() for level in model(image)]).mean().backward()


def peak(way: str, args: argparse.Namespace) -> float:
    """MiB that a step needs."""
    if args.device == "cuda":
        return measured_peak(way, args)
    options = [f"--{name}={getattr(args, name)}" for name in ("size", "threads")]
    command = [sys.executable, __file__, "--peak", way, *options]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def measured_peak(way: str, args: argparse.Namespace) -> float:
    model, recompute = model_of(way, args.device), way.endswith(RECOMPUTED)
    step(model, 64, args.device, recompute)  # warm-up: one-time loading and setup, and the gradients
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(model, args.size, args.device, recompute)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with peak_growth() as grown:
        step(model, args.size, args.device, recompute)
    return grown[0] / 2**20


def measure(args: argparse.Namespace) -> None:
    models = {window: model_of(window, args.device) for window in WINDOWS}
    steps = {}
    for way in WAYS:
        model = models[way.removesuffix(RECOMPUTED)]
        steps[way] = partial(step, model, args.size, args.device, way.endswith(RECOMPUTED))
    print(f"{device_name(args.device)}, torch {torch.__version__}, {args.size} px, {args.rounds} rounds\n")
    seconds = interleaved(steps, args.rounds, warmup=1)
    del models, steps
    peaks = {way: peak(way, args) for way in WAYS}
    print("| attention | s per step | time / everywhere | peak [MiB] | peak / everywhere |")
    print("|---|---|---|---|---|")
    for way in WAYS:
        print(
            f"| {way} | {median(seconds[way]):.2f} | {ratio(seconds[way], seconds['everywhere']):.2f} "
            f"| {peaks[way]:.0f} | {peaks[way] / peaks['everywhere']:.2f} |"
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    if args.peak:
        print(measured_peak(args.peak, args))
        return
    measure(args)


if __name__ == "__main__":
    main()
