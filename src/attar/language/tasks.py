"""The tasks of language models: distilling a teacher into a student, and storing a teacher's answers."""

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from attar.core import tasks
from attar.core.errors import InputError
from attar.core.settings import Hidden, Range, Role, Words
from attar.language.placement import Teacher, check_alone
from attar.language.server import Server, check_used


@dataclass(frozen=True, kw_only=True)
class Distill(tasks.Task):
    """What a student learns from besides the data: its teacher and further text."""

    teacher: Annotated[Teacher, Role()] = field(default_factory=Teacher)
    """A teacher (`model`), where it lies if it is large, and in which precision (`device_map`, `precision`, ...)."""
    module: Annotated[Any, Hidden()] = None
    """A model of the caller's own to be used as the student, in place of the method's; it is not changed."""
    tokenizer: Annotated[Any, Words()] = None
    """Folder or name of a tokenizer, if no model has one."""
    corpus: Annotated[Any, Words()] = None
    """Further text, in the same formats as the data. Its cross-entropy is added (--corpus-weight), so that the student
    forgets less."""
    answers: Annotated[int, Range(0)] = 32
    """Test prompts that are answered by student and teacher; 0 for none. They give ROUGE-L, length, repetition and
    excess error."""
    stored_answers: Annotated[Any, Words()] = None
    """Folder of a teacher's answers, stored by attar label. No teacher is needed then; one that is given as well is
    asked about the student's answers only."""
    server: Annotated[Server, Role()] = field(default_factory=Server)
    """A server that answers the training prompts (`address`, `model`, ...)."""

    def models_of(self, method: Any) -> list[Any]:
        """The teacher and a trained student; a fresh one has its sizes behind a colon."""
        start = method.student if self.module is None else self.module
        return [one for one in (self.teacher.model, start) if isinstance(one, str) and ":" not in one]

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """Teacher, student and data, and the method with the student that it trains."""
        from attar.language.alignment import check_stored
        from attar.language.answers import opened_answers
        from attar.language.models import is_fresh
        from attar.language.pair import paired
        from attar.language.sources import load

        check_alone(self.teacher, runtime.processes.count)
        check_used(self.server, method.schedule.answers_by, source.form)
        student = self.module
        if isinstance(student, (str, Path)):
            method, student = replace(method, student=str(student)), None
        if student is None and not is_fresh(method.student):
            student = method.student
        corpus = None if self.corpus is None else load(self.corpus)
        if self.stored_answers is not None:
            check_stored(method.alignment)
        stored = opened_answers(self.stored_answers)
        apart = method.alignment.aligns
        pair = paired(source, self.teacher, student, self.tokenizer, corpus, stored, apart=apart)
        server = self.server if self.server.address else None
        return replace(pair, answers=self.answers, server=server), method

    def score(self, made: Any, work: Any, method: Any, runtime: Any) -> Any:
        """Score student and teacher on the test part, once, at the end."""
        from attar.language.verbs import scores_of

        return replace(made, scores=scores_of(made.model, work, method, runtime, self.answers))


@dataclass(frozen=True, kw_only=True)
class Label(tasks.Task):
    """Store a teacher's distribution of every token of the training references. Students then train without it."""

    teacher: Annotated[Teacher, Role()] = field(default_factory=Teacher)
    """A teacher (`model`), which runs once; where it lies if it is large, and in which precision."""
    tokenizer: Annotated[Any, Words()] = None
    """Folder or name of a tokenizer, if no model has one."""
    answers: Annotated[int, Range(0)] = 32
    """Test prompts that are answered by the teacher; 0 for none. They give ROUGE-L, length and repetition, beside which
    students are shown."""

    title = "storing answers"
    usual = "attar.language.storing:StoreAnswers"
    measured = False

    def models_of(self, method: Any) -> list[Any]:
        """The teacher."""
        return [self.teacher.model]

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """The teacher with the data, in its tokens."""
        from attar.language.pair import paired

        if self.teacher.model is None:
            raise InputError("answers are those of a teacher. Give one (--teacher).")
        if str(self.teacher.model).startswith(("http://", "https://")):
            raise InputError(
                "a server does not tell the distribution of every token. Give the teacher itself, by its folder or its "
                "name on the hub. To learn from a server's answers: attar distill language --server"
            )
        check_alone(self.teacher, runtime.processes.count)
        return replace(paired(source, self.teacher, None, self.tokenizer), answers=self.answers), method

    def run(self, method: Any, source: Any, runtime: Any, *, kind: Any, out: Path | None) -> Any:
        """One run of the engine, which needs a folder."""
        if out is None:
            raise InputError("answers are stored in a folder. Give one (out=, or --out).")
        return super().run(method, source, runtime, kind=kind, out=out)

    def score(self, made: Any, work: Any, method: Any, runtime: Any) -> Any:
        """Score the teacher on the test part, once, so that students can be compared with it."""
        from attar.language.verbs import teacher_scores

        return replace(made, scores=teacher_scores(work, method, runtime, self.answers))

    def told(self, made: Any, folder: Path | None, data: str = "") -> list[str]:
        """The size of the answers, and the command that trains on them."""
        asked = str((made.origin.call or {}).get("data") or made.origin.source)
        words = ["attar", "distill", "language", "--stored-answers", str(folder), "--data", data or asked]
        return [f"{folder}: {made.summary}", f"train:   {shlex.join(words)}"]
