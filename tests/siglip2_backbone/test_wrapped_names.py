import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from siglip2_backbone import create_backbone, fingerprint
from siglip2_backbone.wrapped_names import unwrapped

PREFIXES = [
    "module.",
    "_orig_mod.",
    "base_model.model.",
    "vision_tower.",
    "model.vision_tower.",
    "module._orig_mod.",
    "_orig_mod.module.base_model.model.model.vision_tower.",
]


def wrapped(source, folder, prefix, more=None):
    """The checkpoint with all its tensors under a prefix."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    tensors = {prefix + name: t for name, t in load_file(source / "model.safetensors").items()}
    save_file(tensors | (more or {}), folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("way", ["whole", "vision", "other prefix"])
def test_a_tower_under_one_prefix_is_read_and_it_is_said_once(fixed, tmp_path, way, prefix):
    expected = fingerprint(create_backbone(fixed[way]))
    with pytest.warns(UserWarning) as caught:
        found = create_backbone(wrapped(fixed[way], tmp_path, prefix))
    assert fingerprint(found) == expected
    (note,) = {str(w.message) for w in caught}
    assert str(tmp_path) in note and f"begin with '{prefix}'" in note and len(caught) == 1


def test_a_lone_file_under_a_prefix_is_known_by_its_shapes(fixed, tmp_path):
    folder = wrapped(fixed["vision"], tmp_path, "module.")
    (folder / "config.json").unlink()
    with pytest.warns(UserWarning, match="begin with 'module.'"):
        found = create_backbone(folder / "model.safetensors")
    assert fingerprint(found) == fingerprint(create_backbone(fixed["vision"]))


def test_names_of_timm_are_unwrapped_as_well():
    names = {"module.patch_embed.proj.weight": 1, "module.norm.weight": 2}
    assert unwrapped(names) == ({"patch_embed.proj.weight": 1, "norm.weight": 2}, "module.")


def test_a_tower_among_others_is_not_unwrapped(fixed, tmp_path):
    folder = wrapped(fixed["vision"], tmp_path, "vision_tower.", {"language_model.norm.weight": torch.zeros(3)})
    with pytest.raises(ValueError) as caught:
        create_backbone(folder)
    message = str(caught.value)
    assert "80 missing tensors: embeddings." in message and "81 unexpected tensors: language_model." in message


def test_the_tower_of_an_image_classifier_is_read_and_it_is_said(fixed, tmp_path):
    name = "SiglipForImageClassification"
    head = {"classifier.weight": torch.zeros(5, 96), "classifier.bias": torch.zeros(5)}
    folder = shutil.copytree(fixed["whole"], tmp_path / "classifier")
    tensors = load_file(fixed["whole"] / "model.safetensors")
    vision = {k: t for k, t in tensors.items() if k.startswith("vision_model.")}
    save_file(vision | head, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": [name]}))
    with pytest.warns(UserWarning, match="is an image classifier. Its tower is read, its classifier is not"):
        found = create_backbone(folder)
    assert fingerprint(found) == fingerprint(create_backbone(fixed["whole"]))
    for architectures in (["SiglipModel"], [], None, name, [[name]], 3):
        (folder / "config.json").write_text(json.dumps(config | {"architectures": architectures}))
        with pytest.raises(ValueError, match=r"2 unexpected tensors: classifier\.bias, classifier\.weight"):
            create_backbone(folder)
    with pytest.raises(ValueError, match=r"1 unexpected tensors: classifier\.norm"):
        (folder / "config.json").write_text(json.dumps(config | {"architectures": [name]}))
        save_file(vision | head | {"classifier.norm": torch.zeros(3)}, folder / "model.safetensors")
        create_backbone(folder)


@pytest.mark.parametrize("family", ["Siglip", "Siglip2"])
def test_what_transformers_saves_of_its_classifier_is_read(tmp_path, family):
    import transformers

    vision = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 384}
    vision |= {"patch_size": 8} | ({"image_size": 128} if family == "Siglip" else {"num_patches": 256})
    text = {"vocab_size": 256000, "num_hidden_layers": 1}
    config = getattr(transformers, f"{family}Config")(vision_config=vision, text_config=text, num_labels=4)
    model = getattr(transformers, f"{family}ForImageClassification")(config)
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="is an image classifier"):
        tower = create_backbone(tmp_path).model
    (norm,) = [t for name, t in model.state_dict().items() if name.endswith("layers.1.layer_norm2.weight")]
    assert torch.equal(tower.blocks[1].norm2.weight, norm)
