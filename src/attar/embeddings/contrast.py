"""The contrastive core: cross-entropy between pairs that should be near and a softmax over candidates.

SupCon, NT-Xent, DCL, InfoNCE and the losses of several labels differ in three matrices only, all `[anchor, candidate]`:
logits, weights of the positives, and which candidates the softmax runs over. `contrast` takes the logits.
`contrast_embeddings` makes them from embeddings, a chunk of anchors at a time: the gradient of a chunk's logits is
known as soon as its softmax is, so that nothing is kept but a gradient of the embeddings' size.

The general form of the supervised contrastive loss: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020,
arXiv:2004.11362.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.precision import at_least_float32, without_autocast
from attar.embeddings.checks import LEAST_TEMPERATURE, check_embeddings, checked_number

Rows = Int[Tensor, " row"]
Logits = Float[Tensor, "anchor candidate"]
Matrix = Bool[Tensor, "anchor candidate"] | Float[Tensor, "anchor candidate"]
"""Weights of the positives of each anchor: yes or no, or real and at least zero."""
Mask = Bool[Tensor, "anchor candidate"]
ByRows = Callable[[Tensor], Tensor]
"""The same for some of the anchors, given by their rows."""
Temperature = float | Float[Tensor, ""] | Float[Tensor, " anchor"] | Float[Tensor, "anchor candidate"]
Reduction = Literal["mean", "sum", "none"]
Loss = Float[Tensor, ""] | Float[Tensor, " anchor"]

AT_ONCE, AT_ONCE_ON_GPU = 2**17, 2**25
"""Logits of a chunk. On a CPU they should stay in its cache."""
FEWEST = 16
"""Anchors of a chunk, at least: a product of fewer rows is slow."""


def contrast(
    logits: Logits,
    weights: Matrix,
    candidates: Mask | None = None,
    reduction: Reduction = "mean",
    *,
    inside: bool = False,
) -> Loss:
    """-Σ_q w_iq log p_iq / Σ_q w_iq for every anchor i, with p_iq = exp l_iq / Σ_j exp l_ij over its candidates j.

    A positive need not be a candidate (DCL). Anchors without a positive or without a candidate are left out of the
    mean; their loss is zero. Without any anchor left, the loss is zero.

    Args:
        logits: l, the similarities over the temperature.
        weights: w, of the positives of each anchor.
        candidates: The candidates of each anchor; all by default. Whoever contrasts samples with themselves leaves out
            the diagonal.
        reduction: The mean over the anchors that have positives, the sum, or one value for each anchor.
        inside: Whether the mean over positives stands inside the logarithm, -log(Σ_q w_iq p_iq / Σ_q w_iq). SupCon's
            authors call this "in"; it is the weaker one.

    Raises:
        InputError: The shapes differ, or a weight is negative.
    """
    for name, matrix in (("weights", weights), ("candidates", candidates)):
        _check_shape(name, matrix, logits.shape)
    with without_autocast(logits):
        exact = at_least_float32(logits)
        wanted = _checked(weights, exact.dtype)
        masked = exact if candidates is None else exact.masked_fill(~candidates, -torch.inf)
        counted = (wanted > 0).any(dim=1) & (masked != -torch.inf).any(dim=1)
        row = counted[:, None]
        mass = torch.where(counted, wanted.sum(dim=1), 1)
        log_sum = torch.where(row, masked, 0).logsumexp(dim=1)  # filled first: the gradient of an empty row is NaN
        if inside:
            heard = torch.where(row & (wanted > 0), exact + wanted.log(), -torch.inf)
            said = torch.where(row, heard, 0).logsumexp(dim=1) - mass.log()
        else:
            said = (wanted * torch.where(wanted > 0, exact, 0)).sum(dim=1) / mass
        return _reduced(torch.where(counted, log_sum - said, 0), counted, reduction)


def contrast_embeddings(
    z: Float[Tensor, "anchor d"],
    weights: Matrix | ByRows,
    temperature: Temperature,
    chunk: int | None = None,
    *,
    other: Float[Tensor, "candidate d"] | None = None,
    candidates: Mask | ByRows | None = None,
    normalise: bool = True,
    reduction: Reduction = "mean",
    inside: bool = False,
) -> Loss:
    """`contrast` of the logits z_i·z_j / τ, in memory of a few chunks of them.

    It can be differentiated once (`contrast`: any number of times), with respect to `z`, `other` and the temperatures,
    but not to the weights.

    Args:
        z: Embeddings of the anchors.
        weights: As in `contrast`; or a function that makes the rows of a chunk from their numbers.
        temperature: τ: a number, a tensor of one value, of one for each anchor, or of one for each pair.
        chunk: Anchors of a chunk. By default as many as are fast.
        other: Embeddings of the candidates: a queue, references, another modality. By default those of `z`, where an
            anchor is no candidate, and no positive, of itself.
        candidates: As in `contrast`, or a function of rows.
        normalise: Whether embeddings are first scaled to length one.
        reduction: As in `contrast`.
        inside: As in `contrast`.

    Raises:
        InputError: The shapes differ, a weight is negative, or a number is too small.
    """
    check_embeddings(z)
    if other is not None:
        check_embeddings(other, "the other embeddings", z.shape[1])
    shape = (len(z), len(z if other is None else other))
    _check_temperature(temperature, shape)
    if chunk is not None and chunk < 1:
        raise InputError(f"chunk is {chunk}; give at least 1, or leave it out.")
    for name, matrix in (("weights", weights), ("candidates", candidates)):
        if isinstance(matrix, Tensor):
            _check_shape(name, matrix, shape)
    with without_autocast(z):
        anchors = _unit(at_least_float32(z), normalise)
        against = anchors if other is None else _unit(at_least_float32(other).to(anchors.dtype), normalise)
        heat = _heat(temperature, anchors)
        how = _How(weights, candidates, other is None, inside, chunk or _fast(shape[1], z.device))
        if reduction == "none":
            return _Each.apply(anchors, against, heat, how)
        total, count = _Sum.apply(anchors, against, heat, how, torch.is_grad_enabled())
        return total / count.clamp(min=1) if reduction == "mean" else total


# -------------------------------------------------------------------------------------------------- a chunk of anchors


@dataclass(frozen=True)
class _How:
    """All of a contrast but the tensors that it is differentiated by."""

    weights: Tensor | ByRows
    candidates: Tensor | ByRows | None
    own: bool
    """Whether the candidates are the anchors, of which none is its own."""
    inside: bool
    size: int
    """Anchors of a chunk."""

    def chunks(self, z: Tensor, other: Tensor, temperature: Tensor) -> Iterator["_Chunk"]:
        """The chunks, one after the other."""
        for start in range(0, len(z), self.size):
            yield self._chunk(slice(start, min(start + self.size, len(z))), z, other, temperature)

    def _chunk(self, rows: slice, z: Tensor, other: Tensor, temperature: Tensor) -> "_Chunk":
        numbers = torch.arange(rows.start, rows.stop, device=z.device)
        divisor = temperature[rows].reshape(len(numbers), -1) if temperature.ndim else temperature
        logits = (z[rows] @ other.T).div_(divisor)
        weights = _checked(_rows_of("weights", self.weights, rows, numbers, logits), z.dtype)
        masked = logits.clone()
        if self.candidates is not None:
            masked.masked_fill_(~_rows_of("candidates", self.candidates, rows, numbers, logits), -torch.inf)
        if self.own:
            itself = (torch.arange(len(numbers), device=z.device), numbers)
            weights[itself] = 0
            masked[itself] = -torch.inf  # before the maximum of the row, which a sample with itself would be
        return _Chunk(rows, logits, divisor, *_differentiated(logits, masked, weights, self.inside))


@dataclass(frozen=True)
class _Chunk:
    """The contrast of some anchors."""

    rows: slice
    logits: Tensor
    divisor: Tensor
    """τ, in a shape that divides the logits."""
    losses: Tensor
    counted: Tensor
    """Which anchors have positives and candidates."""
    gradient: Tensor
    """Of each anchor's loss, by its logits."""


def _differentiated(logits: Tensor, masked: Tensor, weights: Tensor, inside: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of each anchor, whether it counts, and the gradient by its logits: p - w / Σ w.

    The last two arguments are overwritten.
    """
    top, mass = masked.amax(dim=1), weights.sum(dim=1)
    counted = (mass > 0) & (top != -torch.inf)
    share = masked.sub_(torch.where(counted, top, 0)[:, None]).exp_()
    total = share.sum(dim=1)
    log_sum = top + total.log()
    if inside:
        heard = logits + weights.log()
        said = heard.logsumexp(dim=1)
        losses, target = log_sum - said + mass.log(), heard.sub_(said[:, None]).exp_()
    else:
        target = weights.div_(mass[:, None])
        losses = log_sum - torch.einsum("aq,aq->a", target, logits)
    gradient = share.div_(total[:, None]).sub_(target)
    if counted.is_cuda or not counted.all():  # on a GPU a look at them takes longer
        losses = torch.where(counted, losses, 0)
        gradient.masked_fill_(~counted[:, None], 0)
    return losses, counted, gradient


# ------------------------------------------------------------------------------------------- the sum over all anchors


class _Gradients:
    """Gradients by embeddings and temperatures, added up over chunks."""

    def __init__(self, needed: tuple[bool, ...], *tensors: Tensor) -> None:
        self.inputs = tensors
        self.sums = [torch.zeros_like(one) if need else None for one, need in zip(tensors, needed, strict=True)]

    def add(self, chunk: _Chunk) -> None:
        """Add those of a chunk, whose gradient is overwritten."""
        z, other, temperature = self.inputs
        by_z, by_other, by_temperature = self.sums
        gradient = chunk.gradient.div_(chunk.divisor)
        if by_z is not None:
            torch.mm(gradient, other, out=by_z[chunk.rows])
        if by_other is not None:
            by_other.addmm_(gradient.T, z[chunk.rows])
        if by_temperature is not None:
            found = gradient.mul_(chunk.logits)
            if temperature.ndim:
                by_temperature[chunk.rows] -= found if temperature.ndim == 2 else found.sum(dim=1)
            else:
                by_temperature -= found.sum()


class _Sum(torch.autograd.Function):
    """The sum of the anchors' losses, and how many count. The gradient is made on the way."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, other: Tensor, temperature: Tensor, how: _How, kept: bool
    ) -> tuple[Tensor, Tensor]:
        needed = tuple(kept and need for need in ctx.needs_input_grad[:3])
        gradients = _Gradients(needed, z, other, temperature)
        total, count = z.new_zeros(()), z.new_zeros(())
        for chunk in how.chunks(z, other, temperature):
            total += chunk.losses.sum()
            count += chunk.counted.sum()
            if any(needed):
                gradients.add(chunk)
        ctx.save_for_backward(*gradients.sums)
        ctx.mark_non_differentiable(count)
        return total, count

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        _check_once()
        return (*(None if one is None else upstream * one for one in ctx.saved_tensors), None, None)


class _Each(torch.autograd.Function):
    """The loss of each anchor. The chunks are made again for the gradient, for which those of the losses are needed."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, other: Tensor, temperature: Tensor, how: _How) -> Tensor:
        ctx.how = how
        ctx.save_for_backward(z, other, temperature)
        return torch.cat([chunk.losses for chunk in how.chunks(z, other, temperature)])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        _check_once()
        gradients = _Gradients(ctx.needs_input_grad[:3], *ctx.saved_tensors)
        with without_autocast(upstream):
            for chunk in ctx.how.chunks(*ctx.saved_tensors):
                chunk.gradient.mul_(upstream[chunk.rows, None])
                gradients.add(chunk)
        return (*gradients.sums, None)


# ------------------------------------------------------------------------------------------------------------- details


def _check_once() -> None:
    if torch.is_grad_enabled():  # a graph of the gradient is asked for, which would be wrong without a word
        raise InputError("contrast_embeddings can be differentiated only once. Use contrast for second derivatives.")


def _unit(z: Tensor, normalise: bool) -> Tensor:
    return F.normalize(z) if normalise else z


def _fast(candidates: int, device: torch.device) -> int:
    """Anchors of a chunk."""
    return max(FEWEST, (AT_ONCE if device.type == "cpu" else AT_ONCE_ON_GPU) // max(candidates, 1))


def _rows_of(name: str, given: Tensor | ByRows, rows: slice, numbers: Tensor, logits: Tensor) -> Tensor:
    if isinstance(given, Tensor):
        return given[rows]
    found = given(numbers)
    _check_shape(f"{name} of rows {rows.start} to {rows.stop - 1}", found, logits.shape)
    return found


def _checked(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy of weights, as real numbers."""
    if weights.dtype != torch.bool and bool((weights < 0).any()):
        raise InputError(f"a weight is {float(weights.min()):g}; weights of positives are at least 0.")
    return weights.to(dtype, copy=True)


def _check_shape(name: str, matrix: Tensor | None, shape: Sequence[int]) -> None:
    if matrix is not None and tuple(matrix.shape) != tuple(shape):
        raise InputError(f"{name} have shape {tuple(matrix.shape)}; give {tuple(shape)}, [anchor, candidate].")


def _heat(temperature: Temperature, like: Tensor) -> Tensor:
    """The temperature in the precision and on the device of embeddings."""
    return temperature.to(like) if isinstance(temperature, Tensor) else like.new_full((), temperature)


def _check_temperature(temperature: Temperature, shape: tuple[int, int]) -> None:
    if isinstance(temperature, Tensor):
        if tuple(temperature.shape) not in ((), shape[:1], shape):
            raise InputError(f"temperature has shape {tuple(temperature.shape)}; give (), {shape[:1]} or {shape}.")
    else:
        checked_number("temperature", temperature, least=LEAST_TEMPERATURE)


def _reduced(losses: Tensor, counted: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return losses
    return losses.sum() / counted.sum().clamp(min=1) if reduction == "mean" else losses.sum()
