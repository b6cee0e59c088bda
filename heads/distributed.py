"""What several processes must agree on, and how a large backbone is spread over them."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard


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


def shard(extractor: nn.Module, mesh: Any) -> None:
    """Spread a backbone's parameters over the processes (FSDP2), block by block, in place.

    Args:
        extractor: Its ``timm_model`` has ``blocks``, or is sharded as one.
        mesh: The device mesh of Lightning's ModelParallelStrategy.
    """
    model: Any = extractor.timm_model
    processes = mesh["data_parallel"]
    for block in getattr(model, "blocks", ()):
        fully_shard(block, mesh=processes)
    fully_shard(model, mesh=processes)
