import pytest
import torch
from torch.nn import functional as F

from heads import Extractor
from siglip2_backbone import create_backbone


@pytest.fixture(scope="module")
def image():
    return torch.rand(2, 3, 50, 70, generator=torch.Generator().manual_seed(0))


def test_maps_are_the_backbones_on_normalised_pixels(checkpoint, image):
    extractor = Extractor(str(checkpoint), layers=[3, 1])
    backbone = create_backbone(checkpoint, out_indices=[3, 1]).eval()
    for found, expected in zip(extractor(image), backbone(2 * image - 1), strict=True):
        torch.testing.assert_close(found, expected)
    assert extractor.channels == [96, 96] and extractor.reductions == [8, 8]


def test_stays_frozen_and_in_evaluation_mode(checkpoint, image):
    extractor = Extractor(str(checkpoint)).train()
    assert extractor.training and not extractor.backbone.training
    assert not any(module.training for module in extractor.backbone.modules())
    assert not any(p.requires_grad for p in extractor.parameters())
    assert not extractor(image.requires_grad_())[0].requires_grad


def test_bfloat16_tower_gives_float32_maps(checkpoint, image):
    low, full = (Extractor(str(checkpoint), precision=p) for p in ("bfloat16", "float32"))
    assert {p.dtype for p in low.parameters()} == {torch.bfloat16}
    assert low(image)[0].dtype == torch.float32
    difference = (low(image)[0] - full(image)[0]).norm() / full(image)[0].norm()
    assert 1e-4 < difference < 3e-2


def test_autocast_does_not_lower_the_towers_precision(checkpoint, image):
    extractor = Extractor(str(checkpoint))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = extractor(image)[0]
    assert torch.equal(found, extractor(image)[0])


def test_pooled_output_is_concatenated_and_counted(checkpoint, image):
    extractor = Extractor(str(checkpoint), pooled=True)
    (found,) = extractor(image)
    maps, pooled = create_backbone(checkpoint, out_indices=[-1], pooled=True).eval().forward_pooled(2 * image - 1)
    assert extractor.channels == [192] and found.shape[1] == 192
    torch.testing.assert_close(found[:, :96], maps[0])
    assert (found[:, 96:] == pooled[:, :, None, None]).all()


def test_same_weights_same_fingerprint_whatever_is_not_used(checkpoint):
    last = Extractor(str(checkpoint)).fingerprint()
    assert last == Extractor(create_backbone(checkpoint, out_indices=[3])).fingerprint()
    assert last != Extractor(str(checkpoint), layers=[0]).fingerprint()


@pytest.mark.parametrize(
    ("name", "layers", "channels", "reductions"),
    [
        ("test_vit", [-1], [64], [16]),
        ("vit_tiny_patch16_224", [2, -1], [192, 192], [16, 16]),
        ("test_resnet", [1, 2], [32, 48], [4, 8]),
    ],
)
def test_other_timm_models(image, name, layers, channels, reductions):
    extractor = Extractor(name, layers=layers, pretrained=False)
    maps = extractor(image)
    assert extractor.name == name and extractor.source == "random"
    assert extractor.channels == channels == [m.shape[1] for m in maps]
    assert extractor.reductions == reductions
    for m, r in zip(maps, reductions, strict=True):
        assert m.shape[2] >= -(-50 // r) and m.shape[3] >= -(-70 // r)  # every pixel has a cell


def test_final_norm_of_another_transformer(image):
    torch.manual_seed(0)
    extractor = Extractor("vit_tiny_patch16_224", pretrained=False)
    raw = extractor.backbone.model.norm
    (normed,) = extractor(image)
    expected = F.layer_norm(normed.movedim(1, -1), (192,), eps=raw.eps).movedim(-1, 1)  # weight 1, bias 0 at the start
    torch.testing.assert_close(normed, expected, atol=1e-4, rtol=1e-4)


def test_unknown_backbones_and_pooling_without_head_are_refused():
    with pytest.raises(
        ValueError, match=r"'siglip2_base_patch16_255' is no file.*Did you mean siglip2_base_patch16_256"
    ):
        Extractor("siglip2_base_patch16_255")
    with pytest.raises(ValueError, match="MAP head; test_vit has none"):
        Extractor("test_vit", pooled=True, pretrained=False)
    with pytest.raises(ValueError, match="out_indices"):
        Extractor("siglip2_tiny_patch8_128", layers=[9], pretrained=False)
