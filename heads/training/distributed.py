"""Exchange between processes, and the sharding of a large backbone over them."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

T = TypeVar("T")


def average_buffers(buffers: Iterable[Tensor]) -> None:
    """Average floating point buffers (BatchNorm's running statistics) over all processes, in place.

    A single process changes nothing. Every process then validates and stores the same head; torch's
    DistributedDataParallel keeps the buffers of the first process and drops those of the others.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    floating = [b for b in buffers if b.is_floating_point()]
    if not floating:
        return
    flat = torch.cat([b.flatten() for b in floating])  # one all_reduce for all buffers
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for buffer, mean in zip(floating, torch.split(flat, [b.numel() for b in floating]), strict=True):
        buffer.copy_(mean.view_as(buffer))


def union(names: Iterable[str]) -> list[str]:
    """The names from all processes, sorted and without duplicates."""
    return sorted({name for found in gather_objects(list(names)) for name in found})


def gather_objects(value: T) -> list[T]:
    """The value of each process, in order of rank; it can be any object that pickles."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    everywhere: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, value)
    return everywhere


def from_first(work: Callable[[], T]) -> T:
    """Run ``work`` in the first process only; all processes return its result or raise its exception."""
    if not (dist.is_available() and dist.is_initialized()):
        return work()
    found: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            found[0] = work()
        except Exception as error:  # raised below in all: the others would wait forever
            found[1] = error
    dist.broadcast_object_list(found)
    if found[1] is not None:
        raise found[1]
    return found[0]  # type: ignore[no-any-return]


def shard(extractor: Any, heads: Iterable[nn.Module], mesh: Any) -> None:
    """Shard a task's parameters over the processes (FSDP2), the backbone's block by block, in place, once.

    Heads are sharded too, even small ones: parameters that are not sharded only get the gradients of one process.

    Args:
        extractor: Its ``timm_model`` has ``blocks``, or is sharded as a whole.
        heads: The task's heads.
        mesh: The device mesh of Lightning's ModelParallelStrategy; all its devices take part, in any layout.
    """
    if isinstance(extractor.backbone, FSDPModule):  # already sharded, as in a test after training
        return
    processes = init_device_mesh(mesh.device_type, (mesh.size(),))
    for module in (*getattr(extractor.timm_model, "blocks", ()), extractor.backbone, *heads):
        fully_shard(module, mesh=processes, reshard_after_forward=True)
    if extractor.pooled:
        register_fsdp_forward_method(extractor.backbone, "forward_pooled")


def gather(task: nn.Module, whole: bool) -> None:
    """Gather all of a sharded task in every process, or shard it again; a task that is not sharded is unchanged.

    For evaluation: all processes gather sharded layers together in each forward pass, so the others would wait forever
    for a process that has fewer images.

    Args:
        task: The task, sharded by :func:`shard` or not.
        whole: Gather (True) or shard again (False).
    """
    for module in task.modules():
        if isinstance(module, FSDPModule):
            module.set_reshard_after_forward(not whole, recurse=False)
            if whole:
                module.unshard()
            else:
                module.reshard()
