"""Tensors of a tower that was saved from within another module: all names begin alike, and are read without that."""

import re
from collections.abc import Mapping
from typing import TypeVar

_Stored = TypeVar("_Stored")

# the patch embedding of transformers and of timm, and what stands before the tower's own names
_ANCHORS = (
    re.compile(r"(?P<wrapper>.*?)(vision_model\.)?embeddings\.patch_embedding\.weight"),
    re.compile(r"(?P<wrapper>.*?)(embeds\.|patch_embed\.)proj\.weight"),
)


def unwrapped(tensors: Mapping[str, _Stored]) -> tuple[Mapping[str, _Stored], str]:
    """The tensors without what all their names begin with, and that.

    DataParallel puts ``module.`` before every name, torch.compile ``_orig_mod.``, peft ``base_model.model.``, and a
    model of images and text the place of its tower, such as ``model.vision_tower.``; also several of them. Where only
    some of the names begin so, they stay as they are: then it is not the tower alone.

    Args:
        tensors: By the file's names.
    """
    for anchor in _ANCHORS:
        found = {match["wrapper"] for name in tensors if (match := anchor.fullmatch(name))}
        if len(found) == 1 and (wrapper := found.pop()).endswith(".") and all(n.startswith(wrapper) for n in tensors):
            return {name.removeprefix(wrapper): stored for name, stored in tensors.items()}, wrapper
    return tensors, ""
