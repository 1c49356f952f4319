"""Measure students from their folders, with several numbers that should be read together.

Each student is measured with the lengths and the sampling of its own settings. Students that differ only in their seed
are repeats of one row.
"""

import itertools
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attar.core.cell import Cell, Measure
from attar.core.errors import InputError
from attar.core.evaluation import Evaluation, Row
from attar.core.rows import rows_of
from attar.core.runtime import Runtime
from attar.core.score import Score
from attar.language.artefact import DistilledLanguageModel
from attar.language.distillation import DistillLanguage
from attar.language.evaluation import Measures
from attar.language.models import causal_model
from attar.language.pair import Model
from attar.language.rouge import porter
from attar.language.scoring import Scoring
from attar.language.sources import TextSource
from attar.language.verbs import evaluate

FURTHER = {
    "rouge_l": "ROUGE-L",
    "length_ratio": "length of the references'",
    "repetition": "repeated",
    "excess_error": "excess error on its own answers",
}
"""The measures reported with the cross-entropy, in words."""
ROUND = 10
"""Distance of the seeds of the rounds of answers: 10, 20, 30, 40, 50, as in the field."""

LENGTHS = ("max_length", "max_prompt", "context")
"""Settings of the lengths to which a student's text is cut."""


def measure(
    students: Sequence[DistilledLanguageModel], source: TextSource, how: Scoring, runtime: Runtime
) -> Evaluation:
    """Measure students on the test part of some data.

    Args:
        students: Students by one or several methods. Those that differ only in their seed make one row.
        source: The data.
        how: Number of rounds and of answers, the teacher, and the stemmer of ROUGE-L.
        runtime: The machine, and the seed to which the rounds' seeds 10, 20, ... are added.

    Raises:
        InputError: There is no student, the teacher has another vocabulary, or the students cannot read the data.
    """
    if not students:
        raise InputError("there is no student to evaluate.")
    start, teacher = time.perf_counter(), how.teacher
    teacher = causal_model(teacher) if isinstance(teacher, (str, Path)) else teacher
    asked = {
        "answers": how.answers,
        "seeds": [runtime.seed + ROUND * number for number in range(1, how.repeats + 1)],
        "stem": porter() if how.stem == "porter" else None,
        "engine": runtime.engine,
    }
    rows = []
    for label, alike in rows_of(students, lambda one: {"of": one.origin.source, "data": one.origin.fingerprint}):
        if any(student.origin.content not in (None, source.fingerprint) for student in alike):
            runtime.say(f"note: {source.name} differs from the text of {label}, compared row for row.")
        scored = []
        for number, student in enumerate(alike, start=1):
            runtime.say(f"measuring {label}, student {number} of {len(alike)}")
            scored.append(runtime.processes.once(partial(_score, student, source, teacher, asked)))
        sizes = {"count": alike[0].origin.parameters, "full_count": alike[0].origin.teacher_parameters}
        rows.append(Row.of(label, alike, [_cell(scored)], **sizes))
    seconds = round(time.perf_counter() - start, 3)
    return Evaluation(tuple(rows), "parameters", "students", "rounds of answers", seconds)


Scored = tuple[Measures, float | None]
"""What was measured of a student, and its teacher's cross-entropy where that is known."""


def _cell(scored: Sequence[Scored]) -> Cell:
    """The cross-entropy of students that differ only in their seed, with all other measures."""
    several = [measures for measures, _ in scored]
    teachers = [theirs for _, theirs in scored]
    known = [value for value in teachers if value is not None]
    further = {"perplexity": Measure.of([[one.perplexity] for one in several], "", "lower")}
    for name, word in FURTHER.items():
        score = getattr(several[0], name)
        values = [one.rounds.get(name, ()) for one in several]
        if score is not None and all(values) and all(map(math.isfinite, itertools.chain(*values))):
            further[word] = Measure.of(values, score.unit, score.better)
    return Cell.of(
        [[one.cross_entropy.value] for one in several],
        "nats",
        "lower",
        column="cross-entropy",
        full=Score.of(known, "nats", "lower") if known else None,
        whole="its teacher",
        kept_by_set=tuple(
            None if theirs is None else _share(theirs, one.cross_entropy.value)
            for one, theirs in zip(several, teachers, strict=True)
        ),
        further=further,
    )


def _share(teacher: float, student: float) -> float | None:
    """The teacher's perplexity over the student's in per cent, from their cross-entropies; None if it has no number."""
    gap = teacher - student
    return 100 * math.exp(gap) if -700 < gap < 700 else None


def _score(student: DistilledLanguageModel, source: TextSource, teacher: Model, asked: dict[str, Any]) -> Scored:
    """Measure one student with the lengths and the sampling of its own settings."""
    method = DistillLanguage.from_json(student.origin.settings)
    lengths = {name: getattr(method, name) for name in LENGTHS}
    found = evaluate(student, source, teacher=teacher, sampling=method.sampling, **lengths, **asked)
    same = student.origin.source == source.name and student.origin.content in (None, source.fingerprint)
    theirs = student.scores.get("teacher", {}).get("cross_entropy") if same else None
    if teacher is not None:
        alone = {"tokenizer": student.tokenizer, "engine": asked["engine"], "answers": 0}
        theirs = evaluate(teacher, source, **lengths, **alone).cross_entropy.value
    return found, theirs
