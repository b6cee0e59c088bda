"""Recognise quantised checkpoints: their integers would have to be dequantised first."""

import re

from .sources import CheckpointFiles

_TEXT = re.compile(r".*text_model\..*")  # never read, so it may be quantised
# tensor names beside or instead of a weight -> quantisation method; the first match counts
_METHODS = (
    (r".*\.(absmax|quant_map|nested_absmax|nested_quant_map)", "bitsandbytes 4-bit (nf4 or fp4)"),
    (r".*\.quant_state\.bitsandbytes__\w+", "bitsandbytes 4-bit (nf4 or fp4)"),
    (r".*\.(SCB|weight_format)", "bitsandbytes int8"),
    (r".*\.(qweight|qzeros|g_idx)", "GPTQ or AWQ"),
    (r".*\.(weight_scale_inv|weight_scale|input_scale|scale_weight)", "fp8 or int8 with scales"),
    (r".*\.(weight_packed|weight_zero_point)", "compressed-tensors"),
    (r".*\.(W_q|weight\._data|weight\._scale|weight\.qdata)", "HQQ, quanto or torchao"),
)
REMEDY = (
    "Pass the checkpoint that it was made from, or load it with transformers, call model.dequantize(), and save it "
    "with save_pretrained."
)


def refuse_quantised(files: CheckpointFiles) -> None:
    """Refuse a checkpoint whose tensor names are those of quantised weights.

    Raises:
        ValueError: The checkpoint is quantised.
    """
    for pattern, method in _METHODS:
        fits = (name for name in files.tensors if re.fullmatch(pattern, name) and not _TEXT.fullmatch(name))
        if name := next(fits, None):
            raise ValueError(f"{files.source} is quantised by {_stated(files) or method}: it has {name}. {REMEDY}")


def _stated(files: CheckpointFiles) -> str | None:
    """The method in config.json, such as bitsandbytes int8 or gptq."""
    described = (files.config or {}).get("quantization_config")
    if not isinstance(described, dict) or not isinstance(method := described.get("quant_method"), str):
        return None
    if method != "bitsandbytes":
        return method
    four = f"4-bit {described.get('bnb_4bit_quant_type', '')}".rstrip()
    return f"{method} {four if described.get('load_in_4bit') else 'int8'}"
