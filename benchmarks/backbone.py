"""Speed of ``features_only`` compared with timm and transformers, base/16 at 256 px, all in one run.

Every contestant returns the normed last map of the same batch as (B, 768, 16, 16). timm is shown as named (exact GELU,
so not the outputs of the checkpoint) and with ``act_layer="gelu_tanh"``; transformers without its MAP head. Medians of
interleaved rounds; ratios are taken within each round. The last line compares with the faster of the two peers that
compute the same function.

    python benchmarks/backbone.py [--batch 4] [--rounds 15] [--device cuda]
"""

import argparse
from collections.abc import Callable
from statistics import median

import timm
import torch
from timing import device_name, interleaved, ratio
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

import siglip2_backbone  # registers the names


class TimmMap(nn.Module):
    def __init__(self, **kwargs):
        super().__init__()
        self.model = timm.create_model("vit_base_patch16_siglip_256", num_classes=0, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        return self.model.forward_intermediates(x, indices=[11], norm=True, intermediates_only=True)[0]


class TransformersMap(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = SiglipVisionModel(SiglipVisionConfig(image_size=256, vision_use_head=False))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.model(x).last_hidden_state
        return tokens.transpose(1, 2).reshape(len(x), 768, 16, 16).contiguous()


class OurMap(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = timm.create_model("siglip2_base_patch16_256", features_only=True, out_indices=[11])

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)[0]


def flops(batch: int) -> float:
    """Operations of all matrix products, two per multiply-add: patches, 12 blocks with attention on 256 tokens."""
    n, d, m = 256, 768, 3072
    return 2 * batch * (n * d * d + 12 * (4 * n * d * d + 2 * n * n * d + 2 * n * d * m))


def gemm(dtype: torch.dtype, device: str, size: int = 4096) -> tuple[Callable[[], Tensor], float]:
    """A square matrix product, as a measure of peak speed, and its number of operations."""
    size = size if device == "cuda" else 2048
    a = torch.randn(size, size, dtype=dtype, device=device)
    return lambda: a @ a, 2.0 * size**3


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.device == "cpu":
        torch.set_num_threads(2)
    models = {
        "ours": OurMap(),
        "timm, gelu_tanh": TimmMap(act_layer="gelu_tanh"),
        "timm as named (erf GELU)": TimmMap(),
        "transformers": TransformersMap(),
    }
    print(f"{device_name(args.device)}, torch {torch.__version__}, batch {args.batch}, {args.rounds} rounds\n")
    print("| type | contestant | ms | images/s | speed relative to ours | share of GEMM peak |")
    print("|---|---|---|---|---|---|")
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(args.batch, 3, 256, 256, dtype=dtype, device=args.device)
        nets = {name: net.eval().to(args.device, dtype) for name, net in models.items()}
        product, operations = gemm(dtype, args.device)
        runs = interleaved({n: lambda net=net, x=x: net(x) for n, net in nets.items()} | {"gemm": product}, args.rounds)
        peak = runs.pop("gemm")
        for name, seconds in runs.items():
            share = flops(args.batch) / operations * ratio(peak, seconds)
            print(
                f"| {str(dtype).removeprefix('torch.')} | {name} | {1e3 * median(seconds):.1f} "
                f"| {args.batch / median(seconds):.2f} | {ratio(runs['ours'], seconds):.3f} | {share:.2f} |"
            )
        same = min(ratio(runs[name], runs["ours"]) for name in ("timm, gelu_tanh", "transformers"))
        print(f"\n{dtype}: {same:.3f} of the speed of the faster peer\n")


if __name__ == "__main__":
    assert siglip2_backbone.VARIANTS
    main()
