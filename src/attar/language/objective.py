"""One batch's loss: what is compared where, and how much each part counts.

    L = label_weight · CE(references) + teacher_weight · D(p ‖ q) + span_weight · spans

each a mean over the tokens (for spans, the pairs of neighbours) of the whole step, however it is cut into passes. The
loop of attar and the mixin for trainers share it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.core.settings import Range, Settings
from attar.language.chunkers import Chunker, chunker_named
from attar.language.clipping import Clipping, QuantileNetwork
from attar.language.divergences import Objective
from attar.language.losses import Labels, Logits, Places, TeacherLogits, Terms, chunked_loss, learned_bounds

Scalar = Float[Tensor, ""]


@dataclass(frozen=True, kw_only=True)
class Spans(Settings):
    """Whether neighbours within a phrase shall be as related as the teacher has them."""

    span_weight: Annotated[float, Range(0)] = 0.0
    """Weight of ‖p_i ⊙ p_{i+1} - q_i ⊙ q_{i+1}‖², p and q of two tokens that follow each other in one span; the square
    is this file's choice, since the paper's measure could not be read. It is far smaller than a divergence, unless both
    models are sure of one token twice; the curve shows it."""
    chunker: str = "phrases"
    """Where phrases begin and end: phrases (punctuation and stop words part them), windows:N, nltk, spacy."""
    span_length: Annotated[int, Range(1)] = 8
    """Tokens of a span at most."""

    def chunk(self) -> Chunker | None:
        """The chunker, where one is needed.

        Raises:
            InputError: No such chunker.
        """
        return chunker_named(self.chunker) if self.span_weight else None


@dataclass(frozen=True)
class Counts:
    """How many things a step's means are over."""

    tokens: float
    pairs: float

    @classmethod
    def of(cls, places: list[Places]) -> "Counts":
        """Those of a step, from those of its passes.

        Raises:
            InputError: No token counts in any of them.
        """
        tokens = sum(map(len, places))
        if not tokens:
            raise InputError(
                "a batch holds no token to learn from: every label is masked, or every response empty. Leave such rows "
                "out."
            )
        return cls(tokens, sum(int(one.joined.sum()) for one in places))


@dataclass(frozen=True)
class Parts:
    """Which parts of the loss a pass is for."""

    labels: bool = True
    teacher: bool = True
    corpus: bool = False
    """Whether the labels are those of further text, with a weight of their own."""


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
        """The network that a learned mask needs, drawn by PyTorch's global generator."""
        return QuantileNetwork(self.clipping, self.words) if self.clipping.teacher_clip == "learned" else None

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher's logits are compared with."""
        compares = self.objective.divergence not in ("none", "policy") and self.objective.teacher_weight > 0
        return compares or self.spans.span_weight > 0

    def __call__(
        self, student: Logits, teacher: TeacherLogits | None, places: Places, counts: Counts, parts: Parts
    ) -> tuple[Scalar, dict[str, Tensor]]:
        """The share of the loss that these logits have, and of the measures to be shown.

        Args:
            student: Logits.
            teacher: Logits; None where only labels are asked for.
            places: Which of them count.
            counts: What the means of the step are over.
            parts: What this pass is for.
        """
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
            assert teacher is not None
            bounds = learned_bounds(student.detach(), teacher, places, self.network, self.clipping, self.words)
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
    """The loss for a training loop of one's own.

    Args:
        student: Logits, as a causal model gives them: those in column i foretell the label in column i + 1.
        teacher: Logits of the same tokens; None without a divergence.
        labels: Token numbers, -100 where nothing is to be learned.
        objective: Weights of labels and teacher, and the divergence; forward beside the labels unless given.
        clipping: Which part of the teacher's distribution counts; all unless given.
        network: `QuantileNetwork(clipping, words)`, for teacher_clip="learned": its parameters belong in the optimiser.
        span_weight: Weight of the span term.
        spans: The number of the span each token lies in, -1 for none.
        words: Size of the vocabulary, where logits beyond it are padding.

    Raises:
        InputError: Nothing to learn from, logits that are not numbers, or shapes that do not fit.
    """
    clipping = clipping or Clipping()
    if (clipping.teacher_clip == "learned") != (network is not None):
        raise InputError(
            "teacher_clip='learned' and a QuantileNetwork go together: give network=QuantileNetwork(clipping, words)."
        )
    width = min(student.shape[-1], teacher.shape[-1] if teacher is not None else student.shape[-1])
    places = Places.of(labels, spans)
    loss = Loss(objective or Objective(), clipping, Spans(span_weight=span_weight), words or width, network)
    check_clipping(loss.objective, clipping)
    found, _ = loss(student, teacher, places, Counts.of([places]), Parts())
    return found


def check_clipping(objective: Objective, clipping: Clipping) -> None:
    """See that what is clipped is a forward divergence: others are infinite where the teacher has nothing left.

    Raises:
        InputError: It is another one.
    """
    if clipping.teacher_clip != "none" and objective.divergence != "forward":
        raise InputError(
            f"teacher_clip is {clipping.teacher_clip}, which goes with --divergence forward, not {objective.divergence}"
            ": the others are infinite, or mean something else, where the teacher is cut off."
        )


@contextmanager
def seeded_globally(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """PyTorch's global generators, which dropout draws from, seeded for a while by one of a run's own."""
    seed = int(torch.randint(2**62, (), generator=generator))
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
