"""A teacher, a student and text around a distillation, and what both score when it is done."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

from attar.core import tasks
from attar.core.settings import Hidden, Range, Words


@dataclass(frozen=True, kw_only=True)
class Distill(tasks.Task):
    """What a student learns from besides the data."""

    teacher: Annotated[Any, Words()] = None
    """A trained network: a causal model of transformers, by its folder or its name on the hub; left out, a student
    alone."""
    module: Annotated[Any, Hidden()] = None
    """A student of one's own, in place of the method's: a model, which is left as it is."""
    tokenizer: Annotated[Any, Words()] = None
    """A tokenizer's folder or name, where no model brings one."""
    corpus: Annotated[Any, Words()] = None
    """Further text, read as data are, whose cross-entropy is added (--corpus-weight), so that the student forgets
    less."""
    answers: Annotated[int, Range(0)] = 32
    """Test prompts that are answered by both; 0 for none. They give ROUGE-L, length, repetition and excess error."""

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """Teacher, student and data in one vocabulary; the method with the student that it is to train."""
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
        return paired(source, self.teacher, student, self.tokenizer, corpus), method

    def score(self, made: Any, work: Any, method: Any, runtime: Any) -> Any:
        """Student and teacher on the test part, once, at the end."""
        from attar.language.verbs import scores_of

        return replace(made, scores=scores_of(made.model, work, method, runtime, self.answers))
