"""The task of a distillation: a teacher, a student and text, and their scores at the end."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

from attar.core import tasks
from attar.core.settings import Hidden, Range, Words


@dataclass(frozen=True, kw_only=True)
class Distill(tasks.Task):
    """What a student learns from besides the data: its teacher and further text."""

    teacher: Annotated[Any, Words()] = None
    """A trained network: folder or hub name of a causal model of transformers. Without it a student is trained
    alone."""
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

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """Teacher, student and data, and the method with the student that it trains."""
        from pathlib import Path

        from attar.language.models import is_fresh
        from attar.language.pair import paired
        from attar.language.sources import load

        student = self.module
        if isinstance(student, (str, Path)):
            method, student = replace(method, student=str(student)), None
        if student is None and not is_fresh(method.student):
            student = method.student
        corpus = None if self.corpus is None else load(self.corpus)
        pair = paired(source, self.teacher, student, self.tokenizer, corpus, apart=method.alignment.aligns)
        return replace(pair, answers=self.answers), method

    def score(self, made: Any, work: Any, method: Any, runtime: Any) -> Any:
        """Score student and teacher on the test part, once, at the end."""
        from attar.language.verbs import scores_of

        return replace(made, scores=scores_of(made.model, work, method, runtime, self.answers))
