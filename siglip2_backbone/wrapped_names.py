"""Tensors of a tower that was saved inside another module: the prefix that all names share is removed."""

import re
from collections.abc import Mapping
from typing import TypeVar

_Stored = TypeVar("_Stored")

# the patch embedding of transformers and of timm; the group captures the prefix of the outer module
_ANCHORS = (
    re.compile(r"(?P<wrapper>.*?)(vision_model\.)?embeddings\.patch_embedding\.weight"),
    re.compile(r"(?P<wrapper>.*?)(embeds\.|patch_embed\.)proj\.weight"),
)


def unwrapped(tensors: Mapping[str, _Stored]) -> tuple[Mapping[str, _Stored], str]:
    """The tensors without the prefix that all names share, and that prefix.

    DataParallel adds ``module.`` to every name, torch.compile ``_orig_mod.``, peft ``base_model.model.``, and an
    image-text model the path of its tower, such as ``model.vision_tower.``; they can be combined. If only some names
    have the prefix, all stay unchanged, because the file holds more than the tower.

    Args:
        tensors: Tensors by name in the file.
    """
    for anchor in _ANCHORS:
        found = {match["wrapper"] for name in tensors if (match := anchor.fullmatch(name))}
        if len(found) == 1 and (wrapper := found.pop()).endswith(".") and all(n.startswith(wrapper) for n in tensors):
            return {name.removeprefix(wrapper): stored for name, stored in tensors.items()}, wrapper
    return tensors, ""
