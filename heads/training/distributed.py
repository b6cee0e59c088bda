"""What several processes must agree on, and how a large backbone is spread over them."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

T = TypeVar("T")


def average_buffers(buffers: Iterable[Tensor]) -> None:
    """Replace floating point buffers (BatchNorm's running statistics) by their mean over all processes, in place.

    Nothing happens in a single process. With it every process validates and stores the same head; torch's
    DistributedDataParallel keeps those of the first process and drops what the others have seen.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    floating = [b for b in buffers if b.is_floating_point()]
    if not floating:
        return
    flat = torch.cat([b.flatten() for b in floating])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for buffer, mean in zip(floating, torch.split(flat, [b.numel() for b in floating]), strict=True):
        buffer.copy_(mean.view_as(buffer))


def union(names: Iterable[str]) -> list[str]:
    """What the processes name, all together, sorted, each once."""
    return sorted({name for found in gather_objects(list(names)) for name in found})


def gather_objects(value: T) -> list[T]:
    """What each process passes, in the order of the processes; whatever can be pickled."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    everywhere: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, value)
    return everywhere


def from_first(work: Callable[[], T]) -> T:
    """What the first process finds, done there alone and passed to all; what it raises is raised in all."""
    if not (dist.is_available() and dist.is_initialized()):
        return work()
    found: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            found[0] = work()
        except Exception as error:  # the others would wait for ever
            found[1] = error
    dist.broadcast_object_list(found)
    if found[1] is not None:
        raise found[1]
    return found[0]  # type: ignore[no-any-return]


def shard(extractor: Any, heads: Iterable[nn.Module], mesh: Any) -> None:
    """Spread a task's parameters over the processes (FSDP2), the backbone's block by block, in place, once.

    The heads as well, however small: what is not sharded would get the gradients of its own process only.

    Args:
        extractor: Its ``timm_model`` has ``blocks``, or is sharded as one.
        heads: The task's heads.
        mesh: The device mesh of Lightning's ModelParallelStrategy; all its devices take part, however it is divided.
    """
    if isinstance(extractor.backbone, FSDPModule):  # asked again, as for a test after the training
        return
    processes = init_device_mesh(mesh.device_type, (mesh.size(),))
    for module in (*getattr(extractor.timm_model, "blocks", ()), extractor.backbone, *heads):
        fully_shard(module, mesh=processes, reshard_after_forward=True)
    if extractor.pooled:
        register_fsdp_forward_method(extractor.backbone, "forward_pooled")


def gather(task: nn.Module, whole: bool) -> None:
    """Hold all of a sharded task in every process, or its own share again; nothing for one that is not sharded.

    For evaluation: sharded layers are gathered by all processes together in each forward pass, where a process that
    has fewer images than another one would let it wait for ever.
    """
    for module in task.modules():
        if isinstance(module, FSDPModule):
            module.set_reshard_after_forward(not whole, recurse=False)
            if whole:
                module.unshard()
            else:
                module.reshard()
