"""Losses on spans of text that a teacher and a student of different tokenizers share.

In a span let the student have the tokens y_a ... y_b and the teacher x_c ... x_d, both of the same text, and let
q_i(·) = q(· | prompt, y_<i) and p_j(·) = p(· | prompt, x_<j) at the temperature of the divergence. The chain rule gives
the distribution of the span's first token, followed by the actual later ones (`span_merge` first):

    q̃(v) = q_a(v) Π_{a < i ≤ b} q_i(y_i)        p̃(w) = p_c(w) Π_{c < j ≤ d} p_j(x_j)

or that of its last token after the actual earlier ones (last): q̃(v) = q_b(v) Π_{a ≤ i < b} q_i(y_i), p̃ alike. Of a
span of one token in both, they are q_a and p_c. They do not add up to 1 otherwise, but are true probabilities of
their events. With M the pairs of tokens of the same text, U the tokens in no pair, and ‖sort · - sort ·‖₁ the sorted
distance of `uld.py`, the loss of a span is

    hybrid      m D(p_M, q_M) + u ‖sort p̃_U - sort q̃_U‖₁,        p_M = p̃ restricted to M and divided by its sum
    sorted      ‖sort p̃ - sort q̃‖₁
    likelihood  τ D(Bernoulli(P^(1/τ)), Bernoulli(Q^(1/τ))),      P = Π_{c ≤ j ≤ d} p_j(x_j), Q = Π_{a ≤ i ≤ b} q_i(y_i)

with `hybrid_weight` mass: m = Σ_M p̃ and u = 1; or count, as in GOLD: m = |M| / (number of the teacher's tokens) and
u = 1 - m. D is any divergence of `divergences.py`. The loss is the mean over spans. If both tokenizers are equal, every
span is one token and every token is in a pair: hybrid is the plain D. ULD on spans is `sorted`, with positions that
belong together. In a span of several tokens D teaches the first one (or the last one) alone; the others are taught by
the sorted part, through q̃, and by `likelihood`.

GOLD restricts D to M in the same way. m = mass is our choice: the chain rule of the forward divergence has that weight.
ALM has no factor τ, by which the size of our loss hardly depends on τ, and weighs spans by how far the two tokenizers
are biased; that weight is left out. Tokens that the teacher rules out by a logit of minus infinity are left out of D.

Patiño et al., Unlocking On-Policy Distillation for Any Model Family (GOLD), Hugging Face 2025. Minixhofer, Vulić and
Ponti, Universal Cross-Tokenizer Distillation via Approximate Likelihood Matching, NeurIPS 2025, arXiv:2503.20083.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.language.alignment import Alignment
from attar.language.divergences import Measure, Objective, weighted
from attar.language.losses import RULED_OUT, Logits, Places, TeacherLogits, tokens_at_once
from attar.language.offsets import Span
from attar.language.rows import Job, Scalar, by_jobs
from attar.language.uld import sorted_distance
from attar.language.wordmap import WordMap

LEAST = 1e-6
"""What the logarithm of a likelihood stays below, so that it is never certain."""

PerSpan = Float[Tensor, " span"]


@dataclass(frozen=True)
class Side:
    """One model's tokens of all spans, one span after the other."""

    rows: Int[Tensor, " token"]
    """Rows of the logits that predict them, sequences put one after the other."""
    targets: Int[Tensor, " token"]
    """The tokens."""
    starts: Sequence[int]
    """The place of each span's first token, and of the end of the last."""

    def of(self, first: int, stop: int) -> "Side":
        """Some of the spans."""
        start, end = self.starts[first], self.starts[stop]
        starts = [place - start for place in self.starts[first : stop + 1]]
        return Side(self.rows[start:end], self.targets[start:end], starts)

    def to(self, device: torch.device) -> "Side":
        """The tokens on another device."""
        return Side(self.rows.to(device), self.targets.to(device), self.starts)


@dataclass(frozen=True)
class Aligned:
    """The spans of a batch that are compared."""

    student: Side
    teacher: Side
    words: WordMap
    alignment: Alignment

    @classmethod
    def of(
        cls,
        spans: Sequence[Sequence[Span]],
        student: Int[Tensor, "sequence token"],
        teacher: Int[Tensor, "sequence teacher_token"],
        words: WordMap,
        alignment: Alignment,
    ) -> "Aligned":
        """From the spans of each sequence, in columns of the student's and of the teacher's tokens.

        A span that begins with the first token of a sequence is left out, because nothing predicts that token.
        """
        known = [(row, span) for row, several in enumerate(spans) for span in several if span[0] and span[2]]
        sides = []
        for ids, first in ((student, 0), (teacher, 2)):
            width = ids.shape[1]
            places = [row * width + at for row, span in known for at in range(span[first], span[first + 1])]
            at, starts = torch.tensor(places, dtype=torch.long), [0]
            for _, span in known:
                starts.append(starts[-1] + span[first + 1] - span[first])
            sides.append(Side(at - 1, ids.reshape(-1)[at], starts))
        return cls(sides[0], sides[1], words, alignment)

    def __len__(self) -> int:
        return len(self.student.starts) - 1

    def to(self, device: torch.device) -> "Aligned":
        """The spans on another device."""
        return Aligned(self.student.to(device), self.teacher.to(device), self.words.to(device), self.alignment)

    def chunks(self, size: int) -> Iterator[tuple[Side, Side]]:
        """The spans in parts of at most `size` tokens of either model, or of one span."""
        first = 0
        while first < len(self):
            stop = first + 1
            while stop < len(self) and all(
                side.starts[stop + 1] - side.starts[first] <= size for side in (self.student, self.teacher)
            ):
                stop += 1
            yield self.student.of(first, stop), self.teacher.of(first, stop)
            first = stop


@dataclass(frozen=True)
class Merged:
    """Distributions of spans: those of one token, and the factor of the other tokens."""

    log_single: Float[Tensor, "span word"]
    """The log-probabilities at the span's first (or last) token."""
    log_own: PerSpan
    """That of the token that stands there."""
    log_others: PerSpan
    """That of the span's other tokens."""

    @property
    def log_likelihood(self) -> PerSpan:
        """The log-probability of the whole span."""
        return self.log_own + self.log_others

    def mass(self, words: Int[Tensor, " some"]) -> Float[Tensor, "span some"]:
        """The probabilities of some words, with the factor."""
        return (self.log_single[:, words] + self.log_others.unsqueeze(1)).exp()


def merged(
    log_d: Float[Tensor, "token word"],
    targets: Int[Tensor, " token"],
    starts: Sequence[int],
    merge: Literal["first", "last"] = "first",
) -> Merged:
    """The distributions of spans by the chain rule.

    Args:
        log_d: Log-probabilities of each token's place, span after span.
        targets: The tokens.
        starts: The place of each span's first token, and of the end of the last.
        merge: Whose distribution it is: the first token's or the last one's.
    """
    edges = torch.tensor(starts, device=log_d.device)
    base = edges[:-1] if merge == "first" else edges[1:] - 1
    said = log_d.gather(1, targets.unsqueeze(1)).squeeze(1)
    place = torch.arange(len(base), device=log_d.device).repeat_interleave(edges.diff())
    other = torch.ones_like(said, dtype=torch.bool).index_fill(0, base, value=False)
    others = said.new_zeros(len(base)).index_add(0, place[other], said[other])
    return Merged(log_d[base], said[base], others)


def hybrid(p: Merged, q: Merged, words: WordMap, measure: Measure, weight: Literal["mass", "count"]) -> PerSpan:
    """The hybrid loss m D(p_M, q_M) + u ‖sort p̃_U - sort q̃_U‖₁ of each span.

    Args:
        p: The teacher's distributions.
        q: The student's.
        words: Which tokens are of the same text.
        measure: D.
        weight: How m and u are chosen.
    """
    share = len(words.teacher) / max(sum(words.words[1:]), 1)
    loss = q.log_own.new_zeros(len(q.log_own))
    if len(words.student):
        log_p, log_q = p.log_single[:, words.teacher], q.log_single[:, words.student]
        m = p.mass(words.teacher).sum(dim=1) if weight == "mass" else share
        loss = loss + m * restricted(log_p, log_q, measure)
    if len(words.student_rest) or len(words.teacher_rest):
        u = 1.0 if weight == "mass" else 1 - share
        loss = loss + u * sorted_distance(p.mass(words.teacher_rest), q.mass(words.student_rest))
    return loss


def restricted(log_p: Float[Tensor, "span pair"], log_q: Float[Tensor, "span pair"], measure: Measure) -> PerSpan:
    """D of two distributions restricted to some words; 0 where the teacher gives them nothing."""
    out = log_p < RULED_OUT
    nothing = out.all(dim=1)
    log_p = log_p.masked_fill(out, -torch.inf)
    log_q = log_q.masked_fill(out & ~nothing.unsqueeze(1), -torch.inf)
    log_p = torch.where(nothing.unsqueeze(1), log_q.detach(), log_p).log_softmax(dim=1)
    return by_slope(log_p, log_q.log_softmax(dim=1), measure)


def likelihood(p: Merged, q: Merged, measure: Measure, temperature: float) -> PerSpan:
    """τ D(Bernoulli(P^(1/τ)), Bernoulli(Q^(1/τ))) of each span."""
    log_p, log_q = (_bernoulli(x.log_likelihood / temperature) for x in (p, q))
    return temperature * by_slope(log_p, log_q, measure)


def _bernoulli(log_yes: PerSpan) -> Float[Tensor, "span 2"]:
    log_yes = log_yes.clamp(min=RULED_OUT, max=-LEAST)
    return torch.stack([log_yes, (-torch.expm1(log_yes)).log()], dim=1)


def by_slope(log_p: Float[Tensor, "span word"], log_q: Float[Tensor, "span word"], measure: Measure) -> PerSpan:
    """D of two normalised distributions, with its gradient in log q from the slope that `measure` gives."""
    fixed = log_q.detach()
    value, slope = measure(log_p, log_p.exp(), fixed, fixed.exp())
    by_words = weighted(slope, log_q).sum(dim=1)
    return value + by_words - by_words.detach()


def span_loss(p: Merged, q: Merged, words: WordMap, objective: Objective, alignment: Alignment) -> PerSpan:
    """The loss of each span, as the settings want it."""
    if alignment.align_by == "uld" or (alignment.align_by == "spans" and alignment.span_words == "sorted"):
        mine, theirs = (torch.arange(x.log_single.shape[1], device=x.log_single.device) for x in (q, p))
        return sorted_distance(p.mass(theirs), q.mass(mine))
    if alignment.align_by == "likelihood":
        return likelihood(p, q, objective.measure, alignment.likelihood_temperature)
    return hybrid(p, q, words, objective.measure, alignment.hybrid_weight)


def aligned_loss(
    student: Logits, teacher: TeacherLogits, aligned: Aligned, objective: Objective | None = None
) -> Scalar:
    """The mean loss of the spans of a batch, for your own training loop; differentiable in the student's logits.

    Args:
        student: Logits for the student's tokens: those in column i predict the token in column i + 1.
        teacher: Logits for the teacher's tokens of the same texts, row by row.
        aligned: The spans.
        objective: The divergence and its temperature. Default: forward.

    Raises:
        InputError: No span is shared, or logits are not finite.
    """
    if not len(aligned):
        raise InputError("teacher and student share no span of any answer, so nothing is compared. Check the texts.")
    return aligned_terms(student, teacher, aligned, objective or Objective())[0]


def aligned_terms(
    student: Logits,
    teacher: TeacherLogits,
    aligned: Aligned,
    objective: Objective,
    *,
    places: Places | None = None,
    by_labels: float = 0.0,
    by_teacher: float | None = None,
) -> tuple[Scalar, Float[Tensor, "2"]]:
    """The labels' cross-entropy and the loss of the spans, a few tokens at a time.

    Args:
        student: Logits for the student's tokens.
        teacher: Logits for the teacher's tokens of the same texts; nothing of them is differentiated.
        aligned: The spans.
        objective: The divergence and its temperature.
        places: The labels that count.
        by_labels: Weight of each label.
        by_teacher: Weight of each span. Default: a mean over the spans.

    Returns:
        The weighed sum, and the sums of both terms without weights.

    Raises:
        InputError: Logits are not finite.
    """
    mine, theirs = aligned.words.words
    flat, other = student.reshape(-1, student.shape[-1]), teacher.detach().reshape(-1, teacher.shape[-1])
    each = 1 / max(len(aligned), 1) if by_teacher is None else by_teacher

    def by_spans(own: Side, their: Side) -> Job:
        def value(logits: Tensor) -> Tensor:
            merge = aligned.alignment.span_merge
            log_p = (other[their.rows, :theirs].to(logits.dtype) / objective.temperature).log_softmax(dim=1)
            log_q = (logits[:, :mine] / objective.temperature).log_softmax(dim=1)
            p = merged(log_p, their.targets, their.starts, merge)
            q = merged(log_q, own.targets, own.starts, merge)
            return span_loss(p, q, aligned.words, objective, aligned.alignment).sum()

        return Job(own.rows, value, each, 1)

    def by_label(rows: Tensor, targets: Tensor) -> Job:
        return Job(rows, lambda logits: F.cross_entropy(logits, targets, reduction="sum"), by_labels, 0)

    def jobs() -> Iterator[Job]:
        if places is not None:
            size = tokens_at_once(student.device, student.shape[-1])
            for rows, targets in zip(places.rows.split(size), places.targets.split(size), strict=True):
                yield by_label(rows, targets)
        for own, their in aligned.chunks(tokens_at_once(student.device, max(mine, theirs))):
            yield by_spans(own, their)

    return by_jobs(flat, jobs(), 2)
