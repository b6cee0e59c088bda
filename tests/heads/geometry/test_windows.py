import pytest
import torch

from heads.geometry.windows import Merge, cut, windows


@pytest.mark.parametrize(
    ("size", "window", "stride", "starts"),
    [
        (512, 512, 341, [0]),
        (513, 512, 341, [0, 1]),
        (683, 512, 341, [0, 171]),
        (1024, 512, 341, [0, 341, 512]),
        (10, 4, 4, [0, 4, 6]),
        (8, 4, 4, [0, 4]),
        (3, 4, 2, [0]),
    ],
)
def test_the_last_window_is_shifted_back_to_the_border(size, window, stride, starts):
    assert windows((size, 5), (window, 5), (stride, 5)) == [(start, 0) for start in starts]
    assert windows((5, size), (5, window), (5, stride)) == [(0, start) for start in starts]


@pytest.mark.parametrize("numbers", [((8, 8), (4, 4), (5, 4)), ((8, 8), (4, 4), (0, 4)), ((0, 8), (4, 4), (4, 4))])
def test_gaps_and_nothing_are_refused(numbers):
    with pytest.raises(ValueError, match="expected at least 1 px and a stride of at most the window"):
        windows(*numbers)


@pytest.mark.parametrize("size", [(8, 8), (37, 50), (5, 30), (6, 7)])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_image_cut_up_and_merged_is_the_image(size, weighted):
    image, window = torch.randn(3, *size, dtype=torch.float64), (8, 8)
    weight = torch.rand(window, dtype=torch.float64) + 0.1 if weighted else None
    at = windows(size, window, (5, 3))
    merge = Merge(size, window, weight)
    merge.add(cut(image, at, window), at)
    torch.testing.assert_close(merge.result(), image, atol=1e-12, rtol=0)


def test_one_window_is_the_whole_image_bit_for_bit():
    image = torch.randn(3, 8, 9)
    at = windows((8, 9), (8, 9), (4, 4))
    assert at == [(0, 0)] and torch.equal(cut(image, at, (8, 9))[0], image)
    merge = Merge((8, 9), (8, 9))
    merge.add(image[None], at)
    assert torch.equal(merge.result(), image)


def test_overlaps_are_averaged_by_hand():
    merge = Merge((1, 3), (1, 2), torch.tensor([[1.0, 3.0]]))
    merge.add(torch.tensor([[[[1.0, 10.0]]], [[[20.0, 5.0]]]]), [(0, 0), (0, 1)])
    assert merge.result().tolist() == [[[1.0, (3 * 10 + 1 * 20) / 4, 5.0]]]


def test_batches_of_windows_make_no_difference():
    size, window = (40, 60), (16, 16)
    at = windows(size, window, (11, 11))
    outputs = torch.randn(len(at), 4, *window)
    results = []
    for batch in (1, 3, len(at)):
        merge = Merge(size, window)
        for first in range(0, len(at), batch):
            merge.add(outputs[first : first + batch], at[first : first + batch])
        results.append(merge.result())
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"weight is \(3, 3\)"):
        Merge((8, 8), (4, 4), torch.ones(3, 3))
    with pytest.raises(ValueError, match="all above 0"):
        Merge((8, 8), (4, 4), torch.zeros(4, 4))
    merge = Merge((8, 8), (4, 4))
    with pytest.raises(ValueError, match="Some pixels are in no window"):
        merge.result()
    with pytest.raises(ValueError, match="for 2 windows"):
        merge.add(torch.zeros(1, 2, 4, 4), [(0, 0), (0, 4)])
    merge.add(torch.zeros(1, 2, 4, 4), [(0, 0)])
    with pytest.raises(ValueError, match="Some pixels are in no window"):
        merge.result()
