"""A small tower and a head on it, to write the files that the readers get."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import heads
from siglip2_backbone import Siglip2VisionTransformer
from siglip2_backbone.conversion import to_transformers, transformers_configs
from siglip2_backbone.variants import Variant

_SMALL = Variant("siglip2_custom", 24, 2, 3, 48, patch_size=4, img_size=16)


def write_tower(folder: Path) -> Path:
    """A tower of two blocks as transformers saves it."""
    torch.manual_seed(0)
    sizes = ("patch_size", "embed_dim", "depth", "num_heads", "mlp_dim")
    tower = Siglip2VisionTransformer(native_size=_SMALL.img_size, **{name: getattr(_SMALL, name) for name in sizes})
    folder.mkdir()
    state = to_transformers(tower.state_dict(), _SMALL)
    save_file({f"vision_model.{name}": t.contiguous() for name, t in state.items()}, folder / "model.safetensors")
    for name, content in transformers_configs(_SMALL, torch.float32).items():
        (folder / name).write_text(json.dumps(content))
    return folder


def small_task(folder: Path) -> heads.SegmentationTask:
    """A segmentation head on the tower of :func:`write_tower`."""
    return heads.SegmentationTask(str(write_tower(folder / "tower")), ["sky", "road"], (16, 16))


def checkpoint_of(task: heads.SegmentationTask) -> dict[str, Any]:
    """The checkpoint that a run writes of the task, without the trainer's state."""
    content: dict[str, Any] = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams), "epoch": 1}
    content |= {"pytorch-lightning_version": "2.6.6", "global_step": 3}
    content["siglip2_head"] = task.card() | {"metrics": {"val/mIoU": 0.5}, "protocol": task.protocol()}
    content["state_dict"] = dict(task.kept_state())
    return content
