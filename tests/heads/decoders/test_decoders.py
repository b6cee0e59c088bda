"""What every decoder keeps to."""

import inspect
import json

import pytest
import torch

from heads.decoders import DECODERS, build_decoder
from heads.geometry.resample import to_pixels

SMALL = {"linear": {}, "dpt": {"features": 8}, "upernet": {"features": 8}, "segformer": {"features": 8}}
SMALL["fpn"] = {"features": 32, "pyramid_channels": 8, "dropout": 0.1}
PATCHES = [14, 16, 32]
SIZES = [(64, 96), (37, 61), (8, 100)]


def maps(patch, size, count, batch=2):
    torch.manual_seed(0)
    return [torch.randn(batch, 12, -(-size[0] // patch), -(-size[1] // patch)) for _ in range(count)]


def decoder(name, patch, count=4):
    torch.manual_seed(0)
    return build_decoder(name, [12] * count, [patch] * count, 5, **SMALL[name])


def test_all_are_tested():
    assert SMALL.keys() == DECODERS.keys()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("name", DECODERS)
def test_logits_cover_the_image_and_pass_gradients_to_everything(name, patch, size):
    head, inputs = decoder(name, patch), [m.requires_grad_() for m in maps(patch, size, 4)]
    logits = head(inputs)
    assert logits.shape[:2] == (2, 5) and logits.dtype == torch.float32
    for cells, pixels in zip(logits.shape[2:], size, strict=True):
        assert cells * head.reduction >= pixels
    to_pixels(logits, head.reduction, size).square().sum().backward()
    unused = [n for n, p in head.named_parameters() if p.grad is None]  # several processes would wait for them
    assert not unused and all(m.grad is not None and m.grad.isfinite().all() for m in inputs)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("name", DECODERS)
def test_one_image_gives_in_evaluation_what_it_gives_in_a_batch(name, count):
    head = decoder(name, 16, count).eval()
    inputs = maps(16, (37, 61), count)
    together = head(inputs)
    for i in range(2):
        torch.testing.assert_close(head([m[i : i + 1] for m in inputs])[0], together[i], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("name", DECODERS)
def test_what_is_seen_on_the_right_is_said_on_the_right(name, patch):
    """Changing the last column of cells changes the pixels above it more than those far from it."""
    head = decoder(name, patch).eval()
    size = (2 * patch, 12 * patch)
    inputs = maps(patch, size, 4, batch=1)
    changed = [m.clone() for m in inputs]
    for m in changed:
        m[..., -1] = 3 * torch.randn_like(m[..., -1])
    before, after = (to_pixels(head(m), head.reduction, size) for m in (inputs, changed))
    columns = (after - before).abs().sum(dim=(0, 1, 2))
    assert columns[-patch:].mean() > 2 * columns[:patch].mean()


@pytest.mark.parametrize("name", DECODERS)
def test_arguments_are_plain_data_by_keyword_and_unknown_ones_are_refused(name):
    *_, positional = [
        p for p in inspect.signature(DECODERS[name]).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    assert positional.name == "out_channels"
    defaults = {
        p.name: p.default for p in inspect.signature(DECODERS[name]).parameters.values() if p.kind is p.KEYWORD_ONLY
    }
    assert json.loads(json.dumps(defaults)) == defaults
    with pytest.raises(ValueError, match=rf"decoder_args {{'width': 3}} do not fit the decoder '{name}': .*width"):
        build_decoder(name, [12], [16], 5, width=3)
    with pytest.raises(ValueError, match=rf"do not fit the decoder '{name}': .*channels"):
        build_decoder(name, [12], [16], 5, channels=[3])


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="decoder is 'lineal'; expected one of linear, dpt, upernet, segformer, fpn"):
        build_decoder("lineal", [6], [16], 4)
