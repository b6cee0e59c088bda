"""Generated scenes: images per second, and the mIoU of pixel position, raw patches and a trained tower.

    python benchmarks/scenes.py [--rounds 7]      # images per second of one process, by size
    python benchmarks/scenes.py --baselines       # mIoU on held-out scenes; about six minutes on two CPU cores

The three baselines are trained on the scenes of ``configs/segmentation/generated_scenes.yaml`` and measured on its test
split: the most frequent class at each pixel; a linear probe (BatchNorm, 1 x 1 convolution) on the raw pixels of each
8 x 8 patch; and a tiny tower with the same probe, trained end to end as in ``siglip2 demo``.
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from timing import interleaved

from heads import GeneratedScenes
from heads.cli import main as siglip2
from heads.data.scenes.render import render
from heads.decoders import build_decoder
from heads.geometry.resample import to_pixels
from heads.metrics import SegmentationMetrics
from heads.runs.configs import find_config
from heads.runs.yaml_files import read_yaml

SIZES = (64, 128, 256, 512)
PATCH = 8


def speed(rounds: int) -> None:
    keys = iter(range(10**9))
    contestants = {
        str(side): lambda side=side: [render((0, next(keys)), (side, side)) for _ in range(8)] for side in SIZES
    }
    print("| px | ms per scene | scenes/s |\n|---|---|---|")
    for side, seconds in interleaved(contestants, rounds).items():
        each = median(seconds) / 8
        print(f"| {side} x {side} | {1e3 * each:.1f} | {1 / each:.0f} |")


def scenes() -> GeneratedScenes:
    data = GeneratedScenes(**read_yaml(find_config("segmentation/generated_scenes"))["data"]["init_args"])
    data.setup("fit")
    data.setup("test")
    return data


def position(data: GeneratedScenes) -> float:
    counts = torch.zeros(len(data.classes), *data.img_size)
    for batch in data.train_dataloader():
        counts += F.one_hot(batch["mask"], len(data.classes)).sum(dim=0).permute(2, 0, 1)
    return score(data, lambda image: counts.expand(len(image), -1, -1, -1))


def raw_patches(data: GeneratedScenes) -> float:
    head = build_decoder("linear", [3 * PATCH**2], [PATCH], len(data.classes))
    loader = data.train_dataloader()
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=len(loader))

    def logits(image: torch.Tensor) -> torch.Tensor:
        return to_pixels(head([F.pixel_unshuffle(image, PATCH)]), PATCH, data.img_size)

    for batch in loader:
        optimizer.zero_grad()
        F.cross_entropy(logits(batch["image"]), batch["mask"]).backward()
        optimizer.step()
        schedule.step()
    head.eval()
    return score(data, logits)


@torch.no_grad()
def score(data: GeneratedScenes, logits) -> float:
    metric = SegmentationMetrics(len(data.classes))
    for batch in data.test_dataloader():
        metric.update(logits(batch["image"]).argmax(dim=1), torch.stack(batch["mask"]))
    return float(metric.scores()["mIoU"])


def tower() -> float:
    with tempfile.TemporaryDirectory() as folder:
        if siglip2(["demo", "--output", folder]):
            raise SystemExit("the demo failed")
        return json.loads((Path(folder) / "results.json").read_text())["metrics"]["mIoU"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--baselines", action="store_true")
    args = parser.parse_args()
    if not args.baselines:
        speed(args.rounds)
        return
    torch.manual_seed(0)
    data = scenes()
    found = {"pixel position": position(data), "raw patches": raw_patches(data), "tower": tower()}
    print("\n| baseline | mIoU |\n|---|---|")
    for name, miou in found.items():
        print(f"| {name} | {miou:.3f} |")


if __name__ == "__main__":
    main()
