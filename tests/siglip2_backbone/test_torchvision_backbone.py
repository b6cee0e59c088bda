from collections import OrderedDict

import pytest
import torch

from siglip2_backbone import as_torchvision, create_backbone

TINY = "siglip2_tiny_patch8_128"


@torch.no_grad()
@pytest.mark.parametrize(("pyramid", "channels"), [("resample", 96), ("sfp", 256), (None, 96)])
def test_maps_come_as_an_ordered_dict(pyramid, channels):
    model = create_backbone(TINY, pyramid=pyramid, pretrained=False).eval()
    backbone = as_torchvision(model)
    image = torch.randn(1, 3, 40, 72)
    maps = backbone(image)
    assert type(maps) is OrderedDict and list(maps) == ["0", "1", "2", "3"]
    assert backbone.out_channels == channels
    assert all(torch.equal(a, b) for a, b in zip(maps.values(), model(image), strict=True))


def test_maps_of_different_widths_are_refused():
    model = create_backbone(TINY, pyramid="resample", pretrained=False)
    model.feature_info.info[0]["num_chs"] = 48
    with pytest.raises(ValueError, match=r"maps have \[48, 96, 96, 96\] channels; torchvision's detectors expect one"):
        as_torchvision(model)


def test_a_tower_alone_is_refused():
    tower = create_backbone(TINY, pretrained=False, pooled=True).model
    with pytest.raises(ValueError, match="model is a Siglip2VisionTransformer; expected a pyramid or FeatureMaps"):
        as_torchvision(tower)
