"""The loss of one batch: its terms, their weights, and the tokens that they cover.

    L = label_weight · CE(references) + teacher_weight · D(p ‖ q) + span_weight · spans

Each term is a mean over the tokens of the whole step (for spans, over pairs of neighbours), in any number of passes.
attar's own loop and the mixin for trainers share it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.core.settings import Range, Settings
from attar.language.aligned import Aligned, aligned_terms
from attar.language.chunkers import Chunker, chunker_named
from attar.language.clipping import Clipping, QuantileNetwork
from attar.language.divergences import Objective
from attar.language.losses import Labels, Logits, Places, TeacherLogits, Terms, chunked_loss, learned_bounds
from attar.language.recalled import Recalled

Scalar = Float[Tensor, ""]


@dataclass(frozen=True, kw_only=True)
class Spans(Settings):
    """Settings of the span term: neighbouring tokens of a phrase should be related as in the teacher."""

    span_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the span term ‖p_i ⊙ p_{i+1} - q_i ⊙ q_{i+1}‖², for two neighbouring tokens of a span. The square is
    our choice, because the paper's measure could not be read. The term is usually far smaller than a divergence."""
    chunker: str = "phrases"
    """Chunker that splits text into phrases: phrases (separated by punctuation and stop words), windows:N, nltk,
    spacy."""
    span_length: Annotated[int, Range(1)] = 8
    """Largest number of tokens of a span."""

    def chunk(self) -> Chunker | None:
        """The chunker, if one is needed.

        Raises:
            InputError: There is no such chunker.
        """
        return chunker_named(self.chunker) if self.span_weight else None


@dataclass(frozen=True)
class Counts:
    """The numbers of tokens and pairs over which a step's means are taken."""

    tokens: float
    pairs: float
    spans: float = 0.0
    """Number of spans that a teacher of another tokenizer shares."""

    @classmethod
    def of(cls, places: list[Places], aligned: Sequence[Aligned] = ()) -> "Counts":
        """The counts of a step from its passes.

        Raises:
            InputError: No token counts in any of them.
        """
        tokens = sum(map(len, places))
        if not tokens:
            raise InputError(
                "a batch holds no token to learn from: every label is masked, or every response is empty. Remove such "
                "rows."
            )
        return cls(tokens, sum(int(one.joined.sum()) for one in places), sum(map(len, aligned)))


@dataclass(frozen=True)
class Parts:
    """The parts of the loss that a pass computes."""

    labels: bool = True
    teacher: bool = True
    corpus: bool = False
    """Whether the labels are those of further text, which has its own weight."""


@dataclass(frozen=True)
class Loss:
    """The loss of a method, as a function of logits."""

    objective: Objective
    clipping: Clipping
    spans: Spans
    words: int
    """Size of the vocabulary."""
    network: QuantileNetwork | None = None

    def network_for(self) -> QuantileNetwork | None:
        """The network of a learned mask, initialised with PyTorch's global generator."""
        return QuantileNetwork(self.clipping, self.words) if self.clipping.teacher_clip == "learned" else None

    @property
    def needs_teacher(self) -> bool:
        """Whether the loss compares with the teacher's logits."""
        compares = self.objective.divergence not in ("none", "policy") and self.objective.teacher_weight > 0
        return compares or self.spans.span_weight > 0

    def __call__(
        self,
        student: Logits,
        teacher: TeacherLogits | Recalled | None,
        places: Places,
        counts: Counts,
        parts: Parts,
        aligned: Aligned | None = None,
    ) -> tuple[Scalar, dict[str, Tensor]]:
        """The part of the loss from these logits, and the measures to show.

        Args:
            student: Logits.
            teacher: Logits, or what a store recalls of them; None if only labels count.
            places: The positions that count.
            counts: The counts over which the means of the step are taken.
            parts: The parts that this pass computes.
            aligned: The spans that are compared, if the teacher's logits are for tokens of its own.
        """
        if aligned is not None:
            assert isinstance(teacher, Tensor)
            return self._apart(student, teacher, places, counts, parts, aligned)
        compares = parts.teacher and self.needs_teacher
        divergence = compares and self.objective.divergence != "none" and self.objective.teacher_weight > 0
        pairs, objective = max(counts.pairs, 1), self.objective
        by_labels = objective.corpus_weight if parts.corpus else objective.label_weight
        terms = Terms(
            labels=by_labels / counts.tokens if parts.labels else 0.0,
            teacher=objective.teacher_weight / counts.tokens if divergence else 0.0,
            spans=self.spans.span_weight / pairs if compares else 0.0,
            floor=self.clipping.floor_weight / counts.tokens if divergence else 0.0,
            objective=objective,
            clipping=self.clipping,
        )
        bounds = None
        if divergence and self.network is not None and len(places):
            assert isinstance(teacher, Tensor)
            bounds = learned_bounds(
                student.detach(), teacher, places, self.network, self.clipping, self.words, objective.temperature
            )
        loss, sums = chunked_loss(
            student, teacher if compares else None, places, terms, bounds=bounds, words=self.words
        )
        shown = {}
        if parts.labels:
            shown["corpus" if parts.corpus else "labels"] = sums.labels / counts.tokens
        if divergence:
            shown["teacher"] = sums.teacher / counts.tokens
        if divergence and self.clipping.teacher_clip != "none":
            shown["kept mass"] = sums.mass / counts.tokens
        if bounds is not None:
            shown |= dict(zip(("upper", "lower"), bounds.detach().sum(dim=0) / counts.tokens, strict=True))
        if terms.spans:
            shown["spans"] = sums.spans / pairs
        return loss, {"loss": loss.detach(), **shown}

    def _apart(
        self, student: Logits, teacher: Tensor, places: Places, counts: Counts, parts: Parts, aligned: Aligned
    ) -> tuple[Scalar, dict[str, Tensor]]:
        """The loss against a teacher that reads its own tokens."""
        by_labels, by_teacher = self.objective.label_weight, self.objective.teacher_weight
        spans = max(counts.spans, 1)
        loss, sums = aligned_terms(
            student,
            teacher,
            aligned,
            self.objective,
            places=places if parts.labels else None,
            by_labels=by_labels / counts.tokens,
            by_teacher=by_teacher / spans,
        )
        shown = {"teacher": sums[1] / spans, "compared": sums.new_tensor(len(aligned.student.rows) / counts.tokens)}
        if parts.labels:
            shown = {"labels": sums[0] / counts.tokens, **shown}
        return loss, {"loss": loss.detach(), **shown}


def distillation_loss(
    student: Logits,
    teacher: TeacherLogits | None,
    labels: Labels,
    *,
    objective: Objective | None = None,
    clipping: Clipping | None = None,
    network: QuantileNetwork | None = None,
    span_weight: float = 0.0,
    spans: Labels | None = None,
    words: int | None = None,
) -> Scalar:
    """The loss for your own training loop.

    Args:
        student: Logits of a causal model: those in column i predict the label in column i + 1.
        teacher: Logits of the same tokens; None without a divergence.
        labels: Token numbers; -100 for tokens that are not learned.
        objective: Weights of labels and teacher, and the divergence. Default: forward, with the labels.
        clipping: The part of the teacher's distribution that counts. Default: all of it.
        network: `QuantileNetwork(clipping, words)` for teacher_clip="learned". Add its parameters to the optimiser.
        span_weight: Weight of the span term.
        spans: Number of each token's span; -1 for none.
        words: Size of the vocabulary in which student and teacher are compared, if logits beyond it are padding. The
            labels' cross-entropy is over all of the student's logits, as in transformers.

    Raises:
        InputError: There is no token to learn from, logits are not finite, or shapes do not fit.
    """
    clipping = clipping or Clipping()
    if (clipping.teacher_clip == "learned") != (network is not None):
        raise InputError(
            "teacher_clip='learned' and a QuantileNetwork go together. Give network=QuantileNetwork(clipping, words)."
        )
    width = min(student.shape[-1], teacher.shape[-1] if teacher is not None else student.shape[-1])
    places = Places.of(labels, spans)
    loss = Loss(objective or Objective(), clipping, Spans(span_weight=span_weight), words or width, network)
    check_clipping(loss.objective, clipping)
    found, _ = loss(student, teacher, places, Counts.of([places]), Parts())
    return found


def check_clipping(objective: Objective, clipping: Clipping) -> None:
    """Check that a clipped divergence is forward. Others are infinite at tokens that are clipped.

    Raises:
        InputError: It is another one.
    """
    if clipping.teacher_clip != "none" and objective.divergence != "forward":
        raise InputError(
            f"teacher_clip {clipping.teacher_clip} needs --divergence forward, not {objective.divergence}. Other "
            "divergences are infinite, or mean something else, at tokens that are clipped."
        )


@contextmanager
def seeded_globally(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's global generators, from which dropout draws, by a run's own; restore them afterwards."""
    seed = int(torch.randint(2**62, (), generator=generator))
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
