import pytest
import torch
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

from siglip2_backbone import as_torchvision, create_backbone

SIZE = {"min_size": 64, "max_size": 96, "image_mean": (0.5,) * 3, "image_std": (0.5,) * 3}
FEW_BOXES = {"rpn_pre_nms_top_n_train": 50, "rpn_post_nms_top_n_train": 20, "rpn_post_nms_top_n_test": 5}
FEW_ANCHORS = {"topk_candidates": 5, "score_thresh": 0.0}  # untrained scores are low


def anchors(*ratios):
    return AnchorGenerator(((8,), (16,), (32,), (64,)), (ratios,) * 4)


def detector(cls, backbone):
    if cls in (FasterRCNN, MaskRCNN):
        return cls(backbone, 3, rpn_anchor_generator=anchors(0.5, 1.0, 2.0), **FEW_BOXES, **SIZE)
    return cls(backbone, 3, anchor_generator=anchors(1.0), **FEW_ANCHORS, **SIZE)


def target(height, width):
    mask = torch.zeros(1, height, width, dtype=torch.uint8)
    mask[:, 10:50, 20:55] = 1
    return {"boxes": torch.tensor([[20.0, 10.0, 55.0, 50.0]]), "labels": torch.tensor([1]), "masks": mask}


@pytest.mark.parametrize("options", [{"pyramid": "resample"}, {"pyramid": "sfp", "out_channels": 32}], ids=str)
@pytest.mark.parametrize("cls", [FasterRCNN, MaskRCNN, RetinaNet, FCOS], ids=lambda cls: cls.__name__)
def test_a_detector_trains_on_a_pyramid(cls, options):
    torch.manual_seed(0)
    backbone = as_torchvision(create_backbone("siglip2_tiny_patch8_128", pretrained=False, **options))
    model = detector(cls, backbone).train()
    sizes = [(64, 96), (70, 60)]
    images = [torch.rand(3, *size) for size in sizes]
    losses = model(images, [target(*size) for size in sizes])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert not [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]

    with torch.no_grad():
        results = model.eval()(images)
    assert [set(r) >= {"boxes", "labels", "scores"} for r in results] == [True, True]
    for result, (height, width) in zip(results, sizes, strict=True):
        assert len(result["boxes"]) > 0
        assert (result["boxes"] <= torch.tensor([width, height, width, height]) + 1e-3).all()
        if cls is MaskRCNN:
            assert result["masks"].shape[1:] == (1, height, width)
