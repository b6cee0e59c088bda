"""``siglip2 onnx CHECKPOINT OUT.onnx``: write a backbone for onnxruntime, checked against torch first."""

import argparse

from siglip2_backbone import FeatureMaps, create_backbone
from siglip2_backbone.onnx_export import Agreement, export_onnx

from .inputs import output_path, refuse_pyramid


def run(command: str, arguments: list[str]) -> None:
    """Write the file and print how far its outputs are from torch's."""
    parser = argparse.ArgumentParser(prog=f"siglip2 {command}", description=__doc__)
    parser.add_argument("checkpoint", help="checkpoint directory or file, Hugging Face id or model name")
    parser.add_argument("output", type=output_path, metavar="OUT.onnx", help="file to write")
    parser.add_argument(
        "--layers", type=int, nargs="+", default=[-1], help="block indices; negative ones count from the end"
    )
    parser.add_argument("--no-norm", action="store_true", help="skip the final norm of the feature maps")
    parser.add_argument("--no-pooled", action="store_true", help="leave the pooled output and the MAP head out")
    parser.add_argument(
        "--size", type=int, nargs="+", help="height and width of the first check [px] (default: native). Any size works"
    )
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest relative L2 difference from torch")
    parser.add_argument("--random-weights", action="store_true", help="random weights, only for trying out")
    args = parser.parse_args(arguments)
    if args.output.suffix != ".onnx":
        raise ValueError(f"The output is {args.output}; expected a name that ends in .onnx.")
    refuse_pyramid(args.checkpoint)
    model = create_backbone(
        args.checkpoint,
        out_indices=args.layers,
        norm=not args.no_norm,
        pooled=not args.no_pooled,
        pretrained=not args.random_weights,
    )
    assert isinstance(model, FeatureMaps)
    size = (args.size[0], args.size[-1]) if args.size and len(args.size) < 3 else args.size
    report = export_onnx(model, args.output, size=size, tolerance=args.tolerance)
    print(_table(report))
    patch = model.feature_info.reduction()[0]
    print(
        f"{args.output}: image (batch, 3, height, width), normalised, float32; any height and width in multiples of "
        f"{patch} px. Pad other images first: onnxruntime silently drops the remainder."
    )


def _table(report: list[Agreement]) -> str:
    rows = [f"{'output':10} {'batch':>5} {'size [px]':>12} {'max abs':>9} {'rel L2':>9}"]
    for a in report:
        size = f"{a.size[0]} x {a.size[1]}"
        rows.append(f"{a.output:10} {a.batch:5} {size:>12} {a.max_abs:9.1e} {a.rel_l2:9.1e}")
    return "\n".join(["onnxruntime against torch, on random images:", *rows])
