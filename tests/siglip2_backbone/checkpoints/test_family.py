import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from siglip2_backbone import create_backbone
from siglip2_backbone.checkpoints.family import refuse_other_family, siglip1_by
from siglip2_backbone.checkpoints.sources import CheckpointFiles, open_files


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("vision_model.embeddings.class_embedding", "CLIP"),
        ("visual.class_embedding", "CLIP"),
        ("mask_token", "DINOv2 or DINOv3"),
        ("embeddings.register_tokens", "DINOv2 or DINOv3"),
        ("cls_token", "a ViT with a class token"),
        ("layers.0.blocks.0.attn.relative_position_bias_table", "BEiT or Swin"),
        ("layer1.0.conv1.weight", "a convolutional network"),
        ("stages.0.blocks.0.conv_dw.weight", "a convolutional network"),
    ],
)
def test_another_family_is_refused_by_name(name, family):
    with pytest.raises(ValueError, match=rf"x\.safetensors is a checkpoint of {family}.*it has {name}.*google/siglip2"):
        refuse_other_family(CheckpointFiles("x.safetensors", {"a": None, name: None}, None))


@pytest.mark.parametrize("way", ["whole", "vision", "lone file", "npz", "npz numbered"])
def test_a_siglip_tower_is_of_no_other_family(fixed, way):
    refuse_other_family(open_files(fixed[way]))


@pytest.mark.parametrize(
    ("source", "config", "reason"),
    [
        ("google/siglip-base-patch16-256", {"model_type": "siglip"}, "its id"),
        ("google/siglip2-base-patch16-256", {"model_type": "siglip"}, None),
        ("a", {"model_type": "siglip", "text_config": {}}, "the English vocabulary of 32000 tokens"),
        ("a", {"model_type": "siglip", "text_config": {"vocab_size": 250000}}, "the multilingual vocabulary"),
        ("a", {"model_type": "siglip", "text_config": {"vocab_size": 256000}}, None),
        ("a", {"model_type": "siglip_vision_model"}, None),
        ("a", {"architecture": "vit_base_patch16_siglip_256", "pretrained_cfg": {"tag": "webli"}}, "the tag webli"),
        ("a", {"architecture": "vit_base_patch16_siglip_256", "tag": "webli_i18n"}, "the tag webli_i18n"),
        ("a", {"architecture": "vit_base_patch16_siglip_256", "pretrained_cfg": {"tag": "v2_webli"}}, None),
        ("a", {"architecture": "siglip2_base_patch16_256", "pretrained_cfg": {"tag": "webli"}}, None),
        ("a", {"architecture": "siglip2_base_patch16_256", "pretrained_cfg": {"tag": "v1_webli"}}, "the tag v1_webli"),
        ("timm/vit_base_patch16_siglip_256.webli", {"architecture": "vit_base_patch16_siglip_256"}, "the tag webli"),
        ("timm/vit_base_patch16_siglip_256.v2_webli", {"architecture": "vit_base_patch16_siglip_256"}, None),
        ("a", None, None),
    ],
)
def test_siglip_1_is_told_by_what_can_be_known(source, config, reason):
    found = siglip1_by(CheckpointFiles(source, {}, config))
    assert found is reason if reason is None else str(found).startswith(reason)


def test_siglip_1_loads_and_says_so(fixed, tmp_path):
    folder = shutil.copytree(fixed["whole"], tmp_path / "one")
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    table = "text_model.embeddings.token_embedding.weight"
    save_file(tensors | {table: torch.zeros(32000, 1)}, folder / "model.safetensors")
    config["text_config"]["vocab_size"] = 256000  # the tensor counts, not what the config says of it
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.warns(
        UserWarning, match=rf"{folder} is a SigLIP 1 checkpoint, according to the English vocabulary of 32000 tok"
    ):
        create_backbone(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create_backbone(folder, pretrained=False)  # nothing of it is loaded


def test_siglip_1_of_big_vision_says_so(fixed, tmp_path):
    arrays = dict(np.load(fixed["npz"])) | {"params/txt/Embed_0/embedding": np.zeros((32000, 1), np.float32)}
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.warns(UserWarning, match=r"x\.npz is a SigLIP 1 checkpoint.*published scores differ"):
        create_backbone(tmp_path / "x.npz")
