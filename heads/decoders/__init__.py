"""Decoders: from a list of feature maps to logits. A decoder only knows the backbone's channels and reductions."""

from collections.abc import Callable, Sequence

from torch import nn

from .dpt import DPTDecoder
from .linear import LinearDecoder
from .pixel_heads import DepthHead, DepthOutput, NormalsHead
from .pyramid_decoders import FPNDecoder, SegformerDecoder, UPerNetDecoder

DECODERS: dict[str, Callable[..., nn.Module]] = {
    "linear": LinearDecoder,
    "dpt": DPTDecoder,
    "upernet": UPerNetDecoder,
    "segformer": SegformerDecoder,
    "fpn": FPNDecoder,
}


def build_decoder(
    name: str, channels: Sequence[int], reductions: Sequence[int], out_channels: int, /, **args: object
) -> nn.Module:
    """Build a decoder by name.

    Raises:
        ValueError: The name is unknown, or the decoder has no such argument.
    """
    if name not in DECODERS:
        raise ValueError(f"decoder is {name!r}; expected one of {', '.join(DECODERS)}.")
    try:
        return DECODERS[name](channels, reductions, out_channels, **args)
    except TypeError as error:
        raise ValueError(f"decoder_args {args} do not fit the decoder {name!r}: {error}.") from error


__all__ = [
    "DECODERS",
    "DPTDecoder",
    "DepthHead",
    "DepthOutput",
    "FPNDecoder",
    "LinearDecoder",
    "NormalsHead",
    "SegformerDecoder",
    "UPerNetDecoder",
    "build_decoder",
]
