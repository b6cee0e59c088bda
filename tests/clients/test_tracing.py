"""torch.jit.trace and script, the older ONNX export and torch.fx: the ground of CoreML, OpenVINO and FLOP counters."""

import io

import onnxruntime
import pytest
import timm
import torch
from timm.models import get_notrace_functions, get_notrace_modules
from timm.models._features_fx import FeatureGraphNet
from torch.utils._pytree import tree_leaves
from torchvision.models.feature_extraction import create_feature_extractor

import siglip2_backbone  # noqa: F401  # registers the names

NAME = "siglip2_tiny_patch8_128"
BUILDS = {
    "tower": (NAME, {}),
    "maps": (NAME, {"features_only": True}),
    "windows": (NAME, {"features_only": True, "window_size": 3}),
    "pyramid": (f"{NAME}_pyramid", {}),
    "sfp": (f"{NAME}_sfp", {}),
    "patch 14": (f"{NAME}_pyramid", {"patch_size": 14}),
}
SIZES = [(64, 64), (128, 128), (50, 130)]  # shrunk; the native grid, of which patch 14 has an uneven one; padded
models = pytest.mark.parametrize("kind", BUILDS)
sizes = pytest.mark.parametrize("size", SIZES, ids=str)


def built(kind, **options):
    torch.manual_seed(0)
    name, args = BUILDS[kind]
    return timm.create_model(name, **args, **options).eval()


def image_of(size, batch=2):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def assert_same(found, expected, tolerance=1e-6):
    pairs = list(zip(tree_leaves(found), tree_leaves(expected), strict=True))
    assert pairs
    for a, b in pairs:
        assert a.shape == b.shape
        assert float((a - b).norm() / b.norm()) <= tolerance


# a trace holds for one size, which is what torch warns of
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit")
@torch.no_grad()
@models
@sizes
def test_a_trace_gives_the_models_own_numbers_for_every_batch(kind, size):
    model = built(kind)
    traced = torch.jit.trace(model, image_of(size))
    for batch in (2, 1, 3):
        assert_same(traced(image_of(size, batch)), model(image_of(size, batch)), 0)


@pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning", "ignore::UserWarning:torch"
)
@torch.no_grad()
@models
@sizes
def test_the_older_onnx_export_agrees(kind, size):
    model, file = built(kind), io.BytesIO()
    torch.onnx.export(model, (image_of(size),), file, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "batch"}})
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for batch in (2, 1):
        found = session.run(None, {"x": image_of(size, batch).numpy()})
        assert_same([torch.from_numpy(array) for array in found], model(image_of(size, batch)))


@torch.no_grad()
@models
def test_one_graph_of_torch_fx_takes_every_size(kind):
    model = built(kind)
    fixed = {"attn_mask": None, "is_causal": False} if kind == "tower" else None
    graph = torch.fx.symbolic_trace(model, concrete_args=fixed)
    for size in SIZES:
        assert_same(graph(image_of(size)), model(image_of(size)), 0)


@torch.no_grad()
@pytest.mark.parametrize(
    ("extractor", "window_size"),
    # with windows only by timm's leaves: without them the graph would hold a mask, which is refused
    [("timm", None), ("timm", 3), ("torchvision", None), ("torchvision, timm's leaves", None), ("timm's leaves", 3)],
)
def test_maps_are_taken_from_a_graph(extractor, window_size):
    model, nodes = built("tower", window_size=window_size), ["blocks.1", "blocks.3"]
    leaves = {"leaf_modules": get_notrace_modules(), "autowrap_functions": get_notrace_functions()}
    if extractor == "timm":
        graph = FeatureGraphNet(model, (1, 3))
    else:
        graph = create_feature_extractor(model, nodes, tracer_kwargs=leaves if "leaves" in extractor else None)
    for size in SIZES:
        found = tree_leaves(graph(image_of(size)))
        layout = {"output_fmt": "NLC", "intermediates_only": True}
        expected = model.forward_intermediates(image_of(size), indices=[1, 3], **layout)
        assert_same([cells.reshape(e.shape) for cells, e in zip(found, expected, strict=True)], expected, 0)


def test_a_graph_learns_as_the_model_does():
    model = built("tower", num_classes=5).train()
    leaves = {"leaf_modules": get_notrace_modules(), "autowrap_functions": get_notrace_functions()}
    graph = create_feature_extractor(model, ["head"], tracer_kwargs=leaves)
    (logits,) = graph(image_of((50, 130))).values()
    logits.mean().backward()
    found = {name: p.grad for name, p in graph.named_parameters()}
    model.zero_grad()
    model(image_of((50, 130))).mean().backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], grad) for name, grad in expected.items())


@pytest.mark.filterwarnings("ignore:`torch.jit")
@torch.no_grad()
@pytest.mark.parametrize("pos_interp", ["bicubic_antialias", "bicubic", "bilinear_antialias"])
def test_a_scripted_tower_takes_every_size_and_is_saved(pos_interp):
    model, file = built("tower", pos_interp=pos_interp), io.BytesIO()
    torch.jit.save(torch.jit.script(model), file)
    file.seek(0)
    scripted = torch.jit.load(file)
    for size in SIZES:
        assert_same(scripted(image_of(size)), model(image_of(size)), 0)
