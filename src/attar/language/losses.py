"""Every loss on next-token distributions at once, token by token in chunks, with its gradient in closed form.

    L = a Σ -log q(y) + b Σ D(p, q) + c Σ ‖p_i ⊙ p_{i+1} - q_i ⊙ q_{i+1}‖²

over the tokens that count, the last sum over neighbours in one span. Nothing of size (tokens × vocabulary) is kept
beside the logits and the one gradient in them: a chunk's distributions are made in float32, used for all terms, and
dropped.

The labels' q is over all columns of the student's logits, as in transformers. Teacher and student are compared over
their common vocabulary, at the temperature of the divergence, and without the tokens that the teacher rules out by a
logit of minus infinity: D of what is left is that of the two distributions over the other tokens.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.language.clipping import Clipping, QuantileNetwork, bound_slopes, clipped, features
from attar.language.divergences import Objective, Tokens, Words, forward_kl
from attar.language.recalled import Recalled

Logits = Float[Tensor, "sequence token word"]
TeacherLogits = Float[Tensor, "teacher_sequence teacher_token teacher_word"]
Bounds = Float[Tensor, "place 2"]
"""The upper and the lower quantile of each place."""
Labels = Int[Tensor, "sequence token"]
Scalar = Float[Tensor, ""]

UNCOUNTED = -100
"""Label of a token that is not learned."""

RULED_OUT = -1e30
"""A teacher's logit below this rules its token out: minus infinity, and the least numbers of bfloat16 and float32."""

IN_CACHE, ON_GPU = 2**18, 2**22
"""Logits in a chunk: what stays in a processor's cache, a dozen float32 copies included, and what occupies a GPU."""


@dataclass(frozen=True)
class Places:
    """Positions in a batch of logits that predict the counted tokens."""

    rows: Int[Tensor, " place"]
    """Of the logits, sequences put one after the other; rising."""
    targets: Int[Tensor, " place"]
    """The tokens that stand there."""
    joined: Bool[Tensor, " place"]
    """Whether a token and the next one that counts are neighbours in one span."""

    @classmethod
    def of(cls, labels: Labels, spans: Labels | None = None) -> "Places":
        """From labels, `UNCOUNTED` where nothing is learned, and from the number of each token's span, -1 for none.

        The first token of a sequence is foretold by nothing and never counts.
        """
        counted = labels[:, 1:] != UNCOUNTED
        row, column = counted.nonzero(as_tuple=True)
        joined = torch.zeros_like(counted)
        if spans is not None:
            inside = spans[:, 1:] >= 0
            joined[:, :-1] = (counted & inside)[:, :-1] & counted[:, 1:] & (spans[:, 1:-1] == spans[:, 2:])
        return cls(row * labels.shape[1] + column, labels[:, 1:][counted], joined[counted])

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Terms:
    """The weights of the terms. A weight is one number for all tokens, or one for each token."""

    labels: float | Tokens = 0.0
    """a: of the labels' cross-entropy."""
    teacher: float | Tokens = 0.0
    """b: of the divergence."""
    spans: float = 0.0
    """c: of a pair of neighbours."""
    floor: float = 0.0
    """Of the kept mass's shortfall, per token."""
    objective: Objective = field(default_factory=Objective)
    clipping: Clipping = field(default_factory=Clipping)

    @property
    def compares(self) -> bool:
        """Whether the teacher is asked at all."""
        return self._wants(self.teacher) or self.spans != 0

    @staticmethod
    def _wants(weight: float | Tensor) -> bool:
        return isinstance(weight, Tensor) or weight != 0


@dataclass(frozen=True)
class Sums:
    """The unweighted sums of the terms."""

    labels: Scalar
    teacher: Scalar
    spans: Scalar
    mass: Scalar
    """Kept of the teacher's distributions."""


def chunked_loss(
    student: Logits,
    teacher: TeacherLogits | Recalled | None,
    places: Places,
    terms: Terms,
    *,
    bounds: Bounds | None = None,
    words: int | None = None,
    columns: int | None = None,
    chunk: int | None = None,
) -> tuple[Scalar, Sums]:
    """The weighed sum of all terms, differentiable in the student's logits and the bounds; and the sums.

    Args:
        student: Logits, in float64, float32, bfloat16 or float16; the gradient has their type, sums are float32.
        teacher: TeacherLogits, nothing of which is differentiated; or what a store recalls of them.
        places: Which of them count.
        terms: Weights and settings.
        bounds: Quantiles of each place, for a learned mask.
        words: Size of the vocabulary in which student and teacher are compared. All common columns, unless given.
        columns: Number of columns over which the labels' distribution is taken. All of the student's, unless given.
        chunk: Tokens at a time; as many as the machine likes unless given (see `tokens_at_once`).

    Raises:
        InputError: Logits that are not numbers, widths or shapes that do not fit, a label outside the vocabulary.
    """
    given = None if isinstance(teacher, Recalled) else teacher
    known = min(student.shape[-1], given.shape[-1] if given is not None else student.shape[-1])
    words, columns = words or known, columns or student.shape[-1]
    if isinstance(teacher, Recalled) and len(teacher) != len(places):
        raise InputError(f"stored answers are for {len(teacher)} tokens, but {len(places)} count.")
    masked = _check(student, given, places, terms, words, known, columns, recalls=given is not teacher)
    flat = student.reshape(-1, student.shape[-1])
    other = teacher if given is None else given.detach().reshape(-1, given.shape[-1])
    size = chunk or tokens_at_once(student.device, words)
    loss, sums = _ChunkedLoss.apply(flat, bounds, other, places, terms, _Widths(words, columns, masked), size)
    return loss, Sums(*sums.unbind())


def tokens_at_once(device: torch.device, words: int) -> int:
    """How many tokens' distributions are made together."""
    return max(1, (IN_CACHE if device.type == "cpu" else ON_GPU) // words)


@dataclass(frozen=True)
class _Widths:
    """The columns of logits that a loss reads."""

    words: int
    """Of both models, to compare them."""
    columns: int
    """Of the student, for the labels."""
    masked: bool
    """Whether the teacher rules out tokens."""


def _check(
    student: Tensor,
    teacher: Tensor | None,
    places: Places,
    terms: Terms,
    words: int,
    known: int,
    columns: int,
    *,
    recalls: bool,
) -> bool:
    """Check that logits, labels and the vocabulary fit; return whether the teacher rules out tokens."""
    if terms.compares and teacher is None and not recalls:
        raise InputError(
            "a divergence from the teacher needs the teacher's logits. Give them, or set divergence='none'."
        )
    if teacher is not None and teacher.shape[:-1] != student.shape[:-1]:
        raise InputError(
            f"the teacher's logits are for {list(teacher.shape[:-1])} tokens, the student's for "
            f"{list(student.shape[:-1])}."
        )
    if known < words or (teacher is not None and teacher.shape[-1] != student.shape[-1] and words > known):
        raise InputError(f"the vocabulary has {words} tokens, but there are only {known} logits.")
    if not len(places):
        return False
    least = student.new_zeros(()) if teacher is None or not terms.compares else teacher[..., :words].detach().amin()
    largest, lowest = torch.stack([places.targets.max().float(), least.float()]).tolist()  # a GPU is waited for once
    most = words if terms.compares else columns
    if largest >= most:
        raise InputError(f"a label is token {int(largest)}, but the vocabulary has {most}.")
    return bool(lowest < RULED_OUT)


class _ChunkedLoss(torch.autograd.Function):
    """Value and gradient in one pass over the chunks."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        bounds: Tensor | None,
        teacher: Tensor | Recalled | None,
        places: Places,
        terms: Terms,
        widths: _Widths,
        size: int,
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[0]
        exact = torch.float64 if student.dtype == torch.float64 else torch.float32
        gradient = torch.zeros_like(student) if wanted else None
        by_bounds = torch.zeros_like(bounds) if bounds is not None and ctx.needs_input_grad[1] else None
        loss = torch.zeros((), dtype=exact, device=student.device)
        sums = torch.zeros(4, dtype=exact, device=student.device)
        finite = torch.ones(2, dtype=torch.bool, device=student.device)
        for start in range(0, len(places), size):
            one = _Chunk(start, min(start + size, len(places)), student, teacher, places, terms, widths, exact, finite)
            loss += one.labels(sums) + one.divergence(sums, bounds, by_bounds) + one.spans(sums)
            if gradient is not None:
                one.write(gradient)
        for who, fine in zip(("student", "teacher"), finite.tolist(), strict=True):
            if not fine:
                raise InputError(f"the {who}'s logits hold NaN or infinity. Check the {who} or its precision.")
        ctx.gradient, ctx.by_bounds = gradient, by_bounds
        ctx.mark_non_differentiable(sums)
        return loss, sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradient, by_bounds = ctx.gradient, ctx.by_bounds
        ctx.gradient = ctx.by_bounds = None  # the one buffer is handed on, not copied
        assert gradient is not None or by_bounds is not None, "this loss goes backward once"
        gradient = None if gradient is None else gradient.mul_(by_loss)
        by_bounds = None if by_bounds is None else by_bounds.mul_(by_loss)
        return gradient, by_bounds, None, None, None, None, None


class _Chunk:
    """The distributions of some places, and of the one after them where spans are compared."""

    def __init__(
        self,
        start: int,
        stop: int,
        student: Tensor,
        teacher: Tensor | Recalled | None,
        places: Places,
        terms: Terms,
        widths: _Widths,
        exact: torch.dtype,
        finite: Bool[Tensor, "2"],
    ) -> None:
        self.terms, self.widths, self.own = terms, widths, slice(start, stop)
        self.count = stop - start
        self.rows = places.rows[start : min(stop + (terms.spans != 0), len(places))]
        self.targets = places.targets[self.own]
        self.joined = places.joined[start : start + len(self.rows) - 1]
        compares, temperature = terms.compares and teacher is not None, terms.objective.temperature
        self.shared = not compares or (widths.words == widths.columns and not widths.masked and temperature == 1)
        """Whether one distribution of the student serves the labels and the comparison."""
        labelled = self.rows if compares and self.shared else self.rows[: self.count]
        self.log_said = _log_probabilities(student, labelled, widths.columns, exact)
        finite[0] &= ~self.log_said[:, 0].isnan().any()
        self.said = self.log_said.exp()
        self.by_labels = torch.zeros_like(self.said)
        self.log_q, self.q, self.slope = self.log_said, self.said, self.by_labels
        if not compares or teacher is None:
            return
        if not self.shared:
            given = student if isinstance(teacher, Recalled) else teacher
            self.log_p, self.log_q = _both(given, student, self.rows, widths, exact, temperature)
            self.q = self.log_q.exp()
            self.slope = torch.zeros_like(self.q)
        if isinstance(teacher, Recalled):
            self.log_p = teacher.log_p(self.log_q, slice(start, start + len(self.rows)), temperature)
        elif self.shared:
            self.log_p = _log_probabilities(teacher, self.rows, widths.words, exact)
        finite[1] &= ~self.log_p[:, 0].isnan().any()
        self.p = self.log_p.exp()

    def labels(self, sums: Tensor) -> Tensor | float:
        """The labels' cross-entropy."""
        weight = self.terms.labels
        value = -self.log_said[: self.count].gather(1, self.targets.unsqueeze(1)).squeeze(1)
        sums[0] += value.sum()
        if not Terms._wants(weight):
            return 0.0
        weight = self._of(weight)
        self.by_labels[: self.count].scatter_add_(1, self.targets.unsqueeze(1), -weight.unsqueeze(1))
        return (weight * value).sum()

    def divergence(self, sums: Tensor, bounds: Tensor | None, by_bounds: Tensor | None) -> Tensor | float:
        """The divergence from the teacher, or from what is kept of it."""
        if not Terms._wants(self.terms.teacher):
            return 0.0
        terms, own = self.terms, slice(0, self.count)
        weight = self._of(terms.teacher)
        log_p, p, log_q = self.log_p[own], self.p[own], self.log_q[own]
        found = None
        if terms.clipping.teacher_clip != "none":
            at = None if bounds is None else bounds[self.own]
            found = clipped(log_p, p, self.targets, terms.clipping, at)
        log_kept, kept = (log_p, p) if found is None else (found.log_p, found.p)
        value, slope = terms.objective.measure(log_kept, kept, log_q, self.q[own])
        self.slope[own] += slope.mul_(weight.unsqueeze(1))
        sums[1] += value.sum()
        sums[3] += found.mass.sum() if found is not None else self.count
        loss = (weight * value).sum()
        if found is not None and bounds is not None:
            soft = found.soft or found
            loss = loss + terms.floor * torch.relu(terms.clipping.mass_floor - soft.mass).sum()
            if by_bounds is not None:
                by_bounds[self.own] = bound_slopes(found, p, log_q, weight, terms.clipping, terms.floor).to(
                    by_bounds.dtype
                )
        return loss

    def spans(self, sums: Tensor) -> Tensor | float:
        """The squared distance of products of neighbours' probabilities."""
        if self.terms.spans == 0 or len(self.rows) < 2:
            return 0.0
        product = self.q[:-1] * self.q[1:]
        gap = product - self.p[:-1] * self.p[1:]
        gap.mul_(self.joined.unsqueeze(1))
        value = gap.square().sum()
        sums[2] += value
        by_both = product.mul_(gap).mul_(2 * self.terms.spans)
        self.slope[:-1] += by_both
        self.slope[1:] += by_both
        return self.terms.spans * value

    def write(self, gradient: Tensor) -> None:
        """Add the gradient in the logits."""
        rows = self.rows[: len(self.said)]
        found = torch.addcmul(self.by_labels, self.said, self.by_labels.sum(dim=1, keepdim=True), value=-1)
        gradient[:, : self.widths.columns].index_add_(0, rows, found.to(gradient.dtype))
        if not self.shared:
            found = torch.addcmul(self.slope, self.q, self.slope.sum(dim=1, keepdim=True), value=-1)
            found /= self.terms.objective.temperature
            gradient[:, : self.widths.words].index_add_(0, self.rows, found.to(gradient.dtype))

    def _of(self, weight: float | Tensor) -> Tensor:
        if isinstance(weight, Tensor):
            return weight[self.own].to(self.q.dtype)
        return self.q.new_full((self.count,), weight)


def _log_probabilities(
    logits: Float[Tensor, "row column"], rows: Int[Tensor, " token"], words: int, exact: torch.dtype
) -> Words:
    return torch.log_softmax(logits[rows, :words].to(exact), dim=1)


def _both(
    teacher: Tensor, student: Tensor, rows: Tensor, widths: _Widths, exact: torch.dtype, temperature: float = 1.0
) -> tuple[Words, Words]:
    """Log p and log q as they are compared: over the words that the teacher does not rule out, at a temperature."""
    one, other = (logits[rows, : widths.words].to(exact) for logits in (teacher, student))
    if widths.masked:
        out = one < RULED_OUT
        one, other = one.masked_fill(out, -torch.inf), other.masked_fill(out, -torch.inf)
    if temperature != 1:
        one, other = one / temperature, other / temperature
    return torch.log_softmax(one, dim=1), torch.log_softmax(other, dim=1)


@torch.no_grad()
def learned_bounds(
    student: Logits,
    teacher: TeacherLogits,
    places: Places,
    network: QuantileNetwork,
    clipping: Clipping,
    words: int,
    temperature: float = 1.0,
) -> Bounds:
    """The quantiles of each place, with a gradient in the network's parameters alone."""
    seen, widths = [], _Widths(words, words, masked=True)
    one, other = (x.reshape(-1, x.shape[-1]) for x in (student, teacher))
    size = tokens_at_once(student.device, words)
    exact = next(network.parameters()).dtype
    for rows in places.rows.split(size):
        log_p, log_q = _both(other, one, rows, widths, exact, temperature)
        seen.append(features(log_p, log_q, clipping.seen))
    with torch.enable_grad():
        bounds: Tensor = network(torch.cat(seen))
    return bounds


@dataclass(frozen=True)
class Comparison:
    """How two models' distributions differ at some places."""

    divergence: Float[Tensor, " place"]
    """KL(p ‖ q)."""
    choice: Int[Tensor, " place"]
    """The teacher's most probable token, or one that was drawn from it."""


@torch.no_grad()
def compared(
    student: Logits,
    teacher: TeacherLogits,
    places: Places,
    *,
    words: int,
    draw: torch.Generator | None = None,
) -> Comparison:
    """How far the student is from the teacher at each place, and what the teacher would have said there.

    Args:
        student: Logits.
        teacher: Logits.
        places: Which of them.
        words: Size of the vocabulary.
        draw: Draws the teacher's token; its most probable one is taken without.
    """
    found, widths = [], _Widths(words, words, masked=True)
    one, other = (x.reshape(-1, x.shape[-1]) for x in (student, teacher))
    for rows in places.rows.split(tokens_at_once(student.device, words)):
        log_p, log_q = _both(other, one, rows, widths, torch.float32)
        p, q = log_p.exp(), log_q.exp()
        choice = p.argmax(dim=1) if draw is None else torch.multinomial(p, 1, generator=draw).squeeze(1)
        found.append((forward_kl(log_p, p, log_q, q)[0], choice))
    if not found:
        return Comparison(student.new_zeros(0), places.targets.new_zeros(0))
    divergences, choices = zip(*found, strict=True)
    return Comparison(torch.cat(divergences), torch.cat(choices))


@torch.no_grad()
def log_probabilities(logits: Logits, places: Places, *, words: int) -> Float[Tensor, " place"]:
    """What a model gives to the token at each place."""
    flat, size = logits.reshape(-1, logits.shape[-1]), tokens_at_once(logits.device, words)
    found = [
        _log_probabilities(flat, rows, words, torch.float32).gather(1, targets.unsqueeze(1)).squeeze(1)
        for rows, targets in zip(places.rows.split(size), places.targets.split(size), strict=True)
    ]
    return torch.cat(found) if found else logits.new_zeros(0)
