import numpy as np
import pytest
import torch
from torch import nn

from heads.decoders import DepthHead, NormalsHead


class Given(nn.Module):
    """A decoder that puts out the map it is given."""

    reduction = 4

    def forward(self, maps):
        return maps[0]


def depth(output, logits, depth_range=(0.001, 10.0)):
    return DepthHead(Given(), output, depth_range)([logits])


def test_bins_are_averaged_by_rectified_logits():
    logits = torch.randn(2, 256, 3, 4, dtype=torch.float64)
    weights = np.maximum(logits.numpy(), 0) + 0.1
    bins = np.linspace(0.001, 10, 256)[None, :, None, None]
    expected = (weights * bins).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(depth("bins", logits).numpy(), expected, rtol=1e-6)  # the bins are float32


def test_bins_by_hand():
    logits = torch.full((1, 256, 1, 1), -3.0)
    assert depth("bins", logits, (2.0, 4.0)).item() == pytest.approx(3)  # all weights are 0.1
    logits[0, 255] = 1e9
    assert depth("bins", logits, (2.0, 4.0)).item() == pytest.approx(4)


def test_a_bin_that_is_never_chosen_still_counts_in_the_sum():
    logits = torch.zeros(1, 256, 1, 1)
    logits[0, 0] = 0.9  # weight 1 against 255 x 0.1
    expected = (0 * 1 + 0.1 * 255 * 0.5 * 256 / 255) / (1 + 25.5)
    assert depth("bins", logits, (1e-9, 1.0)).item() == pytest.approx(expected, rel=1e-4)


def test_regression_stays_within_the_range_and_relative_depth_is_left_alone():
    logits = torch.tensor([-1e9, 0, 1e9]).view(1, 1, 1, 3)
    assert depth("regression", logits, (2.0, 4.0)).flatten().tolist() == [2, 3, 4]
    assert torch.equal(depth("relative", logits), logits)
    assert [DepthHead.logits(output) for output in ("bins", "regression", "relative")] == [256, 1, 1]
    assert [DepthHead.logits(output, 64) for output in ("bins", "regression", "relative")] == [64, 1, 1]


def test_normals_are_unit_vectors_and_what_follows_is_left_alone():
    logits = torch.randn(2, 4, 3, 5)
    found = NormalsHead(Given())([logits])
    torch.testing.assert_close(found[:, :3].norm(dim=1), torch.ones(2, 3, 5))
    assert torch.equal(found[:, 3], logits[:, 3])
    assert torch.cosine_similarity(found[:, :3], logits[:, :3], dim=1).min() > 0.9999


def test_heads_say_their_pixels_per_cell():
    assert DepthHead(Given(), "bins", (1, 2)).reduction == NormalsHead(Given()).reduction == 4


def test_an_unknown_output_is_refused():
    with pytest.raises(ValueError, match="output is 'classes'; expected one of bins, regression, relative"):
        DepthHead.logits("classes")


@pytest.mark.parametrize("bins", [-1, 0, 1])
def test_less_than_two_bins_are_refused(bins):
    with pytest.raises(ValueError, match=f"bins is {bins}; expected at least 2"):
        DepthHead.logits("bins", bins)
