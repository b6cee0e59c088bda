import numpy as np
import pytest
import torch
from pycocotools import mask as rle

from heads.data.detection.instance_masks import encode, instance_mask, mask_area, mask_problem, rle_extent, rle_extents

# of pycocotools 2.0.11's decode, which the library does not call
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SIZE = 40, 60
RECTANGLE = [[10, 5, 30, 5, 30, 20, 10, 20]]


def random_mask(seed, size=SIZE, share=0.5):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.random(size) < share)


def blobs(seed):
    """Areas with long and short runs, and with differences of both signs."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    rng = np.random.default_rng(seed)
    found = [np.hypot(y - rng.uniform(0, 40), x - rng.uniform(0, 60)) < rng.uniform(1, 25) for _ in range(3)]
    return torch.from_numpy(np.logical_xor.reduce(found))


def runs(mask):
    """Uncompressed RLE by a plain loop over the columns."""
    counts, last = [0], False
    for value in mask.T.flatten().tolist():
        counts = [*counts, 0] if value != last else counts
        counts[-1] += 1
        last = value
    return {"size": list(mask.shape), "counts": counts}


def test_a_polygon_covers_its_pixels():
    mask = instance_mask({"segmentation": RECTANGLE}, *SIZE)
    expected = torch.zeros(SIZE, dtype=torch.bool)
    expected[5:20, 10:30] = True
    assert torch.equal(mask, expected) and mask_area(RECTANGLE, *SIZE) == 300


def test_several_polygons_are_united():
    both = instance_mask({"segmentation": [*RECTANGLE, [20, 15, 50, 15, 50, 35, 20, 35]]}, *SIZE)
    assert both[10, 15] and both[17, 25] and both[30, 45] and not both[30, 15]


@pytest.mark.parametrize(
    "mask",
    [
        *(random_mask(seed) for seed in range(4)),
        *(blobs(seed) for seed in range(8)),
        torch.zeros(SIZE, dtype=torch.bool),
        torch.ones(SIZE, dtype=torch.bool),
        random_mask(0, (1, 1), 2.0),
        random_mask(9, (700, 900), 0.001),
    ],
)
def test_a_mask_survives_both_kinds_of_rle(mask):
    height, width = mask.shape
    compressed = encode(mask)
    assert isinstance(compressed["counts"], str) and compressed["size"] == [height, width]
    assert rle.decode(compressed).astype(bool).tolist() == mask.tolist()
    for segmentation in (compressed, compressed | {"counts": compressed["counts"].encode()}, runs(mask)):
        assert torch.equal(instance_mask({"segmentation": segmentation}, height, width), mask)
        assert mask_area(segmentation, height, width) == mask.sum()


def test_encode_takes_any_layout_of_memory():
    mask = blobs(0)
    assert encode(mask.T.contiguous().T) == encode(mask)
    with pytest.raises(ValueError, match=r"The mask is torch\.uint8 \(40, 60\); expected bool \(height, width\)"):
        encode(mask.byte())
    with pytest.raises(ValueError, match=r"The mask is torch\.bool \(1, 40, 60\); expected bool"):
        encode(mask[None])


def test_counts_that_leave_pixels_out_are_refused_where_pycocotools_shows_old_memory():
    short = encode(random_mask(1, (40, 59)))["counts"]
    segmentation = {"size": list(SIZE), "counts": short}
    rle.decode(segmentation)  # no error: the last column is whatever was there
    with pytest.raises(ValueError, match=r"Annotation 12 has RLE counts of 2360 pixels; expected 2400, the 40 x 60 of"):
        instance_mask({"id": 12, "segmentation": segmentation}, *SIZE)


GOOD = encode(blobs(3))["counts"]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "has no segmentation; expected a list of polygons"),
        ([], r"has segmentation \[\]; expected a list of polygons"),
        ("polygon", "has segmentation 'polygon'; expected"),
        (RECTANGLE[0], r"whose polygon 1 is 10; expected a list of polygons, each \[x1, y1"),
        ([[10, 5, 30, 5]], "whose polygon 1 has 4 numbers; expected x and y of at least 3 points"),
        ([*RECTANGLE, [10, 5, 30, 5, 30, 20, 10]], "whose polygon 2 has 7 numbers"),
        ([[10, 5, 30, 5, 30, float("nan")]], "whose polygon 1 is .*nan"),
        ([[10, 5, 30, 5, 30, "20"]], "whose polygon 1 is .*'20'"),
        ([[10, 5, 30, 5, 30, 10**400]], "whose polygon 1 is "),
        ([[[10, 5], [30, 5], [30, 20]]], r"whose polygon 1 is \[\[10, 5\]"),
        (
            [[10, 5, 30, 5, 62, 20]],
            r"polygon 1 spans x from 10 to 62 and y from 5 to 20; .* inside the image of 60 x 40",
        ),
        ([[10, -2, 30, 5, 30, 20]], "spans x from 10 to 30 and y from -2 to 20"),
        ([[10, 5, 30, 5, 30, 42]], "spans .* y from 5 to 42"),
        ({"counts": GOOD}, "has RLE of size None; expected its image's height and width"),
        ({"size": [41, 60], "counts": GOOD}, r"has RLE of size \[41, 60\]; expected its image's .* \[40, 60\]"),
        ({"size": [60, 40], "counts": GOOD}, r"size \[60, 40\], which has width before height; expected"),
        ({"size": [40, 60]}, "has RLE counts None; expected run lengths"),
        ({"size": [40, 60], "counts": [-5, 2405]}, r"has RLE counts \[-5, 2405\]; expected run lengths"),
        ({"size": [40, 60], "counts": [1200.0, 1200.0]}, "has RLE counts .*; expected run lengths"),
        ({"size": [40, 60], "counts": [1200, 1201]}, "has RLE counts of 2401 pixels; expected 2400"),
        ({"size": [40, 60], "counts": []}, "has RLE counts of 0 pixels; expected 2400"),
        ({"size": [40, 60], "counts": ""}, "has RLE counts ''; expected run lengths"),
        ({"size": [40, 60], "counts": GOOD[:-2]}, "has RLE counts "),
        ({"size": [40, 60], "counts": "é" * 4}, "has RLE counts 'éééé'; expected run lengths"),
        ({"size": [40, 60], "counts": "\ud800"}, "has RLE counts "),
        ({"size": [40, 60], "counts": "\0" + GOOD}, "has RLE counts "),
        ({"size": [40, 60], "counts": "o" * 80 + "0"}, "has RLE counts 'o.*; expected run lengths"),
        ({"size": [40, 60], "counts": "O0O0"}, "has RLE counts 'O0O0'; expected run lengths"),  # -1 first
    ],
)
def test_segmentations_that_are_wrong(segmentation, message):
    with pytest.raises(ValueError, match=f"Annotation 12 .*{message}"):
        instance_mask({"id": 12, "segmentation": segmentation}, *SIZE)


def test_a_polygon_may_lie_one_pixel_beyond_its_image():
    assert mask_problem([[-1, -1, 61, -1, 61, 41, -1, 41]], *SIZE) is None
    assert instance_mask({"segmentation": [[-1, -1, 61, -1, 61, 41, -1, 41]]}, *SIZE).all()


@pytest.mark.parametrize("seed", range(6))
def test_the_extent_of_run_lengths_is_that_of_their_pixels(seed):
    mask = blobs(seed)
    mask[:3] = False
    ys, xs = mask.nonzero(as_tuple=True)
    expected = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    for segmentation in (encode(mask), runs(mask)):
        assert rle_extent(segmentation, *SIZE) == expected
        assert rle_extents([segmentation], [SIZE]) == [expected]


def test_a_run_from_one_column_to_the_next_spans_all_rows():
    assert rle_extent({"size": list(SIZE), "counts": [30, 20, 2350]}, *SIZE) == (0, 0, 2, 40)


def test_what_cannot_be_read_or_has_no_pixel_has_no_extent():
    wrong = [{}, {"size": list(SIZE), "counts": "o" * 80}, {"size": [60, 40], "counts": GOOD}]
    wrong += [{"size": list(SIZE), "counts": counts} for counts in ("é", "", GOOD + "o", [2400], [100, 0, 2300], [5])]
    assert rle_extents(wrong, [SIZE] * len(wrong)) == [None] * len(wrong)
    assert [rle_extent(one, *SIZE) for one in wrong] == [None] * len(wrong)
