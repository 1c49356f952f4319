"""What the scores of a sampler are read with: real samples, its teacher in full and in few calls, and pairs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from attar.core.errors import Diverged, InputError
from attar.core.registry import registered
from attar.core.runtime import Runtime
from attar.core.training import affordable, cached, is_cached, seconds_for
from attar.samplers import metrics
from attar.samplers.artefact import Sampler
from attar.samplers.comparing import Comparison, Drawn, Scores, draw, seconds_of
from attar.samplers.schedules import SMALL
from attar.samplers.scoring import Scoring
from attar.samplers.sources import Source
from attar.samplers.tasks import Teacher
from attar.samplers.teaching import Work, check_alike

SECONDS = "seconds per 1,000 samples"


@dataclass(frozen=True)
class Rival:
    """Something that was measured as a sampler is."""

    label: str
    scores: Scores
    calls: int | None = None
    bytes: int | None = None
    drawn: Drawn | None = None
    """Its samples, if it draws any from noise."""


@dataclass(frozen=True)
class Given:
    """How the samples of a row were drawn, so that rivals draw from the same noise."""

    drawn: Drawn
    seed: int
    count: int


def rivals_of(one: Sampler, given: Given, against: Comparison, how: Scoring) -> Iterator[Rival]:
    """Everything that a sampler is compared with.

    Args:
        one: The sampler.
        given: Its samples, and how they were drawn.
        against: The real samples.
        how: Settings.
    """
    runtime = against.runtime
    if how.beside == "skip":
        return
    yield from real_rivals(against)
    teacher = teacher_of(one, against.source, how, runtime)
    if teacher is None:
        return
    for name, other, steps in (
        ("teacher", teacher, None),
        ("teacher", teacher, levels_within(one.calls, teacher)),
        ("pairs", pairs_of(one, teacher, against.source, how, runtime), None),
    ):
        if other is not None and not (steps is not None and steps >= other.steps):
            yield from _measured(name, other, steps, one, given, against, how)


def real_rivals(against: Comparison) -> Iterator[Rival]:
    """Real samples: halves of the training samples, those of the other part, and fresh draws of a law that is known."""
    if against.source.law is not None:
        yield Rival(f"{against.count:,} fresh draws", against.fresh())
        return
    count, scores = against.halves()
    yield Rival(f"two real halves, {count:,} each", scores)
    other = against.other_part()
    if other:
        yield Rival("real samples of the other split", other)


def _measured(
    name: str, other: Sampler, steps: int | None, one: Sampler, given: Given, against: Comparison, how: Scoring
) -> Iterator[Rival]:
    """Another sampler from the same noise and labels, if that takes no longer than ten minutes."""
    calls = other.calls if steps is None else other.calls_at(steps)
    label = f"{name}, {calls} call{'s' if calls > 1 else ''}"
    seconds = given.drawn.seconds * given.count / 1000 * calls / one.calls
    if not affordable(label, seconds, how.beside, against.runtime):
        return
    against.runtime.say(f"beside it, {label}")
    drawn = draw(other, given.drawn.labels, given.count, given.seed, against.runtime, steps)
    try:
        scores = against.measured(drawn.samples, drawn.labels)
    except InputError as error:
        against.runtime.say(f"{label} is left out: {error}")
        return
    yield Rival(label, scores | {SECONDS: seconds_of(drawn)}, calls, other.bytes, drawn)


def levels_within(calls: int, teacher: Sampler) -> int:
    """The most noise levels of a teacher in so many calls, and one in any case."""
    return max((steps for steps in range(1, calls + 1) if teacher.calls_at(steps) <= calls), default=1)


@dataclass(frozen=True)
class AtCalls:
    """Precision and recall of a sampler at a number of calls."""

    calls: int
    precision: float
    recall: float


def curve(other: Sampler, given: Given, against: Comparison, one: Sampler, most: float) -> list[AtCalls]:
    """Precision and recall of a sampler at several numbers of noise levels, from the same noise.

    Args:
        other: The sampler.
        given: The samples of a row, and how they were drawn.
        against: The real samples.
        one: Their sampler, whose time is known.
        most: Seconds; nothing is measured that would take longer.
    """
    tried = sorted({1, 2, 3, 5, 9, 18, other.steps} if other.solver == "heun" else {1, 2, 4, 8, other.steps})
    tried = [steps for steps in tried if steps <= other.steps or other.solver == "few-step"]
    each = given.drawn.seconds * given.count / 1000 / one.calls
    if each * sum(map(other.calls_at, tried)) > most:
        return []
    found = []
    for steps in tried:
        drawn = draw(other, given.drawn.labels, given.count, given.seed, against.runtime, steps)
        if drawn.samples.isfinite().all():
            new, real = against.seen(drawn.samples).features[0], against.train
            around = metrics.neighbourhoods(real.features[0], new, against.k, real_radii=real.radii)
            found.append(AtCalls(other.calls_at(steps), around.precision, around.recall))
    return found


# ------------------------------------------------------------------------------------------------------------- teachers


def teacher_of(one: Sampler, source: Source, how: Scoring, runtime: Runtime) -> Sampler | None:
    """The teacher of a student: as it is given; or its own, from its folder or the cache; None of no student.

    Raises:
        InputError: The teacher that is given cannot be used.
    """
    asked = how.teacher != Teacher()
    if one.origin.teacher is None:
        if asked:
            runtime.say(f"note: {one.title} has no teacher, so --teacher plays no part.")
        return None
    found = how.teacher.found(source, runtime) if asked else _own(one, source, how, runtime)
    if found is None:
        runtime.say("note: the teacher is not at hand. Give --teacher FOLDER to have it beside the student.")
        return None
    check_alike("the teacher", found, source)
    if Work(source, found).fingerprint != one.origin.fingerprint:
        if not asked:
            runtime.say("note: the teacher is not at hand, or the data differ. Give --teacher FOLDER.")
            return None
        runtime.say("note: the teacher or the data are others than those that this student learned from.")
    return found


def _own(one: Sampler, source: Source, how: Scoring, runtime: Runtime) -> Sampler | None:
    """The teacher that the call of a student names, if it need not be trained, or training was asked for."""
    told = (one.origin.call or {}).get("task", {})
    mine = told.get("teacher", {}) if isinstance(told, Mapping) else {}
    try:
        teacher = Teacher.from_json(mine)
        folder = None if teacher.network is None else _folder(str(teacher.network), one)
        if folder is not None:
            teacher = replace(teacher, network=str(folder))
        elif how.beside != "run" and not _is_cached(teacher, source, runtime):
            return None
        found: Sampler = teacher.found(source, runtime)
        return found
    except InputError:
        return None


def _folder(named: str, one: Sampler) -> Path | None:
    """A folder as it was typed, or of the same name beside the student's."""
    places = [Path(named), *([one.folder.parent / Path(named).name] if one.folder else [])]
    return next((place for place in places if place.is_dir()), None)


def _is_cached(teacher: Teacher, source: Source, runtime: Runtime) -> bool:
    from attar.samplers.edm import EDM

    method, work = EDM(network=teacher.network or "auto", steps=teacher.steps), Work(source)
    return is_cached(method.resolve(work, runtime), work, 0)


def pairs_of(one: Sampler, teacher: Sampler, source: Source, how: Scoring, runtime: Runtime) -> Sampler | None:
    """A student that regresses on pairs of noise and the teacher's samples, if training it takes ten minutes at most.

    It is kept in the cache.
    """
    if one.origin.method == "pairs":
        return None
    entry = registered("pairs", "distill")
    if entry is None:
        runtime.say("pairs are not measured beside it: there is no such method here.")
        return None
    zero, work = runtime.with_seed(0), Work(source, teacher)
    method = entry.load()().resolve(work, zero)
    if how.beside == "auto" and not is_cached(method, work, 0):
        quick = len(source.shape) == 1 or max(source.shape[1:], default=0) <= SMALL
        if not quick and not affordable("a student of pairs", seconds_for(method, work, zero), how.beside, runtime):
            return None
    try:
        found: Sampler = cached(method, work, zero, title="beside it, pairs")
    except Diverged as error:
        runtime.say(f"pairs are left out: {error}")
        return None
    return found
