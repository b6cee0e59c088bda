"""Segmentation loss and metric from the logits of the cells, compared with upsampling the logits first, in one run.

Random logits of 150 classes for 512 x 512 px, by default at patch 16 (32 x 32 cells); random labels with a fifth
ignored. The loss is timed forward and backward, against ``F.interpolate`` and ``F.cross_entropy``; the metric against
``F.interpolate`` and torchmetrics' ``MulticlassJaccardIndex``. Medians of interleaved rounds; ratios are taken within
each round. Peak is the growth of the resident set in one run, after a warm-up on 32 x 32 px, in its own process
(Linux, CPU).

    python benchmarks/segmentation.py [--batch 1] [--rounds 15] [--reduction 16] [--threads 2] [--device cuda]
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from memory import peak_growth
from timing import device_name, interleaved, ratio
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from heads.geometry.record import Geometry
from heads.losses import upsampled_cross_entropy
from heads.metrics import SegmentationMetrics

CLASSES, SIZE, IGNORE = 150, 512, 255


def sample(batch: int, reduction: int, device: str, size: int = SIZE) -> tuple[Tensor, Tensor, int]:
    torch.manual_seed(0)
    logits = torch.randn(batch, CLASSES, size // reduction, size // reduction, device=device)
    target = torch.randint(0, CLASSES, (batch, size, size), device=device)
    return logits, target.masked_fill(torch.rand(target.shape, device=device) < 0.2, IGNORE), reduction


def upsampled(logits: Tensor, target: Tensor) -> Tensor:
    return F.interpolate(logits, size=target.shape[1:], mode="bilinear", align_corners=False)


def loss_ours(logits: Tensor, target: Tensor, reduction: int) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    loss = upsampled_cross_entropy(leaf, target, reduction)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def loss_full_size(logits: Tensor, target: Tensor, reduction: int) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    loss = F.cross_entropy(upsampled(leaf, target), target, ignore_index=IGNORE)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def metric_ours(logits: Tensor, target: Tensor, reduction: int) -> tuple[Tensor, Tensor]:
    metric = SegmentationMetrics(CLASSES).to(logits.device)
    for cells, labels in zip(logits, target, strict=True):
        metric.update_logits(cells, reduction, Geometry.of((len(labels), len(labels))), labels)
    return metric.scores()["mIoU"], metric.confmat


def metric_full_size(logits: Tensor, target: Tensor, reduction: int) -> tuple[Tensor, Tensor]:
    metric = MulticlassJaccardIndex(CLASSES, ignore_index=IGNORE, validate_args=False).to(logits.device)
    metric.update(upsampled(logits, target), target)
    return metric.compute(), metric.confmat


Run = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
RUNS: dict[str, dict[str, Run]] = {
    "loss": {"ours": loss_ours, "full size": loss_full_size},
    "metric": {"ours": metric_ours, "full size": metric_full_size},
}


def difference(work: str, ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> str:
    """Difference between the results of the two ways."""
    value = f"{abs(ours[0] - theirs[0]):.0e}"
    if work == "metric":
        return f"mIoU differs by {value}, {int((ours[1] - theirs[1]).abs().sum())} counts differ"
    return f"the loss differs by {value}, its gradient by {(ours[1] - theirs[1]).norm() / theirs[1].norm():.0e} (L2)"


def peak(work: str, way: str, args: argparse.Namespace) -> float:
    """MiB that one run needs."""
    options = [f"--{name}={getattr(args, name)}" for name in ("batch", "reduction", "threads")]
    command = [sys.executable, __file__, "--peak", work, way, *options]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]) / 2**20


def print_peak(run: Run, batch: int, reduction: int) -> None:
    inputs = sample(batch, reduction, "cpu")
    run(*sample(1, reduction, "cpu", size=32))  # warm-up: one-time loading and setup
    with peak_growth() as grown:
        run(*inputs)
    print(grown[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--reduction", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.peak:
        print_peak(RUNS[args.peak[0]][args.peak[1]], args.batch, args.reduction)
        return
    inputs = sample(args.batch, args.reduction, args.device)
    print(f"{device_name(args.device)}, torch {torch.__version__}, batch {args.batch}, {args.rounds} rounds\n")
    for work, ways in RUNS.items():
        runs = interleaved({way: lambda run=run: run(*inputs) for way, run in ways.items()}, args.rounds)
        print(f"{work}: {', '.join(f'{way} {1e3 * median(seconds):.0f} ms' for way, seconds in runs.items())}")
        print(f"  {ratio(runs['full size'], runs['ours']):.2f} x the speed")
        if args.device == "cpu":
            peaks = {way: peak(work, way, args) for way in ways}
            held = ", ".join(f"{way} {size:.0f} MiB" for way, size in peaks.items())
            print(f"  peak: {held}, ratio {peaks['ours'] / peaks['full size']:.3f}")
        print(f"  {difference(work, *(run(*inputs) for run in ways.values()))}")


if __name__ == "__main__":
    main()
