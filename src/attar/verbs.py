"""What each verb does: the Python face and the command line call the same functions."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from attar.classifiers.artefact import DistilledClassifier
from attar.classifiers.distillation import Distillation
from attar.classifiers.distillation import distill as distill_classifier
from attar.classifiers.teacher import teacher_named
from attar.core import engine as core
from attar.core import hub, store
from attar.core.artefact import ARTEFACT, kind_in
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.images.artefact import CondensedImages
from attar.images.compare import Comparison
from attar.images.compare import compare as compare_images
from attar.images.experts import Experts, Pool, open_experts
from attar.images.importing import import_set as import_images
from attar.images.labels.stored import LABELS, StoreLabels
from attar.images.networks.architecture import Architecture
from attar.images.sources import load
from attar.images.training import PROTOCOLS, trained
from attar.images.views.augment import default_strategy

Say = Callable[[str], None]
Small = Any
"""What a method made, or the folder it lies in."""

ARTEFACTS = {
    "images": "attar.images.artefact:CondensedImages",
    "graphs": "attar.graphs.artefact:CondensedGraphs",
    "language": "attar.language.artefact:DistilledLanguageModel",
    "classifier": "attar.classifiers.artefact:DistilledClassifier",
    "mixture": "attar.mixtures.artefact:ReducedMixture",
    "convolution": "attar.convolution.artefact:ConvolutionPlan",
}
"""What `artefact.json` calls its kind, and where that is read."""

SCORED = {"images": "images", "graphs": "graphs", "classifiers": "images", "language": "language"}
"""Kinds that can be measured anew, and whose sources that takes; what was compressed is measured when it is made."""


def condense(
    data: Any,
    method: Any,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
) -> Any:
    """Turn a labelled data set into a few samples per class.

    Args:
        data: A source, or anything `attar.load` takes; for a method of graphs what `attar.graphs.load` takes.
        method: Settings of a method, such as `attar.DataDAM(ipc=10)`.
        out: Folder for the artefact. An unfinished run found there is resumed, a finished one is read.
            None keeps everything in memory.
        seed: Seed of every generator in the run.
        engine: How to use the machine.
        say: Told what happens, a line at a time; silent by default.

    Raises:
        InputError: Data, settings or folder are not usable; nothing is lost.
        Interrupted: Stopped by Ctrl-C or SIGTERM; the same call goes on where it stopped.
    """
    source = importlib.import_module(f"attar.{kind_of(method)}.sources").load(data)
    runtime = Runtime(engine, seed, say=say)
    method = method.resolve(source, runtime)
    runtime.plan(method.work(source))
    runtime.say(str(source))
    runtime.say(f"{method.name} · {core.resolved_json(method)}")
    return core.run(method, source, runtime, out=Path(out) if out else None)


def compress(
    data: Any,
    method: Any,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
) -> Any:
    """Make a mixture or the convolutions of a network smaller in closed form.

    Args:
        data: What the method reads by name (see its `open`), or what it compresses.
        method: Settings of a method, such as `attar.mixtures.OGGMR(n_components=10)`.
        out: Folder for the artefact; None keeps it in memory.
        seed: Seed of every generator.
        engine: How to use the machine.
        say: Told what happens.

    Raises:
        InputError: Data, settings or folder are not usable.
    """
    runtime = Runtime(engine, seed, say=say)
    source = method.open(data) if isinstance(data, (str, Path)) else data
    runtime.say(str(source))
    runtime.say(f"{method.name} · {core.resolved_json(method)}")
    made = method.compress(source, runtime)
    return made if out is None else made.save(Path(out))


def distill(
    data: Any,
    method: Distillation,
    *,
    teacher: nn.Module | str | Path | None = None,
    student: nn.Module | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
) -> DistilledClassifier:
    """Distill a classifier into a smaller one.

    Args:
        data: A source, or anything `attar.load` takes.
        method: Settings of a method, such as `attar.KD(student="convnet:norm=batch,width=16")`.
        teacher: A module, the folder of a trained network, `transformers:NAME`, or a network by name that is trained
            here (and kept in the cache). A ConvNet with batch norm unless given; a student alone needs none.
        student: A module of your own, in place of the method's; it is left as it is.
        out: Folder for the student. An unfinished run found there is resumed, a finished one is read.
        seed: Seed of every generator in the run; the teacher's is 0.
        engine: How to use the machine.
        say: Told what happens.

    Raises:
        InputError: Teacher, student, data and settings do not fit one another; nothing is lost.
        Interrupted: Stopped by Ctrl-C or SIGTERM; the same call goes on where it stopped.
    """
    source, runtime = load(data), Runtime(engine, seed, say=say)
    found = teacher if isinstance(teacher, nn.Module) else None
    if found is None and (method.needs_teacher or teacher is not None):
        found = teacher_named(str(teacher or "convnet:norm=batch"), source, runtime.with_seed(0))
    return distill_classifier(source, method, found, student, runtime, Path(out) if out else None)


def kind_of(method: Any) -> str:
    """The folder of attar that a method, or what it is made from, lives in."""
    homes = [kind.__module__.split(".") for kind in type(method).__mro__]
    found = [home[1] for home in homes if home[0] == "attar" and home[1] != "core"]
    if not found:
        raise InputError(f"{type(method).__name__} is no method of attar's, nor made from one.")
    return found[0]


def label(
    small: Small,
    method: StoreLabels | None = None,
    *,
    data: Any = None,
    architecture: Architecture | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
) -> CondensedImages:
    """Store soft labels beside a condensed set: a teacher's answers to many views of every image.

    Args:
        small: The condensed set, saved, or its folder. Labels that were begun there are gone on with.
        method: How many, in which form, and whose, such as `StoreLabels(epochs=300, format="int8")`.
        data: What a teacher is trained on where neither set nor method has one.
        architecture: What is trained; a ConvNet with batch norm unless given.
        seed: Draws the views.
        engine: How to use the machine.
        say: Told what happens.

    Raises:
        InputError: No set, no teacher, or other labels than were begun there.
        Interrupted: Stopped by Ctrl-C or SIGTERM; the same call goes on where it stopped.
    """
    (opened,), method = _opened([small]), method or StoreLabels()
    runtime = Runtime(engine, seed, say=say)
    asked = opened
    if opened.teacher is None and method.teacher is None and data is not None:
        network = architecture or Architecture(norm="batch")
        asked = replace(opened, teacher=trained(load(data), network, runtime, PROTOCOLS["ceiling"]))
    method = method.resolve(asked, runtime)
    runtime.say(f"{method.name} · {core.resolved_json(method)}")
    assert opened.folder is not None, "resolve refuses what is not saved"
    core.run(method, asked, runtime, out=opened.folder / LABELS, title="storing labels")
    labelled = CondensedImages.load(opened.folder)
    labelled.write_card(opened.folder)
    return labelled


def evaluate(small: Small | Sequence[Small], data: Any, **settings: Any) -> Any:
    """Train fresh networks on a condensed set and test them on real data; or test students.

    Args:
        small: The condensed set or the student, or its folder; or several by the same method with other seeds.
        data: A source, or anything `attar.load` takes; for graphs what `attar.graphs.load` takes, for students that
            write what `attar.language.load` takes.
        settings: Those of `attar.images.score.evaluate` (networks, repeats, protocol, ceiling, beside, seed, engine),
            of `attar.graphs.score.evaluate`, of `attar.classifiers.score.evaluate` (engine), or of
            `attar.language.score.evaluate` (repeats, seed, answers, teacher, stem, engine).

    Raises:
        InputError: The folder holds nothing that can be measured anew, or it does not belong to the data.
    """
    sets = _opened(list(small) if isinstance(small, (list, tuple)) else [small])
    kind = scored_kind(sets)
    source = importlib.import_module(f"attar.{SCORED[kind]}.sources").load(data)
    return importlib.import_module(f"attar.{kind}.score").evaluate(sets, source, **settings)


def scored_kind(sets: Sequence[Any]) -> str:
    """The one kind of what shall be measured anew.

    Raises:
        InputError: Several kinds, or one that is measured when it is made.
    """
    kinds = {kind_of(one) for one in sets}
    if len(kinds) != 1 or not kinds <= SCORED.keys():
        found = ", ".join(sorted(kinds)) or "none"
        raise InputError(f"give condensed sets, or students, of one kind; these are of {found}.")
    return kinds.pop()


def compare(sets: Sequence[CondensedImages | str | Path], data: Any, **settings: Any) -> Comparison:
    """Evaluate condensed sets with the same networks and seeds: rows of methods, columns of networks, differences.

    Args:
        sets: Condensed sets or their folders; those that differ only in their seed make one row.
        data: A source, or anything `attar.load` takes.
        settings: Those of `attar.images.compare.compare`: networks, repeats, protocol, ceiling, beside, seed, engine.

    Raises:
        InputError: A folder holds no condensed set, or one does not belong to the data.
    """
    return compare_images(_opened(sets), load(data), **settings)


def _opened(sets: Sequence[Small]) -> list[Any]:
    return [open_artefact(small) if isinstance(small, (str, Path)) else small for small in sets]


def open_artefact(folder: str | Path) -> Any:
    """Read what a method made, of any kind, from its folder; or from the hub, where `user/name` is no folder.

    Of a data set and a model of the same name on the hub, the data set is read; `from_hub` of the artefact's class
    reads the other.

    Raises:
        InputError: It holds none, or a truncated or altered one; or the hub has none, or cannot be reached.
    """
    name = str(folder)
    remote = not Path(folder).exists() and hub.looks_like_one(name)
    path = (hub.find(name, ARTEFACT) if remote else Path(folder)) / ARTEFACT
    kind = (kind_in(store.read_json(path)) if path.is_file() else None) or "images"
    if kind not in ARTEFACTS:
        raise InputError(f"{folder} holds a {kind!r}, which this version of attar does not know.")
    home, title = ARTEFACTS[kind].split(":")
    made = getattr(importlib.import_module(home), title)
    return made.from_hub(name) if remote else made.load(folder)


def import_set(
    files: Sequence[str | Path], data: Any, *, out: str | Path | None = None, **settings: Any
) -> CondensedImages:
    """Make an artefact of a condensed set that others have released as tensors or pictures.

    Args:
        files: The file, or images and labels apart, or a folder of pictures per class.
        data: What it was condensed from: a source, or anything `attar.load` takes.
        out: Folder for the artefact; None keeps it in memory.
        settings: Those of `attar.images.importing.import_set`: which, whitened, labels, lr.

    Raises:
        InputError: Something that is not known, does not fit the data, or holds more than tensors.
    """
    small = import_images([Path(file) for file in files], load(data), **settings)
    return small if out is None else small.save(out)


def train_experts(
    data: Any,
    experts: Experts | None = None,
    *,
    architecture: Architecture | None = None,
    augmentation: str | None = None,
    zca: bool = False,
    workers: int = 1,
    address: str | None = None,
    engine: Engine | None = None,
    say: Say | None = None,
) -> Pool:
    """Train experts for trajectory matching, or find them; 50 epochs each unless they say otherwise.

    Args:
        data: A source, or anything `attar.load` takes.
        experts: How they are trained, how many, and where they lie.
        architecture: The network; the field's ConvNet unless given.
        augmentation: DSA operations joined by underscores, or none; the field's unless given.
        zca: Whether images are whitened.
        workers: How many are trained at once, by Ray.
        address: A Ray cluster to train them on.
        engine: How to use the machine.
        say: Told what happens.

    Raises:
        InputError: The folder holds experts of other data or another network, or a torn file.
    """
    source, runtime = load(data), Runtime(engine, say=say)
    source = source.whitened(raw=True) if zca else source
    experts = experts or Experts()
    many = experts.experts or (100 if runtime.device.type != "cpu" else 10)
    return open_experts(
        source,
        (architecture or Architecture()).resolve(source.shape),
        default_strategy(source.flips) if augmentation is None else augmentation,
        replace(experts, experts=many),
        experts.expert_epochs or 50,
        runtime,
        workers=workers,
        address=address,
    )
