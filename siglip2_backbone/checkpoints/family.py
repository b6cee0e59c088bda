"""Recognise other checkpoints than SigLIP 2 towers: refuse other families, warn of SigLIP 1 and classifiers."""

import re
import warnings
from typing import Any

from .sources import CheckpointFiles

# tensor names that no SigLIP tower has -> their family; the first match counts
_OTHER_FAMILIES = (
    (r".*(mask_token|register_tokens|storage_tokens)", "DINOv2 or DINOv3"),
    (r".*class_embedding", "CLIP"),
    (r".*(cls_token|reg_token)|cls", "a ViT with a class token, such as CLIP, DINO or DeiT"),
    (r".*relative_position_bias_table", "BEiT or Swin"),
    (r".*(layer1\.0\.conv1|stages\.0\.).*", "a convolutional network"),
)
_CLASSIFIERS = {"SiglipForImageClassification", "Siglip2ForImageClassification"}
_VOCABULARIES = {32000: "English", 250000: "multilingual"}  # of SigLIP 1; SigLIP 2 has 256000 tokens
_TOKEN_TABLES = ("text_model.embeddings.token_embedding.weight", "params/txt/Embed_0/embedding")

SIGLIP1_TAG = "webli"
OWN_SIGLIP1_TAG = "v1_webli"  # with a model name of this library, where webli means SigLIP 2


def refuse_other_family(files: CheckpointFiles) -> None:
    """Refuse a file without config whose tensor names belong to another family.

    Raises:
        ValueError: The file is of another family.
    """
    for pattern, family in _OTHER_FAMILIES:
        if name := next((name for name in files.tensors if re.fullmatch(pattern, name)), None):
            raise ValueError(
                f"{files.source} is a checkpoint of {family}: it has {name}. Expected a SigLIP vision tower; pass a "
                "checkpoint such as google/siglip2-base-patch16-256."
            )


def refuse_saved_backbone(files: CheckpointFiles) -> None:
    """Refuse a folder written by ``Siglip2Backbone.save_pretrained``, whose tensors are named like timm's.

    Raises:
        ValueError: It is such a folder.
    """
    if (files.config or {}).get("model_type") == "siglip2_backbone":
        raise ValueError(
            f"{files.source} was written by Siglip2Backbone.save_pretrained; expected a checkpoint of a tower. Read it "
            "with siglip2_backbone.huggingface.Siglip2Backbone.from_pretrained."
        )


def is_classifier(files: CheckpointFiles) -> bool:
    """Whether config.json describes transformers' image classifier, a tower followed by one layer."""
    architectures = (files.config or {}).get("architectures")
    return isinstance(architectures, list) and any(name in _CLASSIFIERS for name in architectures if type(name) is str)


def siglip1_by(files: CheckpointFiles) -> str | None:
    """The evidence that a checkpoint is SigLIP 1: its id, timm's tag or the vocabulary.

    ``None`` without evidence. A vision tower alone may give none, because both generations share the architecture.
    """
    config = files.config or {}
    if re.match(r"google/siglip-", files.source):
        return "its id"
    if tag := _siglip1_tag(files.source, config):
        return f"the tag {tag}"
    shapes = (files.tensors[name].shape for name in _TOKEN_TABLES if name in files.tensors)
    size = next((shape[0] for shape in shapes if shape), None)
    text = config.get("text_config")
    if size is None and isinstance(text, dict):
        size = text.get("vocab_size", 32000)  # transformers' default
    if type(size) is not int or size not in _VOCABULARIES:
        return None
    return f"the {_VOCABULARIES[size]} vocabulary of {size} tokens"


def _siglip1_tag(source: str, config: dict[str, Any]) -> str | None:
    """timm's tag of SigLIP 1 weights, from the config or the id; SigLIP 2's is v2_webli."""
    described = config.get("pretrained_cfg", config)
    tag = described.get("tag") if isinstance(described, dict) and "architecture" in config else None
    if tag == OWN_SIGLIP1_TAG or (str(tag).startswith("webli") and str(config["architecture"]).startswith("vit_")):
        return str(tag)
    by_id = re.match(r"timm/vit_\w+_siglip_\d+\.(webli\w*)", source)
    return by_id[1] if by_id else None


def warn_of_content(files: CheckpointFiles) -> None:
    """Warn of content that the user may not expect: other names, a classifier, or SigLIP 1."""
    notes = list(files.notes)
    if is_classifier(files) and any(name.startswith("classifier.") for name in files.tensors):
        notes.append(f"{files.source} is an image classifier. Its tower is read, its classifier is not.")
    if reason := siglip1_by(files):
        notes.append(
            f"{files.source} is a SigLIP 1 checkpoint, according to {reason}. Its tower has SigLIP 2's architecture "
            "and works, but the features, the text tower and the published scores differ."
        )
    for note in notes:
        warnings.warn(note, stacklevel=2)
