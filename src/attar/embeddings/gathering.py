"""Tensors of all processes in one, with a gradient, so that a loss sees the joined batch.

The order is that of the ranks, always. Each process then computes the loss of the joined batch and has its value. In
the backward pass the gradients of all processes are added up. As `DistributedDataParallel` averages the gradients of
parameters, they come out as those of one process with the joined batch, whatever the sizes of the batches.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gathered(*tensors: Tensor | None) -> tuple[Any, ...]:
    """Each tensor joined over all processes along its first axis, in the order of the ranks.

    The processes may have different numbers of rows. Without `torch.distributed`, or with one process, they stay as
    they are.

    Args:
        tensors: Embeddings, labels, parameters of mixtures: of any type; of one shape but for the first axis in all
            processes. A tensor of real numbers passes its gradient on. None stays None, and must be so in all.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return tensors
    return tuple(None if one is None else _one(one) for one in tensors)


def _one(tensor: Tensor) -> Tensor:
    return _Gather.apply(tensor) if tensor.is_floating_point() else _joined(tensor)[0]


class _Gather(torch.autograd.Function):
    """Join in the forward pass; in the backward pass add up the gradients of all processes and take one's own rows."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        joined, ctx.own = _joined(tensor)
        return joined

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        total = upstream.contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.own]


def _joined(tensor: Tensor) -> tuple[Tensor, slice]:
    """All rows of all processes, and which of them are those of this one."""
    size = torch.tensor([len(tensor)], device=tensor.device)
    sizes = [torch.empty_like(size) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, size)
    counts = [int(one) for one in sizes]
    sent = tensor.detach().to(torch.uint8) if tensor.dtype == torch.bool else tensor.detach()
    # Every process must send as much as the others: what is missing is filled up, and cut off again.
    filled = torch.cat([sent, sent.new_zeros(max(counts) - len(sent), *sent.shape[1:])]).contiguous()
    parts = [torch.empty_like(filled) for _ in counts]
    dist.all_gather(parts, filled)
    joined = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]).to(tensor.dtype)
    start = sum(counts[: dist.get_rank()])
    return joined, slice(start, start + len(tensor))
