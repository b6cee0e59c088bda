import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2 import functional as V

from heads.geometry import upsampling
from heads.geometry.record import Geometry
from heads.geometry.resample import to_pixels
from heads.geometry.upsampling import Upsampling

CASES = {
    "cut": ((4, 5), 8, (29, 33)),
    "border repeated": ((27, 27), 14, (384, 380)),
    "one row": ((1, 3), 7, (1, 20)),
    "3.5 px a cell": ((8, 12), 3.5, (27, 42)),
    "as is": ((3, 4), 1, (3, 4)),
}


def whole(up, maps):
    return torch.cat([up.band(maps, band).clone() for band in up.bands()]).transpose(0, 1)


@pytest.mark.parametrize("chunk", [1, 900, 2**20])
@pytest.mark.parametrize(("cells", "reduction", "size"), CASES.values(), ids=CASES)
def test_bands_and_their_gradient_are_those_of_the_whole(monkeypatch, cells, reduction, size, chunk):
    monkeypatch.setattr(upsampling, "_CHUNK", chunk)
    maps = torch.randn(3, *cells, dtype=torch.float64, requires_grad=True)
    expected = to_pixels(maps[None], reduction, size)[0]
    up = Upsampling.to_image(maps.detach(), reduction, size)
    torch.testing.assert_close(whole(up, maps.detach()), expected, atol=1e-12, rtol=0)
    passed_back = torch.randn_like(expected)
    expected.backward(passed_back)
    gradient = torch.zeros_like(maps)
    for band in up.bands():
        up.add_gradient(gradient, passed_back[:, band.pixels].transpose(0, 1), band)
    torch.testing.assert_close(gradient, maps.grad, atol=1e-11, rtol=0)


def test_no_bit_depends_on_the_band_or_the_channel(monkeypatch):
    base = torch.randn(1, 11, 9)
    geometry = V.horizontal_flip(V.resize(Geometry.of((70, 203)), [88, 72]))
    expected = whole(Upsampling.to_original(base, 8, geometry), base)
    for chunk in (1, 7_000, 2**20):
        monkeypatch.setattr(upsampling, "_CHUNK", chunk)
        maps = base.expand(13, -1, -1).contiguous()
        assert torch.equal(whole(Upsampling.to_original(maps, 8, geometry), maps), expected.expand(13, -1, -1))


@pytest.mark.parametrize("cells", [(1, 1100), (1100, 1)], ids=["wide", "tall"])
def test_a_long_map_is_upsampled_in_blocks(cells):
    maps = torch.randn(2, *cells, dtype=torch.float64, requires_grad=True)
    size = tuple(4 * n - (n > 1) for n in cells)
    expected = to_pixels(maps[None], 4, size)[0]
    up = Upsampling.to_image(maps.detach(), 4, size)
    torch.testing.assert_close(whole(up, maps.detach()), expected, atol=1e-12, rtol=0)
    passed_back = torch.randn_like(expected)
    expected.backward(passed_back)
    gradient = torch.zeros_like(maps)
    for band in up.bands():
        up.add_gradient(gradient, passed_back[:, band.pixels].transpose(0, 1), band)
    torch.testing.assert_close(gradient, maps.grad, atol=1e-11, rtol=0)


class Work(TorchDispatchMode):
    """Counts the elements of all results, of a product of matrices those of each of its terms."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not function.is_view:
            inner = args[0].shape[1] if function is torch.ops.aten.mm.default else 1
            self.elements += result.numel() * inner
        return result


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("original", [False, True])
def test_work_grows_with_the_longer_side_and_not_with_its_square(axis, original):
    def elements(cells):
        maps = torch.randn(1, *((cells, 1) if axis == 0 else (1, cells)))
        size = (2 * maps.shape[1], 2 * maps.shape[2])
        geometry = V.horizontal_flip(V.resize(Geometry.of((3 * size[0] // 2, 3 * size[1] // 2)), list(size)))
        with Work() as work:
            up = Upsampling.to_original(maps, 2, geometry) if original else Upsampling.to_image(maps, 2, size)
            for band in up.bands():
                up.add_gradient(torch.zeros_like(maps), up.band(maps, band), band)
        return work.elements

    assert 3 < elements(8192) / elements(2048) < 5
