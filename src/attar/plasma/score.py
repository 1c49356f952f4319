"""Emulators against their teacher on columns that they have not learned from, beside simple rivals.

The rivals learn from the same columns as the emulator: the mean profile, ridge regression of log10 I on the
standardised column, and the profile of the nearest column. What is chosen of them (the strength of the ridge) is chosen
on a tenth of those columns.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.cell import Beside, Cell, Measure
from attar.core.errors import InputError
from attar.core.evaluation import Evaluation, Row
from attar.core.rows import rows_of
from attar.core.runtime import Runtime
from attar.core.score import Score
from attar.core.seeds import permutation
from attar.plasma.answers import answered
from attar.plasma.columns import Columns
from attar.plasma.emulated import Emulator
from attar.plasma.emulator import TENTH, columns_in
from attar.plasma.features import Scaling, moved_by, moves_of
from attar.plasma.profile_errors import integrated_error, rms_over_peak
from attar.plasma.reading import called
from attar.plasma.scoring import Scoring
from attar.plasma.teachers import NAMES, teacher_named
from attar.plasma.threads import RandomThreads

ERROR, INTEGRATED, SECONDS = "rms/peak", "integrated intensity", "µs a column"
MEAN, RIDGE, NEAREST = "mean profile", "ridge", "nearest column"
MOVING = ", moving with the gas"
"""End of the names of rivals that are given what the emulator is given."""
STRENGTHS = tuple(10.0**power for power in range(-2, 6))
"""Strengths of ridge regression that are tried."""

Profiles = Float[np.ndarray, "column wavelength"]


@dataclass(frozen=True)
class Studied:
    """A row with what is needed to draw it."""

    one: Emulator
    test: Columns
    profiles: Profiles


@dataclass(frozen=True)
class Measurement(Evaluation):
    """What was measured, with what is needed to draw it."""

    studied: tuple[Studied, ...] = field(default=(), repr=False, compare=False)
    """By row."""


def measure(emulators: Sequence[Any], source: Any, how: Scoring, runtime: Runtime) -> Evaluation:
    """Compare profiles with the teacher's: a row for each method, a column for each measure.

    Args:
        emulators: Emulators. Those that differ only in their seed make one row.
        source: Columns, or random threads. Those that an emulator has learned from are measured on the held-out ones.
        how: Whether rivals are measured. Under `auto` only if there is a single row.
        runtime: The machine.

    Raises:
        InputError: There is no emulator, or the columns are answered by another teacher or at other wavelengths.
    """
    began = time.perf_counter()
    for one in emulators:
        if not isinstance(one, Emulator):
            raise InputError(f"only emulators are measured again, and this is {called(one)}.")
    grouped = rows_of(emulators, lambda one: {"teacher": one.teacher, "columns": len(one.rows)})
    if len(grouped) > 1 and how.beside == "auto":
        how = dataclasses.replace(how, beside="skip")
    columns = columns_in(source, runtime)
    found = [_row(label, members, columns, how, runtime) for label, members in grouped]
    return Measurement(
        tuple(row for row, _ in found),
        "parameters",
        "emulators",
        "measurements",
        seconds=round(time.perf_counter() - began, 3),
        studied=tuple(studied for _, studied in found),
    )


def _row(
    label: str, members: Sequence[Emulator], columns: Columns, how: Scoring, runtime: Runtime
) -> tuple[Row, Studied]:
    first = members[0]
    test = held_out(first, columns, runtime)
    truth = test.known.profiles.numpy()
    given = [_profiles(one, test) for one in members]
    scores = [scores_of(profiles, test) | {SECONDS: 1e6 * taken} for profiles, taken in given]
    for number, one in enumerate(scores, start=1):
        runtime.say(f"{label}: emulator {number} of {len(members)}, {ERROR} {one[ERROR]:.4g}")
    rivals = {} if how.beside == "skip" else _rivals(first, columns, test, how, runtime)
    beyond = int((first.outside(test).max(axis=1) > 0).sum())
    note = f"{len(truth):,} columns" + (f", {beyond:,} beyond what was seen" if beyond else "")
    cells = [_cell(name, scores, rivals, test, note) for name in (ERROR, INTEGRATED, SECONDS)]
    row = Row.of(label, members, cells, count=first.parameters, bytes=first.bytes)
    return row, Studied(first, test, given[0][0])


def held_out(made: Emulator, columns: Columns, runtime: Runtime) -> Columns:
    """The columns that an emulator is measured on, with its teacher's answers.

    Of the columns that it comes from these are the held-out ones; of others, all that it has not learned from, since
    random threads of one seed begin with the same ones.

    Raises:
        InputError: They are answered by another teacher or at other wavelengths, or there are none.
    """
    known = columns.answers
    if known is not None and known.teacher != made.teacher:
        raise InputError(
            f"the emulator learned from {made.teacher}, but the columns of {columns.name} have profiles by "
            f"{known.teacher}. Give columns that {made.teacher} has answered."
        )
    own = columns.inputs == made.whole
    rows = columns.test_rows if own else torch.nonzero(columns.usable).flatten()
    test = columns.subset(rows if own else rows[~_known(made, columns, runtime)[rows]])
    test = _with_answers(test, made, runtime).converged
    if not len(test):
        raise InputError(f"{columns.name} has no column to measure an emulator on.")
    theirs = test.known.wavelengths
    if theirs.shape != made.wavelengths.shape or not torch.allclose(theirs, made.wavelengths, rtol=1e-9):
        raise InputError(f"the profiles of {columns.name} are at other wavelengths than those of the emulator.")
    return test


def _known(made: Emulator, columns: Columns, runtime: Runtime) -> Bool[Tensor, " column"]:
    """Which of other columns an emulator has learned from; none where the columns that it names are not found."""
    theirs = _named(made, runtime)
    learned: set[bytes] = set()
    if theirs is not None and theirs.inputs == made.whole:
        learned = {one.numpy().tobytes() for one in theirs.values[made.rows]}
    found = torch.tensor([one.numpy().tobytes() in learned for one in columns.values], dtype=torch.bool)
    if found.any():
        runtime.say(f"{int(found.sum()):,} columns are left out: the emulator has learned from them.")
    return found


def _with_answers(columns: Columns, made: Emulator, runtime: Runtime) -> Columns:
    """Columns with the profiles of an emulator's teacher."""
    if columns.answers is not None:
        return columns
    if made.teacher not in NAMES:
        raise InputError(
            f"the columns of {columns.name} have no profiles, and the emulator's teacher ({made.teacher}) is none that "
            "is known by name. Give columns that it has answered."
        )
    teacher = teacher_named(made.teacher)
    assert teacher is not None
    return answered(columns, teacher, runtime)


def _profiles(made: Emulator, test: Columns) -> tuple[Profiles, float]:
    """The profiles of an emulator, and CPU seconds of a column."""
    taken = made.timed(test).seconds["student"]
    assert taken is not None
    return made.passed(made.values_of(test)).numpy(), taken


def scores_of(profiles: Profiles, test: Columns) -> dict[str, float]:
    """The median errors of profiles, and the error that nine of ten columns stay below."""
    answers = test.known
    truth, wavelengths = answers.profiles.numpy(), answers.wavelengths.numpy()
    errors = rms_over_peak(profiles, truth)
    return {
        ERROR: float(np.median(errors)),
        "9 of 10 below": float(np.quantile(errors, 0.9)),
        INTEGRATED: 100 * float(np.median(integrated_error(profiles, truth, wavelengths))),
    }


def _score(name: str, values: Sequence[float]) -> Score:
    units = {INTEGRATED: "%", SECONDS: "µs"}
    return Score.of(values, units.get(name, ""), "lower")


def _cell(
    name: str, scores: Sequence[Mapping[str, float]], rivals: Mapping[str, Profiles], test: Columns, note: str
) -> Cell:
    """A column of a row, with what it is compared with."""
    values = [one[name] for one in scores]
    taken = test.known.seconds
    if name == SECONDS:
        teacher = test.known.teacher
        beside = [] if taken is None else [Beside(f"the teacher, {teacher}", _score(name, [1e6 * taken]))]
    else:
        beside = [Beside(label, _score(name, [scores_of(one, test)[name]])) for label, one in rivals.items()]
    further = {}
    if name == ERROR:
        tails = tuple((one["9 of 10 below"],) for one in scores)
        further["9 of 10 below"] = Measure(_score(name, [value for (value,) in tails]), tails)
    return Cell(
        _score(name, values),
        tuple((value,) for value in values),
        column=name,
        further=further,
        beside=tuple(beside),
        notes=("" if name == SECONDS else f"median of {note}",) * len(scores),
    )


# ------------------------------------------------------------------------------------------------------------- rivals


def _rivals(made: Emulator, columns: Columns, test: Columns, how: Scoring, runtime: Runtime) -> dict[str, Profiles]:
    """The rivals' profiles of the test columns; none where the columns that the emulator learned from are not found."""
    train = learned_from(made, columns, runtime)
    if train is None:
        runtime.say(f"no rivals are measured beside it: the columns of {made.origin.source} were not found.")
        return {}
    return rivals_of(train, test, float(made.origin.settings.get("floor", 1e-3)), float(made.scaling.step))


def learned_from(made: Emulator, columns: Columns, runtime: Runtime) -> Columns | None:
    """The columns that an emulator learned from: those at hand, or those that it names; None where none are theirs."""
    if columns.inputs != made.whole:
        other = _named(made, runtime)
        if other is None or other.inputs != made.whole:
            return None
        columns = other
    return _with_answers(columns.subset(made.rows), made, runtime).converged


def _named(made: Emulator, runtime: Runtime) -> Columns | None:
    """The columns that an emulator names as its data."""
    from attar.plasma.reading import Reading

    call = made.origin.call or {}
    if not call.get("named") or not call.get("data"):
        return None
    try:
        source = Reading().load(call["data"])
    except InputError:
        return None
    return columns_in(source, runtime) if isinstance(source, (Columns, RandomThreads)) else None


def rivals_of(train: Columns, test: Columns, floor: float, step: float = 0.0) -> dict[str, Profiles]:
    """Profiles of test columns by what is simpler than a network.

    Args:
        train: Columns to learn from, with profiles.
        test: Columns to answer.
        floor: As that of an emulator.
        step: That of an emulator whose profiles move with the gas: rivals of this sort are measured then, too.
    """
    profiles = train.known.profiles
    found: dict[str, Profiles] = {MEAN: profiles.mean(dim=0).expand(len(test), -1).numpy()}
    for moving in (0.0, step) if step else (0.0,):
        scaling = Scaling.of(train.values, profiles, floor, moving)
        inputs, wanted = (scaling.inputs(one.values).flatten(1).double().numpy() for one in (train, test))
        end = MOVING if moving else ""
        found[f"{RIDGE}{end}"] = ridge(scaling, train, inputs, test, wanted)
        still = moved_by(profiles, -moves_of(train.values, scaling.step))[nearest(inputs, wanted)]
        found[f"{NEAREST}{end}"] = moved_by(still, moves_of(test.values, scaling.step)).numpy()
    return found


def nearest(
    inputs: Float[np.ndarray, "column feature"], wanted: Float[np.ndarray, "other feature"]
) -> Int[np.ndarray, " other"]:
    """The nearest column of each, by the distance of standardised columns."""
    from sklearn.neighbors import NearestNeighbors

    found: np.ndarray = NearestNeighbors(n_neighbors=1).fit(inputs).kneighbors(wanted, return_distance=False)[:, 0]
    return found


def ridge(
    scaling: Scaling,
    train: Columns,
    inputs: Float[np.ndarray, "column feature"],
    test: Columns,
    wanted: Float[np.ndarray, "other feature"],
) -> Float[np.ndarray, "other wavelength"]:
    """Ridge regression of the logarithms, with the strength that is best on a tenth of the columns.

    Args:
        scaling: Of the training columns.
        train: They.
        inputs: They, standardised, a row each.
        test: Columns to answer.
        wanted: They, standardised.
    """
    from sklearn.linear_model import Ridge

    profiles = train.known.profiles
    logarithms = scaling.targets(profiles, train.values).double().numpy()
    order = permutation(0, "a tenth for ridge regression", len(inputs)).numpy()
    tenth, rest = np.split(order, [max(1, round(TENTH * len(order)))])

    def answers(model: Any, given: np.ndarray, values: Tensor) -> np.ndarray:
        found: np.ndarray = scaling.profiles(torch.from_numpy(model.predict(given)), values).numpy()
        return found

    def error(strength: float) -> float:
        model = Ridge(alpha=strength).fit(inputs[rest], logarithms[rest])
        return float(
            np.median(rms_over_peak(answers(model, inputs[tenth], train.values[tenth]), profiles[tenth].numpy()))
        )

    best = Ridge(alpha=min(STRENGTHS, key=error)).fit(inputs, logarithms)
    return answers(best, wanted, test.values)
