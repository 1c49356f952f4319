"""The Python functions that distil, train and evaluate language models."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn

from attar.core.arguments import check_names, with_checked_arguments
from attar.core.errors import InputError
from attar.core.kinds import kind_for
from attar.core.provenance import Call, asked_for
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score
from attar.core.tasks import Task
from attar.language.answers import StoredAnswers
from attar.language.artefact import DistilledLanguageModel
from attar.language.crossing import their_tokeniser
from attar.language.distillation import DistillLanguage
from attar.language.evaluation import AT, Measures, measured
from attar.language.generation import Sampling
from attar.language.kind import KIND
from attar.language.models import check_runs
from attar.language.offloaded import placed
from attar.language.pair import LanguagePair, Model, paired
from attar.language.placement import Teacher
from attar.language.reading import Reading
from attar.language.rouge import Stem
from attar.language.server import Server
from attar.language.sources import load
from attar.language.storing import StoreAnswers
from attar.language.tasks import Distill, Label
from attar.language.tokens import Tokeniser

Say = Callable[[str], None]


@with_checked_arguments
def distill(
    data: Any = "phrases",
    method: DistillLanguage | None = None,
    *,
    teacher: Model | Teacher = None,
    student: Model = None,
    tokenizer: Any = None,
    corpus: Any = None,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
    answers: int = 32,
    stored_answers: StoredAnswers | str | Path | None = None,
    server: Server | None = None,
) -> DistilledLanguageModel:
    """Distil a causal language model into a smaller one, and measure both on the test part, once, at the end.

    Args:
        data: A source, or anything that `attar.language.load` takes.
        method: Settings. Default: `DistillLanguage()`.
        teacher: A causal model of transformers, a distilled one, the folder of either, or a name on the hub;
            or `Teacher(model=..., device_map="auto")` with the place of a large one.
        student: A model in the same forms, in place of the method's student. It is not changed.
        tokenizer: A tokenizer of transformers, its folder or its name on the hub, if no model has one.
        corpus: Further text in the same formats as the data. Its cross-entropy is added, so that the student forgets
            less.
        out: Folder for the student. An unfinished run in it is resumed, a finished one is read.
        seed: Seed of every generator in the run.
        engine: How to use the machine.
        say: Called with each line of progress. Default: silent.
        answers: Number of test prompts that both answer for ROUGE-L, length, repetition and the excess error; 0 for
            none.
        stored_answers: A teacher's answers to the training references (see `label`), or their folder. No teacher is
            needed then; one that is given as well is asked about the student's own answers only.
        server: A server that answers the training prompts in the teacher's place, for answers_by="teacher".

    Raises:
        InputError: Teacher, student, data and settings do not fit one another; nothing is lost.
        Interrupted: Stopped by Ctrl-C, SIGTERM or SIGHUP; the same call resumes the run.
    """
    method = DistillLanguage() if method is None else method
    if isinstance(student, (str, Path)):
        method, student = replace(method, student=str(student)), None
    task = Distill(
        teacher=teacher if isinstance(teacher, Teacher) else Teacher(model=teacher),
        module=student,
        tokenizer=tokenizer,
        corpus=corpus,
        answers=answers,
        stored_answers=stored_answers,
        server=server or Server(),
    )
    made: DistilledLanguageModel = _run("distill", data, method, task, out, Runtime(engine, seed, say=say))
    return made


@with_checked_arguments
def label(
    data: Any = "phrases",
    method: StoreAnswers | None = None,
    *,
    teacher: Model | Teacher,
    out: str | Path,
    tokenizer: Any = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
    answers: int = 32,
) -> StoredAnswers:
    """Store a teacher's distribution of every token of the training references, so that students train without it.

    Args:
        data: A source, or anything that `attar.language.load` takes.
        method: Settings. Default: `StoreAnswers()`.
        teacher: A causal model of transformers, a distilled one, the folder of either, or a name on the hub; or any of
            these with its place and precision.
        out: Folder for the answers. An unfinished run in it is resumed, a finished one is read.
        tokenizer: A tokenizer of transformers, its folder or its name on the hub, if the model has none.
        seed: Seed that is stored with the answers.
        engine: How to use the machine.
        say: Called with each line of progress. Default: silent.
        answers: Number of test prompts that the teacher answers, for the scores beside a student's; 0 for none.

    Raises:
        InputError: Teacher, data and settings do not fit one another, or the teacher rules out tokens.
        Interrupted: Stopped by Ctrl-C, SIGTERM or SIGHUP; the same call resumes the run.
    """
    given = teacher if isinstance(teacher, Teacher) else Teacher(model=teacher)
    task = Label(teacher=given, tokenizer=tokenizer, answers=answers)
    runtime, method = Runtime(engine, seed, say=say), StoreAnswers() if method is None else method
    made: StoredAnswers = _run("label", data, method, task, out, runtime)
    return made


def _run(verb: str, data: Any, method: Any, task: Task, out: str | Path | None, runtime: Runtime) -> Any:
    """One run, whose artefact remembers by which call it was made."""
    kind_for(method, verb)
    source = load(data)
    name, known = asked_for(source)
    runtime.call = Call.of(verb, KIND.name, name, Reading.from_json(known), task, method)
    return task.run(method, source, runtime, kind=KIND, out=Path(out).expanduser() if out else None)


@with_checked_arguments
def train(
    data: Any = "phrases",
    model: str = "gpt2:layers=4,width=128",
    *,
    tokenizer: Any = None,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
    answers: int = 32,
    **settings: Any,
) -> DistilledLanguageModel:
    """Train a causal language model on the references alone: a teacher, or the baseline that distillation has to beat.

    Args:
        data: A source, or anything that `attar.language.load` takes.
        model: A fresh model by kind and sizes, a folder, or a name on the hub.
        tokenizer: As for `distill`. If there is none, it is learned from the data.
        out: Folder, resumed and read as in `distill`.
        seed: Seed of every generator in the run.
        engine: How to use the machine.
        say: Called with each line of progress.
        answers: Number of test prompts that the model answers.
        settings: Settings of `DistillLanguage` by their own names: epochs, lr, batch, max_length, select, ...

    Raises:
        InputError: Model, data and settings do not fit one another.
    """
    check_names(train, settings, DistillLanguage.names())
    method = DistillLanguage.of(**{"divergence": "none", "student": model, **settings})
    return distill(data, method, tokenizer=tokenizer, out=out, seed=seed, engine=engine, say=say, answers=answers)


@with_checked_arguments
def evaluate(
    model: Model,
    data: Any = "phrases",
    *,
    teacher: Model = None,
    tokenizer: Any = None,
    part: str = "test",
    rows: int | None = None,
    answers: int = 64,
    seeds: int | Sequence[int] = (10, 20, 30, 40, 50),
    max_length: int | None = None,
    max_prompt: int | None = None,
    context: int = 16,
    sampling: Sampling | None = None,
    stem: Stem | None = None,
    error_at: int = AT,
    engine: Engine | None = None,
) -> Measures:
    """Measure a language model on data.

    Args:
        model: A distilled model, a causal model of transformers, a folder, or a name on the hub.
        data: A source, or anything that `attar.language.load` takes.
        teacher: A model of the same vocabulary, for the excess error.
        tokenizer: A tokenizer, if the model has none.
        part: test, validation or train.
        rows: Number of rows, from the start, on which the cross-entropy is measured. Default: all.
        answers: Number of prompts that the model answers; 0 for none.
        seeds: Seeds; one round of answers for each (the field uses five).
        max_length: Largest number of tokens of a prompt and its response. Default: 512, or what the model reads.
        max_prompt: Largest number of tokens of a prompt. Default: half of `max_length`.
        context: Number of tokens of plain text that are a block's prompt.
        sampling: How the model samples answers. Default: at temperature 1.
        stem: Stemmer for ROUGE-L: `attar.language.porter()` for the field's numbers. Default: words are not stemmed.
        error_at: Number of tokens after which the excess error is read.
        engine: How to use the machine.

    Raises:
        InputError: There is no such model or data, or they do not fit one another.
    """
    if model is None:
        raise InputError("evaluate needs a model. Give one.")
    if part not in ("train", "validation", "test"):
        raise InputError(f"part is {part!r}; it must be train, validation or test.")
    whole = {"rows": (rows, 1), "answers": (answers, 0), "max_length": (max_length, 2), "max_prompt": (max_prompt, 1)}
    for name, (value, least) in (whole | {"context": (context, 0), "error_at": (error_at, 1)}).items():
        if value is not None and value < least:
            raise InputError(f"{name} is {value}; it must be at least {least}.")
    seeds = [seeds] if isinstance(seeds, int) else list(seeds)
    if answers and not seeds:
        raise InputError("seeds is empty, but each round of answers needs one. Give a seed, or answers=0.")
    pair, runtime = paired(load(data), teacher, model, tokenizer, called="model"), Runtime(engine)
    if pair.student is None:
        raise InputError(f"the model is {str(model)!r}, which is not trained yet. Train it first, by language.train.")
    longest, prompt = pair.lengths_for(
        SimpleNamespace(max_length=max_length, max_prompt=max_prompt), of="the models read"
    )
    by = Tokeniser(pair.tokenizer, longest, prompt, context, words=pair.words)
    for who, one in (("model", pair.student), ("teacher", pair.teacher)):
        if one is not None:
            check_runs(one, who, pair.words, answers=answers > 0)
    return _measured(
        pair.student, pair.teacher, pair, by, part, rows, answers, seeds, sampling, stem, error_at, runtime
    )


def scores_of(
    model: nn.Module, pair: LanguagePair, method: DistillLanguage, runtime: Runtime, answers: int
) -> dict[str, Any]:
    """Measures of student and teacher on the test part, and the teacher's perplexity divided by the student's.

    The cross-entropy of a teacher that reads its own tokens is told in nats per token of the student, so that both are
    of the same text.
    """
    by = method.tokeniser(pair)
    common = ("test", None, answers, (10,), method.sampling, None, AT, runtime)
    mine = _measured(model, pair.teacher if pair.foreign is None else None, pair, by, *common)
    if pair.teacher is None:
        return _beside_stored(mine, pair, method, answers)
    alike = pair.foreign is None
    teachers = _measured(pair.teacher, None, pair, by, *common) if alike else _apart(pair, by, common)
    found = {"student": mine.to_json(), "teacher": teachers.to_json()}
    kept = 100 * teachers.perplexity / mine.perplexity
    return {**found, "kept": kept} if math.isfinite(kept) else found


def teacher_scores(pair: LanguagePair, method: StoreAnswers, runtime: Runtime, answers: int) -> dict[str, Any]:
    """Measures of the teacher on the test part, and how many prompts it answered for them."""
    by = method.tokeniser(pair)
    found = _measured(pair.teacher, None, pair, by, "test", None, answers, (10,), None, None, AT, runtime)
    return {**found.to_json(), "answers": answers}


def _beside_stored(mine: Measures, pair: LanguagePair, method: DistillLanguage, answers: int) -> dict[str, Any]:
    """Measures of a student, beside those of the teacher whose answers are stored, where they are of the same rows.

    The excess error needs the teacher itself. What is measured of its answers counts if they were as many, and sampled
    in the same way.
    """
    found = {"student": mine.to_json()}
    stored = pair.stored
    if stored is None or stored.origin.content != pair.data.fingerprint or not stored.scores:
        return found
    teachers = {name: value for name, value in stored.scores.items() if name != "answers"}
    if stored.scores.get("answers") != answers or method.sampling != Sampling():
        teachers = {name: teachers[name] for name in ("cross_entropy", "perplexity") if name in teachers}
    kept = 100 * teachers.get("perplexity", math.nan) / mine.perplexity
    return {**found, "teacher": teachers, **({"kept": kept} if math.isfinite(kept) else {})}


def _apart(pair: LanguagePair, by: Tokeniser, common: tuple[Any, ...]) -> Measures:
    """Measures of a teacher with its own tokenizer, its cross-entropy per token of the student."""
    alone, theirs = pair.of_teacher(), their_tokeniser(pair, by)
    found = _measured(pair.teacher, None, alone, theirs, *common)
    one, other = alone.tokens("test", theirs), pair.tokens("test", by)
    share = one.count / max(other.count, 1)
    if one.cut or other.cut:  # then the two have read different lengths of the text
        share *= other.letters / max(one.letters, 1)
    return replace(found, cross_entropy=Score(found.cross_entropy.value * share, "nats", "lower"))


def _measured(
    model: nn.Module | None,
    teacher: nn.Module | None,
    pair: LanguagePair,
    by: Tokeniser,
    part: str,
    rows: int | None,
    answers: int,
    seeds: Sequence[int],
    sampling: Sampling | None,
    stem: Stem | None,
    at: int,
    runtime: Runtime,
) -> Measures:
    assert model is not None
    tokens = pair.tokens(part, by)
    here = placed(model, runtime.device)
    teacher = None if teacher is None else placed(teacher, runtime.device).eval()
    voice = pair.voice(here, sampling or Sampling())
    count = len(tokens) if rows is None else min(rows, len(tokens))
    return measured(
        voice,
        tokens,
        range(count),
        answers=min(answers, count),
        seeds=seeds,
        teacher=teacher,
        stem=stem,
        at=at,
        context=runtime.autocast,
    )
