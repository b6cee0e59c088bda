"""Export of a tower to ONNX, for every batch size and image size, checked against torch before the file is written.

The graph expects whole patches: unlike the tower it does not pad, and onnxruntime silently crops a height or width that
is not a multiple of the patch. Pad the image first (:func:`siglip2_backbone.preprocess.pad_to_multiple`).
"""

import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .features import FeatureMaps
from .files import sync
from .fingerprint import fingerprint
from .finite import refuse_not_finite
from .hub import shared_source

INPUT = "image"
POOLED = "pooled"
Grid = tuple[int, int]


@dataclass(frozen=True)
class Agreement:
    """Difference between onnxruntime and torch, for one output at one batch size and image size.

    Args:
        output: Name of the output.
        batch: Number of images.
        size: Height and width [px].
        max_abs: Largest absolute difference.
        rel_l2: L2 norm of the difference relative to that of torch's output.
    """

    output: str
    batch: int
    size: tuple[int, int]
    max_abs: float
    rel_l2: float


class _Outputs(nn.Module):
    """The maps, and the pooled output if it was kept, as one flat tuple."""

    def __init__(self, features: FeatureMaps) -> None:
        super().__init__()
        self.features = features
        self.names = [f"layer_{i}" for i in features.out_indices] + [POOLED] * features.pooled

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        if not self.features.pooled:
            return tuple(self.features(image))
        maps, pooled = self.features.forward_pooled(image)
        return (*maps, pooled)


def export_onnx(
    features: FeatureMaps, path: str | Path, *, size: tuple[int, int] | None = None, tolerance: float = 1e-4
) -> list[Agreement]:
    """Export a backbone to ONNX, after comparing onnxruntime with torch at three image sizes and batch sizes.

    The graph takes ``image``, float32 ``(batch, 3, rows x patch, columns x patch)``, normalised, and returns
    ``layer_I`` of shape ``(batch, D, rows, columns)`` for each of ``features.out_indices`` and, with ``pooled=True``,
    ``pooled`` of shape ``(batch, D)``. Its metadata hold the model name, the weights' fingerprint, the patch, mean and
    std. Weights over 2 GB are stored beside it in ``NAME.onnx.data``.

    Args:
        features: The backbone, float32 on the CPU; it is put into evaluation mode.
        path: File to write.
        size: Height and width [px] of the first check; the native size by default.
        tolerance: Largest accepted relative L2 difference.

    Returns:
        The differences at the requested size, at a wider one and at a smaller one.

    Raises:
        ValueError: onnx, onnxscript or onnxruntime is missing, the type is not float32, weights are not finite,
            ``size`` is not a whole number of patches, the results differ by more than ``tolerance``, or the file
            cannot be written. No file is left.
    """
    path = Path(path)
    _check_installed()
    parameter = next(features.parameters())
    if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
        raise ValueError(
            f"The backbone is {parameter.dtype} on {parameter.device}; expected float32 on the CPU. Call "
            ".float().cpu() on it first."
        )
    refuse_not_finite(features.state_dict(), "The backbone", "Load finite weights.")
    model = _Outputs(features).eval()
    patch = features.feature_info.reduction()[0]
    grids = _grids(features, size, patch)
    program = _program(model, patch)
    _forget_traces(program.model)
    program.model.metadata_props.update(_card(features, patch))
    with _whole_files(path) as partial:
        program.save(partial)
        found = [a for batch, grid in enumerate(grids, 1) for a in _agreements(model, partial, batch, grid, patch)]
        worst = max(found, key=lambda a: (math.isnan(a.rel_l2), a.rel_l2))  # NaN compares with nothing
        if not worst.rel_l2 <= tolerance:  # NaN must fail
            raise ValueError(
                f"{path} is not written: onnxruntime's {worst.output} at {worst.size[0]} x {worst.size[1]} px differs "
                f"from torch's by {worst.rel_l2:.1e} (relative L2); expected at most {tolerance:.1e}. Try other "
                "versions of onnxruntime and onnxscript, or pass a larger tolerance."
            )
    return found


def _check_installed() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(package)
        except ImportError as error:
            raise ValueError(
                f"The export needs {package}, which is not installed: pip install 'siglip2-backbone[onnx]'."
            ) from error


def _grids(features: FeatureMaps, size: tuple[int, int] | None, patch: int) -> list[Grid]:
    """Rows and columns of the three checks."""
    rows, columns = features.model.table_grid
    if size is not None:
        if len(size) != 2 or min(size) < 1 or size[0] % patch or size[1] % patch:
            raise ValueError(
                f"size is {size}; expected height and width in multiples of {patch} px, because the exported graph "
                "takes whole patches only."
            )
        rows, columns = size[0] // patch, size[1] // patch
    return [(rows, columns), (rows - rows // 4, columns + columns // 2), (max(1, rows // 3), max(1, columns // 2))]


def _program(model: _Outputs, patch: int) -> Any:
    """The graph, with batch, rows and columns left open."""
    from torch.export import Dim

    # two different sides above one cell: torch.export merges equal sizes into one symbol, and treats 1 as a constant
    example = torch.zeros(2, 3, 2 * patch, 3 * patch)
    axes = {0: Dim("batch"), 2: patch * Dim("rows"), 3: patch * Dim("columns")}
    with torch.no_grad():
        return torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=model.names,
            dynamic_shapes=(axes,),
            verbose=False,
        )


def _forget_traces(model: Any) -> None:
    """Drop torch's debug information about each node: stack traces, which contain local paths.

    Args:
        model: The onnx_ir.Model.
    """
    graphs = [model.graph, *(function.graph for function in model.functions.values())]
    nodes = [node for graph in graphs for node in graph.all_nodes()]
    values = [v for graph in graphs for v in (*graph.inputs, *graph.initializers.values())]
    values += [value for node in nodes for value in node.outputs]
    for entry in (model, *model.functions.values(), *graphs, *nodes, *values):
        entry.metadata_props.clear()
        entry.doc_string = None


def _card(features: FeatureMaps, patch: int) -> dict[str, str]:
    cfg = features.pretrained_cfg
    return {
        "model": cfg["architecture"],
        "source": shared_source(cfg["source"]),
        "fingerprint": fingerprint(features),
        "norm": json.dumps(features.norm),
        "patch": str(patch),
        "mean": json.dumps(list(cfg["mean"])),
        "std": json.dumps(list(cfg["std"])),
    }


def _agreements(model: _Outputs, path: Path, batch: int, grid: Grid, patch: int) -> list[Agreement]:
    """Compare both results for random images, output by output."""
    import onnxruntime

    size = (grid[0] * patch, grid[1] * patch)
    image = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    results = session.run(model.names, {INPUT: image.numpy()})
    with torch.no_grad():
        expected = model(image)
    found = []
    for name, result, reference in zip(model.names, map(torch.from_numpy, results), expected, strict=True):
        if result.shape != reference.shape:
            raise AssertionError(
                f"{name} has shape {tuple(result.shape)} in onnxruntime, {tuple(reference.shape)} here"
            )
        difference = (result - reference).double()
        relative = (difference.norm() / reference.double().norm()).item()
        found.append(Agreement(name, batch, size, difference.abs().max().item(), relative))
    return found


@contextmanager
def _whole_files(path: Path) -> Iterator[Path]:
    """A path of the same name in a folder beside ``path``; files written there move to ``path`` if nothing fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder:
            yield Path(folder) / path.name
            # the weights first: a graph without them cannot be read
            files = sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name)
            for file in files:
                sync(file)
            for file in files:
                os.replace(file, path.parent / file.name)
            sync(path.parent)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error}). Pass another path, or free some space.") from error
