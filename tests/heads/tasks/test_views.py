import pytest
import torch

from heads.tasks.views import MIRRORED, WHOLE, View


def batch(*sizes, frame=(5, 7)):
    """A batch of ones, its padding 0, with the sizes before the padding."""
    image = torch.zeros(len(sizes), 3, *frame)
    for one, (height, width) in zip(image, sizes, strict=True):
        one[:, :height, :width] = 1
    return {"image": image, "size": list(sizes)}


@pytest.mark.parametrize("view", [WHOLE, MIRRORED, View(scale=2.0), View(scale=2.0, mirrored=True)])
def test_padding_lies_where_the_images_end(view):
    ragged = batch((5, 7), (3, 7), (5, 2), (1, 1))
    padding = view.padding(ragged)
    assert padding.dtype == torch.bool and padding.shape == (4, 1, *view.size(ragged))
    pixels = view.pixels(ragged)
    assert not padding[0].any() and (pixels[padding.expand_as(pixels)] < 0.5).all()
    assert (pixels[(~padding).expand_as(pixels)] > 0.5).all()


def test_an_image_alone_and_a_full_batch_have_no_padding():
    full = batch((5, 7), (5, 7))
    assert WHOLE.padding(full) is None and MIRRORED.padding(full) is None
    assert WHOLE.padding({"image": full["image"]}) is None
    ragged = batch((5, 7), (3, 4))
    alone = View(1)
    assert alone.padding(ragged) is None and alone.pixels(ragged).shape == (1, 3, 3, 4)
