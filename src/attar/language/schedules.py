"""Sources of the answers on which student and teacher are compared.

off-policy keeps the references. on-policy lets the student answer whole batches, with probability λ (Agarwal et al.,
On-Policy Distillation of Language Models, ICLR 2024, arXiv:2306.13649). mixed lets it answer single prompts with
probability λ (Lin et al., Autoregressive Knowledge Distillation through Imitation Learning, EMNLP 2020,
arXiv:2009.07253). teacher replaces the references with the teacher's answers (Kim and Rush, Sequence-Level Knowledge
Distillation, EMNLP 2016, arXiv:1606.07947). adaptive starts off-policy, uses more of the student's answers whenever the
validation loss does not fall, and stores them for later (Ko et al., DistiLLM, ICML 2024, arXiv:2402.03898).
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from attar.core.settings import Range, Settings
from attar.language.correction import Contexts, Correction, correct
from attar.language.crossing import Crossing
from attar.language.generation import Sampling, Voice, generate
from attar.language.tokens import Batch, Tokeniser


@dataclass(frozen=True, kw_only=True)
class Schedule(Settings):
    """Settings for the source of the answers that the student learns from."""

    answers_by: Literal["off-policy", "on-policy", "mixed", "adaptive", "teacher"] = "off-policy"
    """Source of the answers that the student learns from. off-policy: the references. on-policy, mixed: the student
    answers whole batches, or single prompts. adaptive: DistiLLM's growing share of student answers, with a buffer.
    teacher: the teacher's answers."""
    student_share: Annotated[float, Range(0, 1)] | None = None
    """Probability λ that the student answers, for on-policy and mixed. Default: 1 for on-policy, 0.5 for mixed."""
    init_threshold: Annotated[float, Range(0, 1)] = 0.0
    """Initial share φ of the student's answers in the adaptive schedule. The scripts for larger students use 0.2."""
    threshold_step: Annotated[float, Range(0, 1)] = 0.1
    """Increase of φ when the validation loss is no longer below the previous one."""
    loss_tolerance: Annotated[float, Range(0)] = 0.1
    """Margin by which the validation loss must exceed the previous one for that increase. The scripts for larger
    students use 0.2."""
    capacity: Annotated[int, Range(1)] = 1000
    """Number of answers that the buffer holds."""

    moved = MappingProxyType({"schedule": "answers_by", "threshold": "init_threshold", "tolerance": "loss_tolerance"})

    @property
    def share(self) -> float:
        """λ."""
        return (0.5 if self.answers_by == "mixed" else 1.0) if self.student_share is None else self.student_share


@dataclass
class Store:
    """Stored answers. If the store is full, the oldest are replaced."""

    ids: Int[Tensor, "answer token"]
    prompts: Int[Tensor, " answer"]
    lengths: Int[Tensor, " answer"]
    """Lengths of the answers; 0 for an empty place."""
    put_in: int = 0

    @classmethod
    def empty(cls, capacity: int, longest: int) -> "Store":
        """A store without answers."""
        counts = torch.zeros(capacity, dtype=torch.long)
        return cls(torch.zeros(capacity, longest, dtype=torch.int32), counts, counts.clone())

    @property
    def filled(self) -> int:
        """Number of stored answers."""
        return int((self.lengths > 0).sum())

    def put(self, batch: Batch, rows: Sequence[int] | None = None) -> None:
        """Store the answers of a batch, in the given rows or in the next ones."""
        width, capacity = batch.ids.shape[1], len(self.lengths)
        for number in range(len(batch)):
            row = rows[number] if rows is not None else self.put_in % capacity
            self.ids[row, :width] = batch.ids[number].int()
            self.prompts[row], self.lengths[row] = batch.prompts[number], batch.lengths[number]
            self.put_in += 1

    def rows(self, rows: Sequence[int] | Int[Tensor, " row"], by: Tokeniser) -> Batch:
        """Some of the answers."""
        rows = torch.as_tensor(rows)
        kept = Batch(self.ids[rows].long(), self.prompts[rows], self.lengths[rows])
        return by.batch(kept.prompt_ids, kept.response_ids)


@dataclass
class Scheduled:
    """The state of a schedule."""

    threshold: float
    """φ."""
    reference: float | None = None
    """The validation loss with which a new one is compared."""
    store: Store | None = None

    @classmethod
    def start(cls, schedule: Schedule, examples: int, longest: int) -> "Scheduled":
        """The state before the first step."""
        sizes = {"adaptive": schedule.capacity, "teacher": examples}
        kept = sizes.get(schedule.answers_by)
        return cls(schedule.init_threshold, store=None if kept is None else Store.empty(kept, longest))

    def validated(self, loss: float, schedule: Schedule) -> None:
        """Process the validation loss after an epoch; the first one is measured before training."""
        if self.reference is None:
            self.reference = loss
        elif loss >= self.reference + schedule.loss_tolerance:
            self.threshold = min(1.0, self.threshold + schedule.threshold_step)
            self.reference = loss


def choice(draw: float, threshold: float, progress: float, *, full: bool) -> Literal["fresh", "stored", "data"]:
    """The source of a batch in the adaptive schedule.

    Args:
        draw: r, uniform from 0 to 1.
        threshold: φ.
        progress: Share of all steps that is done. The share of fresh answers falls with it.
        full: Whether the buffer is full.
    """
    if draw < threshold * (1 - progress) or (draw < threshold and not full):
        return "fresh"
    return "stored" if draw < threshold else "data"


@dataclass(frozen=True)
class Drawn:
    """A batch on which a divergence is taken."""

    batch: Batch
    origin: Literal["data", "fresh", "stored", "mixed", "teacher"]
    corrected: float | None = None
    """The share of the student's answers that were corrected, if the student answered."""


@dataclass(frozen=True)
class Answers:
    """Student and teacher, ready to answer prompts."""

    student: Voice
    teacher: nn.Module | None
    by: Tokeniser
    schedule: Schedule
    correction: Correction
    sampling: Sampling
    context: Contexts = nullcontext
    crossing: Crossing | None = None
    """The way to the teacher's tokens, if it reads its own."""

    def draw(
        self,
        reference: Batch,
        rows: Sequence[int],
        memory: Scheduled,
        progress: float,
        coin: torch.Generator,
        generator: torch.Generator,
    ) -> Drawn:
        """The batch that the schedule gives in place of the references, or the references.

        Args:
            reference: The references, on the CPU.
            rows: Numbers of the training rows.
            memory: The state of the schedule. Answers are added to it.
            progress: Share of all steps that is done.
            coin: Generator for the source of the answers, on the CPU.
            generator: Generator for tokens, on the device of the models.
        """
        kind, share = self.schedule.answers_by, self.schedule.share
        if kind == "teacher":
            return Drawn(self._by_teacher(reference, rows, memory, generator), "teacher")
        if kind == "on-policy":
            return self._fresh(reference, generator) if _toss(coin) < share else Drawn(reference, "data")
        if kind == "mixed":
            return self._mixed(reference, torch.rand(len(reference), generator=coin) < share, generator)
        if kind == "adaptive":
            store = memory.store
            assert store is not None
            full = store.filled == len(store.lengths)
            origin = choice(_toss(coin), memory.threshold, progress, full=full)
            if origin == "fresh":
                drawn = self._fresh(reference, generator)
                store.put(drawn.batch)
                return drawn
            if origin == "stored":
                picks = torch.randperm(store.filled, generator=coin)[: len(reference)]  # no answer twice in a batch
                return Drawn(store.rows(picks, self.by), "stored")
        return Drawn(reference, "data")

    def limits(self, prompts: Sequence[Sequence[int]]) -> list[int]:
        """The largest number of tokens of each answer."""
        most = self.sampling.new_tokens or self.by.max_length
        return [max(1, min(most, self.by.max_length - len(prompt))) for prompt in prompts]

    def answered(self, prompts: Sequence[Sequence[int]], generator: torch.Generator) -> tuple[list[list[int]], float]:
        """The student's answers, corrected if the settings say so, and the share that was corrected."""
        limits = self.limits(prompts)
        with self.context():
            said = generate(self.student, prompts, limits, generator)
        if not self.correction.corrections or self.teacher is None:
            return said, 0.0
        said, changed = correct(
            self.student, self.teacher, prompts, said, limits, self.correction, generator, context=self.context
        )
        return said, sum(changed) / max(len(changed), 1)

    def _fresh(self, reference: Batch, generator: torch.Generator) -> Drawn:
        prompts = reference.prompt_ids
        said, corrected = self.answered(prompts, generator)
        return Drawn(self.by.batch(prompts, said), "fresh", corrected)

    def _mixed(self, reference: Batch, mine: Tensor, generator: torch.Generator) -> Drawn:
        prompts, answers = reference.prompt_ids, reference.response_ids
        asked = mine.nonzero().flatten().tolist()
        if not asked:
            return Drawn(reference, "data")
        said, corrected = self.answered([prompts[row] for row in asked], generator)
        for row, answer in zip(asked, said, strict=True):
            answers[row] = answer
        return Drawn(self.by.batch(prompts, answers), "mixed", corrected)

    def _by_teacher(
        self, reference: Batch, rows: Sequence[int], memory: Scheduled, generator: torch.Generator
    ) -> Batch:
        store = memory.store
        assert store is not None
        new = [number for number, row in enumerate(rows) if store.lengths[row] == 0]
        if new:
            assert self.teacher is not None
            prompts = [reference.prompt_ids[number] for number in new]
            limits = self.limits(prompts)
            with self.context():
                if self.crossing is not None:
                    said = self.crossing.answers(self.teacher, prompts, limits, self.sampling, generator)
                else:
                    said = generate(replace(self.student, model=self.teacher), prompts, limits, generator)
            store.put(Batch.of(prompts, said), [rows[number] for number in new])
        return store.rows(list(rows), self.by)


def _toss(coin: torch.Generator) -> float:
    return float(torch.rand((), generator=coin))
