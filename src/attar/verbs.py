"""The verbs as Python functions, for every kind. The command line calls the same functions."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from attar.core import hub
from attar.core.arguments import check_names, with_checked_arguments
from attar.core.artefact import ARTEFACT, Shareable
from attar.core.divergence import told_by
from attar.core.engine import Artefact, Method
from attar.core.errors import InputError, near_path
from attar.core.jsonfiles import read_json
from attar.core.kinds import (
    Kind,
    built_in,
    imported,
    kind_answering,
    kind_for,
    kind_in,
    kind_named,
    kind_of,
    kind_with,
    kind_working_on,
    kinds,
    worded_with,
)
from attar.core.launcher import check_shared
from attar.core.machine import Engine
from attar.core.provenance import Call, asked_for, shadowed
from attar.core.registry import registered
from attar.core.runtime import Runtime
from attar.core.tasks import Reading, Task

A = TypeVar("A", bound=Artefact)
Say = Callable[[str], None]
Small = Any
"""An artefact, or the folder that it lies in."""


@with_checked_arguments
def condense(
    data: Any,
    method: Method[A],
    *,
    reading: Reading | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
) -> A:
    """Turn a labelled data set into a few samples per class.

    Args:
        data: A source, or anything that the reading of the kind takes; for images, anything that `attar.load` takes.
        method: Settings of a method, such as `attar.DataDAM(ipc=10)`.
        reading: How to read data that are not a source yet. Default: the reading settings of the kind.
        out: Folder of the artefact. An unfinished run in it is resumed, a finished one is read. None keeps everything
            in memory.
        seed: Seed of every generator in the run. A split of data without test samples has its own seed (`reading`).
        engine: How to use the machine.
        say: Function that is called with each line of progress. Default: silent.

    Raises:
        InputError: The method belongs to another verb, or data, settings or folder cannot be used; nothing is lost.
        Interrupted: The run was stopped by Ctrl-C, SIGTERM or SIGHUP. The same call continues it.
    """
    made: A = run("condense", data, method, reading=reading, out=out, seed=seed, engine=engine, say=say)
    return made


@with_checked_arguments
def compress(
    data: Any,
    method: Method[A],
    *,
    reading: Reading | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
) -> A:
    """Make a mixture or the convolutions of a network smaller.

    Args:
        data: A source, or anything that the reading of the kind takes.
        method: Settings of a method.
        reading: How to read data that are not a source yet. Default: the reading settings of the kind.
        out: Folder of the artefact, as for `condense`.
        seed: Seed of every generator.
        engine: How to use the machine.
        say: Function that is called with each line of progress.

    Raises:
        InputError: The method belongs to another verb, or data, settings or folder cannot be used; nothing is lost.
        Interrupted: The run was stopped. The same call continues it.
    """
    made: A = run("compress", data, method, reading=reading, out=out, seed=seed, engine=engine, say=say)
    return made


@with_checked_arguments
def distill(
    data: Any,
    method: Method[A],
    *,
    teacher: Any = None,
    student: Any = None,
    reading: Reading | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
    **beside: Any,
) -> A:
    """Distill a trained model into a smaller one.

    Args:
        data: A source, or anything that the reading of the kind takes; for images, anything that `attar.load` takes.
        method: Settings of a method, such as `attar.KD(student="convnet:norm=batch,width=16")`.
        teacher: A module, or its name: the folder of a trained model, a name on the hub, or the name of a network,
            which is trained here and kept in the cache. A student alone needs none.
        student: Your own module, which replaces the student of the method and is not changed; or a name in the place of
            the method's.
        reading: How to read data that are not a source yet. Default: the reading settings of the kind.
        out: Folder of the student, as for `condense`.
        seed: Seed of every generator in the run. A teacher that is trained here has seed 0.
        engine: How to use the machine.
        say: Function that is called with each line of progress.
        beside: Further settings of the kind's task (`tokenizer`, `corpus`, ...).

    Raises:
        InputError: The method belongs to another verb, or teacher, student, data and settings do not fit together.
        Interrupted: The run was stopped. The same call continues it.
    """
    if "module" in beside:
        raise InputError("a module of your own is given as student=MODULE, not as module=.")
    if isinstance(student, (str, Path)) and isinstance(getattr(method, "student", None), str):
        method, student = dataclasses.replace(method, student=str(student)), None  # type: ignore[type-var]
    task = _beside(kind_for(method, "distill").task("distill"), distill, beside, teacher=teacher, module=student)
    made: A = run("distill", data, method, task=task, reading=reading, out=out, seed=seed, engine=engine, say=say)
    return made


@with_checked_arguments
def label(
    small: Small,
    method: Any = None,
    *,
    reading: Reading | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
    **beside: Any,
) -> Any:
    """Store a teacher's answers: to many views of every sample beside a condensed set, or to data in a folder.

    Args:
        small: A saved condensed set, or its folder, in which unfinished labels are continued. Or data, or what reads as
            such, of a kind that stores answers to data.
        method: Settings, such as `attar.StoreLabels(epochs=300, format="int8")`. Default: the usual ones of the kind.
        reading: How to read data that are not a source yet. Default: the reading settings of the kind.
        out: Folder of the answers to data. Labels of a set are stored in the set's folder.
        seed: Seed of the views.
        engine: How to use the machine.
        say: Function that is called with each line of progress.
        beside: What stands beside it: for a set `data` and `network` of a teacher that is trained here, if neither the
            set nor the method has a teacher; for data `teacher`.

    Raises:
        InputError: There is no set, no data or no teacher, or the folder holds other unfinished labels.
        Interrupted: The run was stopped. The same call continues it.
    """
    of = kind_for(method, "label") if method is not None else None
    if of is None and isinstance(small, (str, Path)) and kind_in(Path(small).expanduser()) is None:
        of = kind_working_on("label", str(small))
    elif of is None and not isinstance(small, (str, Path)) and not isinstance(getattr(small, "kind", None), str):
        of = kind_answering("label")
    if of is None or of.task("label").of_artefact:
        (small,) = _opened([small])
        if out is not None:
            raise InputError("labels of a set are stored in its folder. Leave out out.")
    method = method or _only_method(of or kind_of(small), "label")()
    task = _beside(kind_for(method, "label").task("label"), label, beside)
    return run("label", small, method, task=task, reading=reading, out=out, seed=seed, engine=engine, say=say)


@with_checked_arguments
def import_set(
    files: Sequence[str | Path],
    data: Any,
    *,
    reading: Reading | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
    kind: str = "",
    **settings: Any,
) -> Any:
    """Make an artefact of a condensed set that others have released as tensors or pictures.

    Args:
        files: One file, separate files of images and labels, or a folder with a folder of pictures for each class.
        data: Data that the set was condensed from: a source, or anything that the reading of the kind takes.
        reading: How to read data that are not a source yet. Default: the reading settings of the kind.
        out: Folder of the artefact. None keeps it in memory.
        seed: Seed that the artefact names.
        engine: How to use the machine.
        say: Function that is called with each line of progress.
        kind: Kind of the set. Default: the only kind with released sets.
        settings: Settings of the import; for images: which, whitened, labels, lr.

    Raises:
        InputError: The file is of an unknown form, does not fit the data, or holds more than tensors.
    """
    held = kind_with("import", kind)
    task = held.task("import").from_names(files=tuple(Path(file).expanduser() for file in files))
    method = _beside(_only_method(held, "import"), import_set, settings)
    return run("import", data, method, task=task, reading=reading, out=out, seed=seed, engine=engine, say=say)


@with_checked_arguments
def import_teacher(
    file: str | Path,
    data: Any,
    *,
    network: str = "",
    reading: Reading | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
    **settings: Any,
) -> Any:
    """Make an artefact of a classifier that was trained with another package, to be a teacher or an observer.

    Args:
        file: Its tensors: a state dict as `.pth`, `.pt` or `.safetensors`, alone or in a checkpoint.
        data: Data whose classes it knows: a source, or anything that the reading of the kind takes.
        network: The network, by the name that its package has for it: `resnet32x4`, `torchvision:resnet50`. Default:
            found by the tensors.
        reading: How to read data that are not a source yet. Default: the reading settings of the kind.
        out: Folder of the artefact. None keeps it in memory.
        seed: Seed that the artefact names.
        engine: How to use the machine.
        say: Function that is called with each line of progress.
        settings: What the tensors do not tell: mean, std, input_size, class_order.

    Raises:
        InputError: The file holds more than tensors, or another network, or other classes than the data.
    """
    held = worded_with("import")["teacher"]
    task = held.task("import").from_names(files=(Path(file).expanduser(),))
    method = _beside(_only_method(held, "import"), import_teacher, settings, as_=network)
    return run("import", data, method, task=task, reading=reading, out=out, seed=seed, engine=engine, say=say)


@overload
def train(data: Any, method: Method[A], **settings: Any) -> A: ...


@overload
def train(data: Any, method: Any, **settings: Any) -> Any: ...


@with_checked_arguments
def train(
    data: Any,
    method: Any,
    *,
    reading: Reading | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
    **beside: Any,
) -> Any:
    """Train a classifier, an encoder, or what other methods need, such as experts for trajectory matching.

    Args:
        data: A source, or anything that the reading of the kind takes.
        method: Settings, such as `attar.Experts(experts=100)`.
        reading: How to read data that are not a source yet. Default: the reading settings of the kind.
        out: Folder of the result. None keeps an encoder in memory; experts are kept in the cache.
        seed: Seed of the run. Experts have their own seed and ignore it.
        engine: How to use the machine.
        say: Function that is called with each line of progress.
        beside: Settings of the kind's task; for experts: network, augmentation, zca, workers and address.

    Raises:
        InputError: The folder holds experts of other data or another network, or a truncated file.
    """
    task = _beside(kind_for(method, "train").task("train"), train, beside)
    return run("train", data, method, task=task, reading=reading, out=out, seed=seed, engine=engine, say=say)


@with_checked_arguments
def calibrate(
    data: Any,
    method: Any,
    *,
    classifier: Any,
    reading: Reading | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
    **beside: Any,
) -> Any:
    """Make the confidence of a trained classifier match its accuracy.

    Args:
        data: A source, or anything that the reading of the kind takes.
        method: Settings, such as `attar.TemperatureScaling()`.
        classifier: A trained classifier: a module, a folder, `transformers:NAME`, or `user/name` on the hub.
        reading: How to read data that are not a source yet. Default: the reading settings of the kind.
        out: Folder of the result. None keeps it in memory.
        seed: Seed of the run.
        engine: How to use the machine.
        say: Function that is called with each line of progress.
        beside: Further settings of the kind's task: `calibrate_on`, `calibration_data`.

    Raises:
        InputError: The classifier has other classes, or there are no rows that it was not trained on.
    """
    task = _beside(kind_for(method, "calibrate").task("calibrate"), calibrate, beside, classifier=classifier)
    return run("calibrate", data, method, task=task, reading=reading, out=out, seed=seed, engine=engine, say=say)


@with_checked_arguments
def simulate(
    method: Method[A],
    data: Any = None,
    *,
    reading: Reading | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
    **beside: Any,
) -> A:
    """Simulate something from nothing but settings, or what is seen of an earlier simulation.

    Args:
        method: Settings, such as `attar.KelvinHelmholtz(cells=(128, 128))`.
        data: What the method works on, if it reads anything: an artefact or its folder.
        reading: How to read data that are not a source yet. Default: the reading settings of the kind.
        out: Folder of the result, as for `condense`. None keeps it in memory.
        seed: Seed of every generator in the run.
        engine: How to use the machine.
        say: Function that is called with each line of progress.
        beside: Settings of the kind's task.

    Raises:
        InputError: The method belongs to another verb, or data and settings do not fit.
        Interrupted: The run was stopped. The same call continues it.
    """
    kind = kind_for(method, "simulate")
    task, entry = _beside(kind.task("simulate"), simulate, beside), registered(method.name, "simulate")
    if data is None:
        data = kind.bundled if entry is None else entry.usual(kind)
    made: A = run("simulate", data, method, task=task, reading=reading, out=out, seed=seed, engine=engine, say=say)
    return made


def run(
    verb: str,
    data: Any,
    method: Any,
    *,
    task: Task | None = None,
    reading: Reading | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
    call: Call | None = None,
) -> Any:
    """Run a method: find its kind, read the data, prepare the task, and start the engine.

    Args:
        verb: Verb of the command.
        data: A source, or anything that the reading takes.
        method: Settings of a method.
        task: Settings beside the method. Default: those of the kind.
        reading: How to read the data. Default: the reading settings of the kind.
        out: The run folder; None keeps everything in memory.
        seed: Seed of every generator.
        engine: How to use the machine.
        say: Function that is called with each line of progress.
        call: Record of the command that was given. Default: one made from these arguments.

    Raises:
        InputError: The method belongs to another verb, or an argument cannot be used.
    """
    kind = kind_for(method, verb)
    check_shared(method, method.name)
    name, known = asked_for(data)
    reader, task, made = followed(kind, verb, task or kind.task(verb)())
    fields = {field.name for field in dataclasses.fields(reader.read())}
    known = known if known.keys() <= fields else {}  # else another kind has read them, which the reading refuses
    reading = reading or reader.read().from_json(known or made.get("reading") or {})
    call = call or Call.of(verb, reader.name, name, reading, task, method)
    runtime = Runtime(engine, seed, say=say, call=call)
    source = task.source(data, reading)
    for note in shadowed(data, reader.bundled):
        if note not in getattr(source, "notes", ()):
            runtime.say(f"note: {note}")
    return task.run(method, source, runtime, kind=kind, out=Path(out).expanduser() if out else None)


def followed(kind: Kind, verb: str, task: Task, earlier: Any = None) -> tuple[Kind, Task, Mapping[str, Any]]:
    """The kind that reads the data of a verb, with the task as that kind has it, and what is known of an earlier call.

    It is the kind of the method, unless the task works on an artefact that another kind has made of its own data, and
    that kind's task stands in for this one.

    Args:
        kind: That of the method.
        verb: The verb.
        task: Its settings.
        earlier: What the task works on. Default: as its settings say.
    """
    call = call_of(task.earlier if earlier is None else earlier)
    other = kinds().get(str(call.get("kind")), kind)
    if other is kind or verb not in other.tasks or not issubclass(other.task(verb), kind.task(verb)):
        return kind, task, {}
    settings = {field.name: getattr(task, field.name) for field in dataclasses.fields(task)}
    return other, other.task(verb)(**settings), call


@with_checked_arguments
def evaluate(
    small: Small | Sequence[Small],
    data: Any = None,
    *,
    reading: Reading | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
    **settings: Any,
) -> Any:
    """Measure artefacts again: new networks are trained on condensed sets, students are tested on test data.

    Args:
        small: An artefact or its folder, or several of one kind. Those that differ only in their seed make one row.
        data: A source, or anything that the reading of the kind takes. Default: the data of the artefact.
        reading: How to read data that are not a source yet. Default: as when the artefact was made.
        seed: Seed of the repeats.
        engine: How to use the machine.
        say: Function that is called with each line of progress.
        settings: Settings of the kind's `Scoring`; for images: networks, repeats, protocol, ceiling, beside.

    Raises:
        InputError: The folder holds nothing that can be measured again, or it does not belong to the data.
    """
    several = list(small) if isinstance(small, (list, tuple)) else [small]
    artefacts = _opened(several)
    kind = one_kind(artefacts)
    scoring = _beside(kind.scores(), evaluate, settings)
    return measured(artefacts, kind, scoring, Runtime(engine, seed, say=say), data=data, reading=reading)


def measured(
    artefacts: Sequence[Any], kind: Kind, scoring: Any, runtime: Runtime, *, data: Any = None, reading: Any = None
) -> Any:
    """Measure open artefacts of one kind: read their data, if the scoring needs them, and score.

    Args:
        artefacts: Artefacts of the kind.
        kind: Their kind.
        scoring: Settings of the kind's `Scoring`.
        runtime: The machine, and the seed of the repeats.
        data: As for `evaluate`.
        reading: As for `evaluate`.

    Raises:
        InputError: The artefacts do not belong to the data, their verb makes nothing that is measured, or a network
            diverged (`Diverged`).
    """
    check_shared(scoring, f"the evaluation of {kind.makes}")
    runtime.see_to_float64(scoring, f"the evaluation of {kind.makes}")
    for made_by, verb in (maker_of(one, kind) for one in artefacts):
        if verb in made_by.tasks and not made_by.task(verb).measured:
            raise InputError(f"what `attar {verb}` has made is not measured again. To see it: attar report FOLDER")
    source = None
    if scoring.reads:
        data = data_of(artefacts, kind) if data is None else data
        source = (reading or reading_of(artefacts[0], kind)).load(data)
        made_by, verb = maker_of(artefacts[0], kind)
        source = made_by.task(verb)().measured_on(source) if made_by is not kind else source
    with told_by(scoring):
        return scoring.measure(artefacts, source, runtime)


@with_checked_arguments
def compare(sets: Sequence[Small], data: Any = None, **settings: Any) -> Any:
    """Evaluate condensed sets of images with the same networks and seeds, a row for each method.

    Args:
        sets: Condensed sets or their folders; those that differ only in their seed make one row.
        data: A source, or anything `attar.load` takes.
        settings: Those of `evaluate`.

    Raises:
        InputError: A folder holds no condensed set, or one does not belong to the data.
    """
    return evaluate(list(sets), data, **settings)


def one_kind(artefacts: Sequence[Any]) -> Kind:
    """The common kind of the artefacts.

    Raises:
        InputError: There are none, they are of several kinds, or their kind is measured only when it is made.
    """
    found = {kind.name: kind for kind in map(kind_of, artefacts)}
    if not found:
        raise InputError("there is nothing to evaluate. Give an artefact, or its folder.")
    if len(found) != 1:
        raise InputError(
            f"these artefacts are of several kinds: {', '.join(sorted(found))}. Give artefacts of one kind."
        )
    (kind,) = found.values()
    kind.scores()
    return kind


def data_of(artefacts: Sequence[Any], kind: Kind) -> Any:
    """The data that artefacts were made from, if they can be found again.

    Raises:
        InputError: The data are not bundled and were not found.
    """
    makers = [kind, *(maker_of(one, kind)[0] for one in artefacts)]
    bundled = {one.bundled for maker in makers for one in (maker, *map(kind_named, maker.imports))}
    for origin in (one.origin for one in artefacts):
        asked = (origin.call or {}).get("data") or origin.source
        known = asked in bundled or any(maker.recognises(asked) for maker in makers)
        if not known and not Path(asked).exists() and not hub.looks_like_one(asked):
            raise InputError(f"this artefact was made from {origin.source!r}, which was not found. Give --data.")
    origin = artefacts[0].origin
    return (origin.call or {}).get("data") or origin.source


def maker_of(artefact: Any, kind: Kind) -> tuple[Kind, str]:
    """The kind whose data an artefact was made from, and by which verb; the artefact's own where that is not told."""
    call = call_of(artefact)
    verb, made_by = str(call.get("verb", "")), kinds().get(str(call.get("kind")), kind)
    return (made_by, verb) if verb in made_by.tasks else (kind, verb)


def call_of(thing: Any) -> Mapping[str, Any]:
    """The call that an artefact, or what lies in a folder, was made by; nothing where that is not told."""
    if not isinstance(thing, (str, Path)):
        found = getattr(getattr(thing, "origin", None), "call", None)
        return found if isinstance(found, Mapping) else {}
    try:
        facts: Any = read_json(Path(thing).expanduser() / ARTEFACT)
    except InputError:
        return {}
    for name in ("origin", "call"):
        facts = facts.get(name) if isinstance(facts, dict) else None
    return facts if isinstance(facts, dict) else {}


def reading_of(artefact: Any, kind: Kind) -> Any:
    """How the data were read that an artefact was made from, by the kind that read them."""
    return maker_of(artefact, kind)[0].read().from_json(call_of(artefact).get("reading") or {})


@with_checked_arguments
def open_artefact(folder: str | Path) -> Any:
    """Read an artefact of any kind from its folder, or from the hub if `user/name` is not a folder.

    If the hub has a data set and a model of the same name, the data set is read. `from_hub` of the artefact's class
    reads the other.

    Raises:
        InputError: There is no artefact, it is truncated or altered, or the hub cannot be reached.
    """
    name = str(folder)
    remote = not Path(folder).exists() and hub.looks_like_one(name)
    path = hub.find(name, ARTEFACT) if remote else Path(folder).expanduser()
    if not remote and not path.exists() and (near := near_path(name)):
        raise InputError(f"{name} does not exist; did you mean {near!r}?")
    made: type[Shareable] = (kind_in(path) or next(iter(built_in().values()))).made
    return made.from_hub(name) if remote else made.load(path)


def _beside(settings: Any, verb: Callable[..., Any], named: Mapping[str, Any], **own: Any) -> Any:
    """Settings of a class by the names that a verb was given, and by those that the verb gives itself.

    Raises:
        InputError: A name is unknown, or a value does not fit.
    """
    known = {*settings.moved, *(field.name for field in dataclasses.fields(settings))}
    check_names(verb, named, known - own.keys())
    return settings.from_names(**own, **named)


def _opened(several: Sequence[Small]) -> list[Any]:
    return [open_artefact(small) if isinstance(small, (str, Path)) else small for small in several]


def _only_method(kind: Kind, verb: str) -> Any:
    """The settings class of the one method of a verb that names none."""
    return imported(kind.task(verb).usual, kind.extra)
