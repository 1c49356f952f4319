"""One mini-batch that several processes share, each with some of its rows, as if one process had the whole batch.

What is drawn at random is drawn for the whole batch in every process, and then each takes its rows. A process computes
networks on its rows only. A loss of single rows is computed on these rows; gradients are then summed. A loss that
compares rows needs all of them: `Share.joined` brings the rows of all processes together, with a gradient, every
process computes the whole loss, and gradients are then averaged. Batch norm takes the statistics of all rows.

    share = Share(len(rows), runtime.processes)
    images = share.of(images)
    with share.within():
        share.counted(loss_of(network(images))).backward()
    share.add_gradients(network.parameters())

A batch may have fewer rows than there are processes. A process without rows works on a row that does not count, so
that all of them take part in whatever is exchanged.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from attar.core.errors import InputError
from attar.core.processes import ALONE, Processes

Function = Callable[..., Any]


class Share:
    """The rows of a batch that a process works on: neighbours, the first ones in the first process.

    Args:
        rows: Number of rows of the batch.
        processes: The processes that share it.
        piece: Number of rows for which one process alone would draw masks at a time. Default: all.
    """

    def __init__(self, rows: int, processes: Processes = ALONE, *, piece: int | None = None) -> None:
        self.rows, self.processes, self.piece = rows, processes, piece or max(rows, 1)
        self.counts = [stop - start for start, stop in pairwise(processes.ends(rows))]
        self.start, self.own = processes.rows(rows).start, self.counts[processes.rank]

    @property
    def alone(self) -> bool:
        """Whether a single process has the whole batch."""
        return self.processes.count == 1

    @property
    def taken(self) -> slice:
        """The rows that this process works on; one that does not count if it has none."""
        start = min(self.start, max(self.rows - 1, 0))
        return slice(start, start + max(self.own, 1))

    def of(self, whole: Tensor) -> Tensor:
        """This process's rows of a tensor."""
        return whole if self.alone else whole[self.taken]

    def joined(self, *tensors: Tensor) -> list[Tensor]:
        """Rows of this process, joined with those of all others in the order of the batch, in one exchange.

        In the backward pass a process gets the gradient of its own rows, times the number of processes. If all compute
        the same loss of the joined rows, the average of their gradients is then that of one process.

        Args:
            tensors: Real numbers, all of one type. The first axis is that of the rows.
        """
        if self.alone or not tensors:
            return list(tensors)
        flat = torch.cat([tensor.unsqueeze(1).flatten(1) for tensor in tensors], dim=1)
        parts = _Joined.apply(flat, self).split([tensor[0].numel() for tensor in tensors], dim=1)
        return [part.reshape(-1, *one.shape[1:]) for part, one in zip(parts, tensors, strict=True)]

    def joined_at(self, tensor: Tensor, axis: int) -> Tensor:
        """One tensor, of any type, whose rows are joined along another axis."""
        moved = tensor.movedim(axis, 0)
        if tensor.is_floating_point():
            (found,) = self.joined(moved)
        else:
            found = self.processes.join(moved[: self.own], self.counts)
        return found.movedim(0, axis)

    def counted(self, loss: Tensor, *, joined: bool = False) -> Tensor:
        """A loss of this process's rows, zero if it has none; or of joined rows, in which all processes have part."""
        return loss if self.own or joined else 0 * loss

    def add_gradients(self, parameters: Iterable[nn.Parameter], *others: Tensor, joined: bool = False) -> None:
        """Make the gradients of parameters, and other numbers, those of the whole batch: in place, in one exchange.

        A parameter that no process has a gradient of keeps none, so that no optimiser moves it.

        Args:
            parameters: Parameters with their gradients.
            others: Other tensors, such as the loss.
            joined: Whether each process has computed the loss of joined rows. Default: the sum over its own rows.
        """
        if self.alone:
            return
        learned = [one for one in parameters if one.requires_grad]
        found = self.added([one.grad for one in learned], learned, *others, joined=joined)
        for parameter, gradient in zip(learned, found, strict=True):
            parameter.grad = gradient

    def added(
        self, gradients: Sequence[Tensor | None], like: Sequence[Tensor], *others: Tensor, joined: bool = False
    ) -> list[Tensor | None]:
        """Gradients of the whole batch, in place and in one exchange; None where no process has one.

        Args:
            gradients: Those of this process. Another one may have more or fewer of them.
            like: What each is the gradient of.
            others: Other tensors, which all processes have.
            joined: As for `add_gradients`.
        """
        if self.alone or not like:
            self.add_(others, joined=joined)
            return list(gradients)
        here = [gradient is not None for gradient in gradients]
        filled = [torch.zeros_like(one) if g is None else g for g, one in zip(gradients, like, strict=True)]
        there = like[0].new_tensor(here, dtype=like[0].dtype)
        self.add_([*filled, *others, there], joined=joined)
        if not all(here):  # only then is a GPU waited for
            here = [bool(number) for number in there.tolist()]
        return [gradient if known else None for gradient, known in zip(filled, here, strict=True)]

    @torch.no_grad()
    def add_(self, tensors: Sequence[Tensor], *, joined: bool = False) -> None:
        """Sum tensors over all processes, or average them if each is of joined rows: in place, in one exchange."""
        for kind in [] if self.alone else sorted({one.dtype for one in tensors}, key=str):
            same = [one for one in tensors if one.dtype == kind]
            flat = self.processes.sum_(torch.cat([one.reshape(-1) for one in same]))
            flat = flat / self.processes.count if joined else flat
            for one, part in zip(same, flat.split([one.numel() for one in same]), strict=True):
                one.copy_(part.view_as(one))

    @contextmanager
    def within(self, *, rows_alone: bool = False) -> Iterator[None]:
        """For a while, batch norm takes the statistics of all rows, and dropout its masks from those of all rows.

        Args:
            rows_alone: Whether the network is known to have no such layer, which is quicker.

        Raises:
            InputError: Meanwhile, if a network draws something else at random.
        """
        if self.alone:
            yield
            return
        _working.append(self)
        try:
            with nullcontext() if rows_alone else _AsOne(self):
                yield
        finally:
            _working.pop()

    def mask(self, whole: Tensor, p: float, *, axis: int = 0, draw: Function = torch.dropout) -> Tensor:
        """The mask of dropout for this process's rows, of that which one process would draw for all.

        Args:
            whole: Ones in the shape of the input for all rows.
            p: Share that is dropped.
            axis: The axis of the rows. There may be several of them for each row of the batch.
            draw: The function that drops.
        """
        times = whole.shape[axis] // self.rows
        parts = [draw(part, p, True) for part in whole.split(self.piece * times, dim=axis)]
        taken = self.taken
        return torch.cat(parts, dim=axis).narrow(axis, taken.start * times, (taken.stop - taken.start) * times)


RECOMPUTED = ("gradient_checkpointing", "grad_checkpointing")
"""What says in modules of transformers and timm that activations are computed again."""
COMPARING = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.RReLU)
"""Layers that compare rows, or draw at random."""
DROPPING = (nn.MultiheadAttention, nn.RNNBase)
"""Layers that drop inside of one function, if their `dropout` is not 0."""
KNOWN = ("torch", "attar")
"""Packages whose other layers do neither."""
WHOLE = Share(0)
"""All rows, in one process."""

_working: list[Share] = []
"""The share that is worked on, if there is one. A list, which the compiler can look at."""


def current() -> Share | None:
    """The share of the batch that a network is working on, if several processes share it."""
    return _working[-1] if _working else None


def treats_rows_alone(network: nn.Module) -> bool:
    """Whether no layer of a network compares rows or draws at random in training, as far as its layers tell.

    What a module does that is neither PyTorch's nor attar's is not known.
    """
    return not any(
        isinstance(module, COMPARING) or _drops_inside(module) or type(module).__module__.split(".")[0] not in KNOWN
        for module in network.modules()
    )


def _drops_inside(module: nn.Module) -> bool:
    """Whether a module drops by itself, where no function can be put in the place of PyTorch's."""
    return isinstance(module, DROPPING) and bool(module.dropout) and module.training


def check_shareable(network: nn.Module, processes: Processes) -> None:
    """Check that several processes can share the batches of a network.

    Raises:
        InputError: Its activations are computed again in the backward pass, where nothing stands in for batch norm; or
            a layer draws at random, or keeps statistics of its rows, in a way that cannot be shared.
    """
    if processes.count == 1:
        return
    end = f"which {processes.count} processes cannot share. Turn it off, or start one process."
    for part in network.modules():
        if any(getattr(part, name, False) for name in RECOMPUTED):
            raise InputError(f"gradient checkpointing is on in {type(network).__name__}, {end}")
        if _drops_inside(part):
            raise InputError(f"{type(part).__name__} has a dropout of its own, {end}")
        if isinstance(part, nn.modules.instancenorm._InstanceNorm) and part.track_running_stats and part.training:
            raise InputError(f"track_running_stats is on in {type(part).__name__}, {end}")


@torch.no_grad()
def add_each_gradient(parameters: Iterable[Tensor], processes: Processes) -> None:
    """Sum the gradients of parameters over all processes, one after another: in place, and without a copy of them all.

    As in `Share.add_gradients`, a parameter that no process has a gradient of keeps none.
    """
    learned = [one for one in parameters if one.requires_grad]
    if processes.count == 1 or not learned:
        return
    there = learned[0].new_tensor([one.grad is not None for one in learned], dtype=torch.float32)
    for parameter, number in zip(learned, processes.sum_(there).tolist(), strict=True):
        if number:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            processes.sum_(parameter.grad)


class _Joined(torch.autograd.Function):
    """Join in the forward pass; in the backward pass take one's own rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, share: Share) -> Tensor:
        ctx.share = share
        return share.processes.join(rows.detach()[: share.own], share.counts)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        share = ctx.share
        return upstream[share.taken] * (share.processes.count if share.own else 0), None


# ------------------------------------------------------------------------------------- layers that look beyond one row


class _AsOne(TorchFunctionMode):
    """Puts functions of all rows in the place of PyTorch's, which know the rows of one process only."""

    def __init__(self, share: Share) -> None:
        super().__init__()
        self.share = share

    def __torch_function__(
        self, function: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function, or what stands in for it."""
        kwargs = kwargs or {}
        instead = _INSTEAD.get(function)
        if instead is not None:
            return instead(self.share, function, *args, **kwargs)
        if function in _REFUSED and kwargs.get("generator") is None:
            raise InputError(
                f"the network draws random numbers by {function.__name__}, which several processes cannot share. "
                "Start one process."
            )
        return function(*args, **kwargs)


def _dropout(
    share: Share,
    function: Function,
    input: Tensor,  # noqa: A002
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> Tensor:
    rows = share.taken.stop - share.taken.start
    if not training or not p:
        return input
    if len(input) % rows:
        raise InputError(
            "the network drops parts of a tensor whose first axis is not that of the samples, which several processes "
            "cannot share. Start one process."
        )
    whole = input.new_ones(len(input) // rows * share.rows, *input.shape[1:])
    if input.ndim == 4 and input.is_contiguous(memory_format=torch.channels_last):
        whole = whole.contiguous(memory_format=torch.channels_last)  # the order in which numbers are drawn
    return input * share.mask(whole, p, draw=function)


def _attention(share: Share, function: Function, *args: Any, **kwargs: Any) -> Any:
    """Attention, but not with dropout inside."""
    if kwargs.get("dropout_p") or (len(args) > 4 and args[4]):
        raise InputError("the network drops attention, which several processes cannot share. Start one process.")
    return function(*args, **kwargs)


def _batch_norm(
    share: Share,
    function: Function,
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch norm with the statistics of all processes' rows.

    Raises:
        InputError: There is a single value for each channel.
    """
    if not training:
        return function(input, running_mean, running_var, weight, bias, training, momentum, eps)
    values = input if input.dtype == torch.float64 else input.float()
    each = values.numel() // values.shape[1] // (share.taken.stop - share.taken.start)
    count = each * share.rows
    if count <= 1:
        raise InputError("batch norm needs at least two values for each channel. Take larger batches.")
    mean, var = _statistics(values, each * share.own, count, share)
    if running_mean is not None:
        running_mean.lerp_(mean.to(running_mean), momentum)
    if running_var is not None:
        running_var.lerp_((var * count / (count - 1)).to(running_var), momentum)
    scale = (var + eps).rsqrt().to(values)
    found: Tensor = _Normed.apply(values, mean.to(values), scale, count, share)
    if weight is not None:
        found = found * _channels(weight, found)
    if bias is not None:
        found = found + _channels(bias, found)
    return found.to(input.dtype)


@torch.no_grad()
def _statistics(values: Tensor, here: int, count: int, share: Share) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel over all processes, in double precision.

    Args:
        values: The values of this process.
        here: How many of them count, for each channel.
        count: How many there are in all processes.
        share: The share.
    """
    axes = _axes(values)
    mean = values.mean(dim=axes)
    spread = (values - _channels(mean, values)).square().mean(dim=axes).double()
    mean = mean.double()
    mean, square = share.processes.sum_(torch.stack([mean, spread + mean.square()]) * (here / count))
    return mean, (square - mean.square()).clamp(min=0)


class _Normed(torch.autograd.Function):
    """(x - mean) · scale, whose gradient knows that mean and scale are those of the rows of all processes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, mean: Tensor, scale: Tensor, count: int, share: Share) -> Tensor:
        found = (values - _channels(mean, values)) * _channels(scale, values)
        ctx.save_for_backward(found, scale)
        ctx.count, ctx.share = count, share
        return found

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        found, scale = ctx.saved_tensors
        axes, share = _axes(found), ctx.share
        sums = torch.stack([upstream.sum(dim=axes), (upstream * found).sum(dim=axes)]).double() * (share.own > 0)
        mean, product = (_channels(one.to(found), found) for one in share.processes.sum_(sums) / ctx.count)
        # A row that does not count has a gradient of its own through the statistics, which it is not part of.
        gradient = (upstream - mean - found * product) * _channels(scale, found) * (share.own > 0)
        return gradient, None, None, None, None


def _axes(values: Tensor) -> list[int]:
    """All axes but that of the channels."""
    return [axis for axis in range(values.ndim) if axis != 1]


def _channels(numbers: Tensor, values: Tensor) -> Tensor:
    """One number for each channel, as it is multiplied by values."""
    return numbers.view(1, -1, *[1] * (values.ndim - 2))


_INSTEAD: dict[Function, Function] = {
    F.batch_norm: _batch_norm,
    F.dropout: _dropout,
    F.dropout1d: _dropout,
    F.dropout2d: _dropout,
    F.dropout3d: _dropout,
    F.scaled_dot_product_attention: _attention,
}
_REFUSED = {
    F.alpha_dropout,
    F.feature_alpha_dropout,
    F.rrelu,
    F.gumbel_softmax,
    torch.normal,
    torch.rand,
    torch.randn,
    torch.randint,
    torch.randperm,
    torch.rand_like,
    torch.randn_like,
    torch.bernoulli,
    torch.multinomial,
    Tensor.bernoulli_,
    Tensor.exponential_,
    Tensor.uniform_,
    Tensor.normal_,
}
