"""What each verb does, for every kind: the Python face and the command line call the same functions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from attar.core import hub
from attar.core.artefact import ARTEFACT, Shareable
from attar.core.divergence import told_by
from attar.core.engine import Artefact, Method
from attar.core.errors import InputError
from attar.core.kinds import Kind, built_in, imported, kind_for, kind_in, kind_of, kind_with
from attar.core.machine import Engine
from attar.core.provenance import Call, asked_for
from attar.core.runtime import Runtime
from attar.core.tasks import Reading, Task

A = TypeVar("A", bound=Artefact)
Say = Callable[[str], None]
Small = Any
"""What a method made, or the folder it lies in."""


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
        data: A source, or anything that the kind's own `load` takes: of images `attar.load`.
        method: Settings of a method, such as `attar.DataDAM(ipc=10)`.
        reading: How data are read that are no source yet; as usual unless given.
        out: Folder for the artefact. An unfinished run found there is resumed, a finished one is read.
            None keeps everything in memory.
        seed: Seed of every generator in the run; the split of data without test samples has one of its own (reading).
        engine: How to use the machine.
        say: Told what happens, a line at a time; silent by default.

    Raises:
        InputError: A method of another verb, or data, settings or folder are not usable; nothing is lost.
        Interrupted: Stopped by Ctrl-C or SIGTERM; the same call goes on where it stopped.
    """
    made: A = run("condense", data, method, reading=reading, out=out, seed=seed, engine=engine, say=say)
    return made


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
    """Make a mixture, or a network's convolutions, smaller.

    Args:
        data: A source, or anything that the kind's own `load` takes.
        method: Settings of a method, which say of what kind they are.
        reading: How data are read that are no source yet; as usual unless given.
        out: Folder for the artefact, as for `condense`.
        seed: Seed of every generator.
        engine: How to use the machine.
        say: Told what happens.

    Raises:
        InputError: A method of another verb, or data, settings or folder are not usable; nothing is lost.
        Interrupted: Stopped; the same call goes on where it stopped.
    """
    made: A = run("compress", data, method, reading=reading, out=out, seed=seed, engine=engine, say=say)
    return made


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
        data: A source, or anything that the kind's own `load` takes: of images `attar.load`.
        method: Settings of a method, such as `attar.KD(student="convnet:norm=batch,width=16")`.
        teacher: A module, or what names one: the folder of a trained model, a name on the hub, or a network by name
            that is trained here and kept in the cache. A student alone needs none.
        student: A module of your own, in place of the method's; it is left as it is.
        reading: How data are read that are no source yet; as usual unless given.
        out: Folder for the student, as for `condense`.
        seed: Seed of every generator in the run; that of a teacher that is trained here is 0.
        engine: How to use the machine.
        say: Told what happens.
        beside: What else stands beside the method: the settings of the kind's task (`tokenizer`, `corpus`, ...).

    Raises:
        InputError: A method of another verb, or teacher, student, data and settings do not fit one another.
        Interrupted: Stopped; the same call goes on where it stopped.
    """
    task = kind_for(method, "distill").task("distill").from_names(teacher=teacher, module=student, **beside)
    made: A = run("distill", data, method, task=task, reading=reading, out=out, seed=seed, engine=engine, say=say)
    return made


def label(
    small: Small,
    method: Any = None,
    *,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
    **beside: Any,
) -> Any:
    """Store soft labels beside a condensed set: a teacher's answers to many views of every sample.

    Args:
        small: The condensed set, saved, or its folder. Labels that were begun there are gone on with.
        method: How many, in which form, and whose, such as `attar.StoreLabels(epochs=300, format="int8")`.
        seed: Draws the views.
        engine: How to use the machine.
        say: Told what happens.
        beside: `data` and `network`: what a teacher is trained on, and which, where neither set nor method has one.

    Raises:
        InputError: No set, no teacher, or other labels than were begun there.
        Interrupted: Stopped; the same call goes on where it stopped.
    """
    (opened,) = _opened([small])
    method = method or _only_method(kind_of(opened), "label")()
    task = kind_for(method, "label").task("label").from_names(**beside)
    return run("label", opened, method, task=task, seed=seed, engine=engine, say=say)


def import_set(
    files: Sequence[str | Path],
    data: Any,
    *,
    reading: Reading | None = None,
    out: str | Path | None = None,
    kind: str = "",
    **settings: Any,
) -> Any:
    """Make an artefact of a condensed set that others have released as tensors or pictures.

    Args:
        files: The file, or images and labels apart, or a folder of pictures per class.
        data: What it was condensed from: a source, or anything that the kind's `load` takes.
        reading: How data are read that are no source yet; as usual unless given.
        out: Folder for the artefact; None keeps it in memory.
        kind: What the set is of; the one kind with released sets unless given.
        settings: Those of the kind's import: of images which, whitened, labels, lr.

    Raises:
        InputError: Something that is not known, does not fit the data, or holds more than tensors.
    """
    held = kind_with("import", kind)
    task = held.task("import").from_names(files=tuple(Path(file).expanduser() for file in files))
    method = _only_method(held, "import")(**settings)
    return run("import", data, method, task=task, reading=reading, out=out)


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
    """Train what other methods build on, such as experts for trajectory matching; or find it.

    Args:
        data: A source, or anything that the kind's own `load` takes.
        method: Settings, such as `attar.Experts(experts=100)`.
        reading: How data are read that are no source yet; as usual unless given.
        out: Folder for it; the cache unless given.
        seed: Not used by experts, whose seed is their own.
        engine: How to use the machine.
        say: Told what happens.
        beside: What stands beside the method: of experts network, augmentation, zca, workers and address.

    Raises:
        InputError: The folder holds something of other data or another network, or a torn file.
    """
    task = kind_for(method, "train").task("train").from_names(**beside)
    return run("train", data, method, task=task, reading=reading, out=out, seed=seed, engine=engine, say=say)


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
    """What every verb with a method does: kind, source, what stands beside the method, engine.

    Args:
        verb: What is done.
        data: A source, or what the reading takes.
        method: Settings.
        task: What stands beside the method; as usual unless given.
        reading: How data are read; as usual unless given.
        out: The run folder; None keeps everything in memory.
        seed: Seed of every generator.
        engine: How to use the machine.
        say: Told what happens.
        call: What was asked for, where that is known better than from these arguments.

    Raises:
        InputError: A method of another verb, or anything that cannot be used.
    """
    kind = kind_for(method, verb)
    name, known = asked_for(data)
    task, reading = task or kind.task(verb)(), reading or kind.read().from_json(known)
    call = call or Call.of(verb, kind.name, name, reading, task, method)
    runtime = Runtime(engine, seed, say=say, call=call)
    source = task.source(data, reading)
    return task.run(method, source, runtime, kind=kind, out=Path(out).expanduser() if out else None)


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
    """Measure anew what methods made: fresh networks trained on condensed sets, students on test data.

    Args:
        small: An artefact or its folder, or several of one kind. Those that differ only in their seed make one row.
        data: A source, or anything that the kind's own `load` takes; what the artefact was made from unless given.
        reading: How data are read that are no source yet; as they were read when it was made unless given.
        seed: The repeats' seeds come from it.
        engine: How to use the machine.
        say: Told what happens.
        settings: Of the kind's `Scoring`: of images networks, repeats, protocol, ceiling, beside.

    Raises:
        InputError: The folder holds nothing that can be measured anew, or it does not belong to the data.
    """
    several = list(small) if isinstance(small, (list, tuple)) else [small]
    artefacts = _opened(several)
    kind = one_kind(artefacts)
    scoring = kind.scores().from_names(**settings)
    source = None
    if scoring.reads:
        data = data_of(artefacts, kind) if data is None else data
        source = (reading or reading_of(artefacts[0], kind)).load(data)
    with told_by(scoring):
        return scoring.measure(artefacts, source, Runtime(engine, seed, say=say))


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
    """The one kind of what shall be measured anew.

    Raises:
        InputError: None, several kinds, or one that is measured when it is made.
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
    """What artefacts were made from, where that can be found again.

    Raises:
        InputError: It is not bundled, and nothing lies where it was.
    """
    for origin in (one.origin for one in artefacts):
        asked = (origin.call or {}).get("data") or origin.source
        if asked != kind.bundled and not Path(asked).exists() and not hub.looks_like_one(asked):
            raise InputError(f"this artefact was made from {origin.source!r}, which was not found. Give --data.")
    origin = artefacts[0].origin
    return (origin.call or {}).get("data") or origin.source


def reading_of(artefact: Any, kind: Kind) -> Any:
    """How the data were read that an artefact was made from."""
    call = artefact.origin.call if artefact.origin else None
    return kind.read().from_json((call or {}).get("reading") or {})


def open_artefact(folder: str | Path) -> Any:
    """Read what a method made, of any kind, from its folder; or from the hub, where `user/name` is no folder.

    Of a data set and a model of the same name on the hub, the data set is read; `from_hub` of the artefact's class
    reads the other.

    Raises:
        InputError: It holds none, or a truncated or altered one; or the hub has none, or cannot be reached.
    """
    name = str(folder)
    remote = not Path(folder).exists() and hub.looks_like_one(name)
    path = hub.find(name, ARTEFACT) if remote else Path(folder).expanduser()
    made: type[Shareable] = (kind_in(path) or next(iter(built_in().values()))).made
    return made.from_hub(name) if remote else made.load(path)


def _opened(several: Sequence[Small]) -> list[Any]:
    return [open_artefact(small) if isinstance(small, (str, Path)) else small for small in several]


def _only_method(kind: Kind, verb: str) -> Any:
    """The settings class of the one method of a verb that names none."""
    return imported(kind.task(verb).usual, kind.extra)
