"""Modules that several processes call together: each passes some rows of a batch, and all get the outputs of all rows.

Around the modules every process computes the same, on whole batches: losses that compare samples, heads, memories and
queues need no change. Only what costs most, the passes of large networks, is divided.

    with divided(runtime.processes, encoder):
        loss_of(head(encoder(images))).backward()
    Share(len(images), runtime.processes).add_gradients([*encoder.parameters(), *head.parameters()], joined=True)

A divided module gets the gradients of its rows, times the number of processes; the others get the same in all. So the
average over processes is the gradient that one process would have.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attar.core.processes import Processes
from attar.core.sharing import Share, check_shareable, treats_rows_alone


@contextmanager
def divided(processes: Processes, *modules: nn.Module, methods: tuple[str, ...] = ("forward",)) -> Iterator[None]:
    """For a while, divide the rows of each call of modules among processes.

    Args:
        processes: The processes, each of which makes the same calls. One process alone changes nothing.
        modules: The modules, none of which is part of another. Of each call the first argument is a batch; other
            tensors of as many rows are divided with it, and what is returned has a row for each of its rows.
        methods: The methods whose calls are divided.

    Raises:
        InputError: A module computes its activations again, or meanwhile draws random numbers in a way of its own.
    """
    with ExitStack() as stack:
        if processes.count > 1:
            for module in modules:
                check_shareable(module, processes)
                for name in methods:
                    stack.enter_context(_divided(processes, module, name))
        yield


@contextmanager
def _divided(processes: Processes, module: nn.Module, name: str) -> Iterator[None]:
    before, plain = vars(module).get(name), getattr(module, name)

    def call(batch: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        share = Share(len(batch), processes)
        given = [own_rows(one, share) for one in (batch, *args)]
        with share.within(rows_alone=treats_rows_alone(module)):
            found = plain(*given, **{key: own_rows(one, share) for key, one in kwargs.items()})
        return share.joined(found)[0]

    setattr(module, name, call)
    try:
        yield
    finally:
        if before is None:
            delattr(module, name)
        else:
            setattr(module, name, before)


def own_rows(given: Any, share: Share) -> Any:
    """This process's rows of a tensor that has a row for each of the batch's. Anything else stays as it is."""
    if not isinstance(given, Tensor) or not given.ndim or len(given) != share.rows or share.alone:
        return given
    if given.requires_grad and torch.is_grad_enabled():
        rows: Tensor = _Own.apply(given, share)
        return rows
    return share.of(given)


class _Own(torch.autograd.Function):
    """Take one's own rows in the forward pass; in the backward pass bring the gradients of all rows together."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, share: Share) -> Tensor:
        ctx.share = share
        return whole[share.taken]

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        share = ctx.share
        # As it has come through `Share.joined`, it is that of one process times their number.
        return share.processes.join(upstream[: share.own], share.counts) / share.processes.count, None
