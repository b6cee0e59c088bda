import pytest
import torch

from siglip2_backbone import create_backbone

WEIGHT = "encoder.layers.0.mlp.fc1.weight"
NAMES = {
    f"{WEIGHT}.absmax": "bitsandbytes 4-bit",
    f"{WEIGHT}.quant_state.bitsandbytes__nf4": "bitsandbytes 4-bit",
    "encoder.layers.0.mlp.fc1.SCB": "bitsandbytes int8",
    "encoder.layers.0.mlp.fc1.qweight": "GPTQ or AWQ",
    "encoder.layers.0.mlp.fc1.weight_scale_inv": "fp8 or int8 with scales",
}


def prefix_of(tensors):
    return "vision_model." if any(name.startswith("vision_model.") for name in tensors) else ""


@pytest.mark.parametrize(("name", "method"), NAMES.items())
@pytest.mark.parametrize("lone", [False, True])
def test_a_quantised_checkpoint_is_called_so(edited, name, method, lone):
    folder = edited(tensors=lambda t: t | {prefix_of(t) + name: torch.zeros(3, dtype=torch.uint8)})
    if lone:
        (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=rf"is quantised by {method}.*it has .*{name}\. Pass the checkpoint"):
        create_backbone(folder / "model.safetensors" if lone else folder)


def test_the_config_tells_the_method_more_exactly(edited):
    stated = {
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    }
    folder = edited(lambda t: t | {f"{prefix_of(t)}{WEIGHT}.absmax": torch.zeros(3)}, lambda c: c | stated)
    with pytest.raises(ValueError, match="quantised by bitsandbytes 4-bit nf4: it has"):
        create_backbone(folder)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8], ids=str)
def test_a_type_of_quantised_weights_is_called_so(edited, dtype):
    def cast(tensors):
        return {k: v.to(dtype) if k.endswith(WEIGHT) else v for k, v in tensors.items()}

    with pytest.raises(ValueError, match=rf"{WEIGHT} is stored as \w+; .*checkpoint seems to be quantised"):
        create_backbone(edited(tensors=cast))


def test_gguf_files_are_called_quantised(tmp_path, fixed):
    (tmp_path / "config.json").write_text("{}")
    for name in ("weights.gguf", "model.safetensors"):
        (tmp_path / name).write_bytes(b"GGUF" + bytes(60))
        with pytest.raises(ValueError, match=r"GGUF file, whose weights are quantised"):
            create_backbone(tmp_path / name)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no model\.safetensors, but weights\.gguf: a GGUF file"):
        create_backbone(tmp_path)
