"""What students that write keep, read anew from their folders: several numbers, to be read together.

Each student is measured as it was made: with its own lengths, and answering as it answered then. Students that differ
in their seed alone are repeats of one row.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score
from attar.core.settings import flat
from attar.language.artefact import DistilledLanguageModel
from attar.language.distillation import DistillLanguage
from attar.language.evaluation import Measures, told
from attar.language.models import causal_model
from attar.language.pair import Model
from attar.language.rouge import porter
from attar.language.sources import TextSource
from attar.language.verbs import evaluate as measure

ROUND = 10
"""Seeds of the rounds of answers lie so far apart: 10, 20, 30, 40, 50, as the field has them."""

LENGTHS = ("max_length", "max_prompt", "context")
"""What a student's text is cut to, as its settings have it."""


@dataclass(frozen=True)
class StudentScore:
    """One student on the test part."""

    seed: int
    """Of the run that made it."""
    parameters: int
    measures: Measures
    kept: float | None
    """The teacher's perplexity over the student's, in per cent, where the teacher's is known."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"seed": self.seed, "parameters": self.parameters, "kept": self.kept, **self.measures.to_json()}


@dataclass(frozen=True)
class Row:
    """Students that differ in their seed alone."""

    name: str
    """What tells them from other rows."""
    students: tuple[StudentScore, ...]

    @property
    def measures(self) -> Measures:
        """Means over the students, each with their spread; of a student alone, over its rounds of answers."""
        return Measures.pooled([student.measures for student in self.students])

    @property
    def kept(self) -> Score | None:
        """The mean of what they keep."""
        found = [student.kept for student in self.students if student.kept is not None]
        return Score.of(found) if found else None

    def to_json(self) -> dict[str, Any]:
        """Plain values, each measure with its unit, its spread and how many values it is the mean of."""
        scores = {name: score and dataclasses.asdict(score) for name, score in vars(self.measures).items()}
        return {"name": self.name, **scores, "students": [student.to_json() for student in self.students]}

    def __str__(self) -> str:
        many = f", {len(self.students)} seeds" if len(self.students) > 1 else ""
        lines = [f"{self.name}{many}: {self.measures}"]
        if self.kept is not None:
            lines.append(f"kept: {told(self.kept, 1)} % (the teacher's perplexity over the student's)")
        return "\n  ".join("\n".join(lines).splitlines())


@dataclass(frozen=True)
class Evaluation:
    """Students by one method with different seeds, or by several."""

    data: str
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"data": self.data, "rows": [row.to_json() for row in self.rows]}

    def __str__(self) -> str:
        return "\n".join(map(str, self.rows))


def evaluate(
    students: Sequence[DistilledLanguageModel],
    source: TextSource,
    *,
    repeats: int = 5,
    seed: int = 0,
    answers: int = 64,
    teacher: Model = None,
    stem: Literal["none", "porter"] = "none",
    engine: Engine | None = None,
    say: Callable[[str], None] | None = None,
) -> Evaluation:
    """Measure students on the test part of some data.

    Args:
        students: By one method with different seeds, or by several.
        source: The data.
        repeats: Rounds of answers.
        seed: What the rounds' own seeds are counted from: 10, 20, ... beyond it.
        answers: How many test prompts each student answers in a round; 0 for the cross-entropy alone.
        teacher: For the excess error, and for what is kept of it on these data; a causal model of the same vocabulary.
        stem: How ROUGE-L's words are shortened; porter, as the field's scorer has it, needs NLTK.
        engine: How to use the machine.
        say: Told what happens.

    Raises:
        InputError: A teacher of another vocabulary, or data that the students cannot read.
    """
    if repeats < 1 or answers < 0:
        wrong = f"repeats is {repeats}; it must be at least 1" if repeats < 1 else f"answers is {answers}, below 0"
        raise InputError(f"{wrong}.")
    if not students:
        raise InputError("there is no student to evaluate.")
    runtime = Runtime(engine, seed, say=say)
    teacher = causal_model(teacher) if isinstance(teacher, (str, Path)) else teacher
    asked = {
        "answers": answers,
        "seeds": [seed + ROUND * number for number in range(1, repeats + 1)],
        "stem": porter() if stem == "porter" else None,
        "engine": engine,
    }
    rows = []
    for name, alike in _rows(students).items():
        if any(student.origin.content not in (None, source.fingerprint) for student in alike):
            runtime.say(f"note: {source.name} is not, row for row, the text of {name}.")
        runtime.say(f"measuring {name}")
        scores = runtime.processes.once(partial(_scores, alike, source, teacher, asked))
        rows.append(Row(name, tuple(scores)))
    return Evaluation(source.name, tuple(rows))


def _scores(
    students: Sequence[DistilledLanguageModel], source: TextSource, teacher: Model, asked: dict[str, Any]
) -> list[StudentScore]:
    return [_score(student, source, teacher, asked) for student in students]


def _score(student: DistilledLanguageModel, source: TextSource, teacher: Model, asked: dict[str, Any]) -> StudentScore:
    method = DistillLanguage.from_json(student.origin.settings)
    lengths = {name: getattr(method, name) for name in LENGTHS}
    found = measure(student, source, teacher=teacher, sampling=method.sampling, **lengths, **asked)
    same = student.origin.source == source.name and student.origin.content in (None, source.fingerprint)
    theirs = student.scores.get("teacher", {}).get("perplexity") if same else None
    if teacher is not None:
        alone = {"tokenizer": student.tokenizer, "engine": asked["engine"], "answers": 0}
        theirs = measure(teacher, source, **lengths, **alone).perplexity
    kept = None if theirs is None else 100 * theirs / found.perplexity
    return StudentScore(student.origin.seed, student.origin.parameters, found, kept)


def _rows(students: Sequence[DistilledLanguageModel]) -> dict[str, list[DistilledLanguageModel]]:
    """Students that differ in their seed alone, by what tells them from the others: the settings that are not alike."""
    facts = [
        {"source": s.origin.source, "fingerprint": s.origin.fingerprint, **dict(flat(s.origin.settings))}
        for s in students
    ]
    apart = [name for name in facts[0] if len({str(fact.get(name)) for fact in facts}) > 1]
    rows: dict[str, list[DistilledLanguageModel]] = {}
    for student, fact in zip(students, facts, strict=True):
        what = [f"student of {student.origin.source}", *(f"{name} {fact.get(name)}" for name in apart)]
        rows.setdefault(", ".join(what), []).append(student)
    return rows
