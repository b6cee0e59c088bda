"""onnxruntime on exported towers: each rule of positions, at sizes and batch sizes that the export never saw."""

import numpy as np
import onnxruntime
import pytest
import timm
import torch

from siglip2_backbone.onnx_export import export_onnx

SO400M_GRID = {"native_size": 384, "patch_size": 14}  # 27 x 27 cells


@pytest.mark.parametrize(
    "options",
    [
        {"pos_interp": "bicubic_antialias"} | SO400M_GRID,
        {"pos_interp": "bicubic"},
        {"pos_interp": "bilinear_antialias"},
    ],
    ids=["bicubic_antialias", "bicubic", "bilinear_antialias"],
)
def test_onnxruntime_gives_what_torch_gives(options, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("siglip2_tiny_patch8_128", features_only=True, depth=1, pooled=True, **options).eval()
    patch = model.feature_info.reduction()[0]
    native = model.model.table_grid
    report = export_onnx(model, tmp_path / "tower.onnx", size=(native[0] * patch, native[1] * patch))
    assert max(a.rel_l2 for a in report) < 3e-6
    session = onnxruntime.InferenceSession(tmp_path / "tower.onnx", providers=["CPUExecutionProvider"])
    for batch, rows, columns in [(1, 1, 1), (5, 40, 2), (2, 1, 9)]:
        image = torch.randn(batch, 3, rows * patch, columns * patch, generator=torch.Generator().manual_seed(batch))
        found, pooled = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            (expected,), expected_pooled = model.forward_pooled(image)
        assert found.shape == (batch, 96, rows, columns)
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=3e-5)
        np.testing.assert_allclose(pooled, expected_pooled.numpy(), rtol=0, atol=3e-6)
