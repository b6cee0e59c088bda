"""torch.compile and torch.export of tower and maps: one graph, whatever the batch and the size."""

import pytest
import timm
import torch
from torch import nn
from torch.export import Dim
from torch.utils._pytree import tree_leaves

from siglip2_backbone import as_dino

NAME = "siglip2_tiny_patch8_128"
# batch, height, width: shrunk and enlarged, and the native grid; not first, where equal sides are taken for a square
SIZES = [(3, 16, 320), (1, 128, 128), (2, 320, 40)]


def features(depth=2, **options):
    torch.manual_seed(0)
    return timm.create_model(NAME, features_only=True, depth=depth, **options).eval()


def images(batch, height, width):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


class MapsAndPooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = features(pooled=True)

    def forward(self, x):
        return self.features.forward_pooled(x)


class DinoPairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.dino = as_dino(features(pooled=True))

    def forward(self, x):
        return self.dino.get_intermediate_layers(x, 2, reshape=True, return_class_token=True)


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    "build", [lambda: features(out_indices=[1, 0]), MapsAndPooled], ids=["maps", "maps and pooled"]
)
def test_one_exported_graph_takes_every_batch_and_size(build):
    model = build()
    axes = {0: Dim("batch"), 2: 8 * Dim("rows"), 3: 8 * Dim("columns")}
    exported = torch.export.export(model, (images(2, 96, 160),), dynamic_shapes=(axes,)).module()
    for size in SIZES:
        assert_same(exported(images(*size)), model(images(*size)))


def gradients_of(model, batch, height, width):
    model.zero_grad()
    leaves = tree_leaves(model(images(batch, height, width)))
    sum(leaf.square().mean() for leaf in leaves).backward()
    return [p.grad.clone() for p in model.parameters()]


# aot_eager traces the backward pass as well, and takes four times as long; inductor would add a compiler's minute
@pytest.mark.parametrize(
    ("build", "backend"),
    [(lambda: features(depth=1), "aot_eager"), (MapsAndPooled, "eager"), (DinoPairs, "eager")],
    ids=["maps", "maps and pooled", "dino"],
)
def test_one_compiled_graph_learns_at_every_batch_and_size(build, backend):
    model = build()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for batch, height, width in SIZES:
            size = (batch + 1, height, width)  # a batch of one is always a graph of its own
            assert_same(gradients_of(compiled, *size), gradients_of(model, *size))
