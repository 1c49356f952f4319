"""What each verb does: the Python face and the command line call the same functions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attar.core import engine as core
from attar.core.runtime import Engine, Runtime
from attar.images import hub
from attar.images.artefact import CondensedImages
from attar.images.compare import Comparison
from attar.images.compare import compare as compare_images
from attar.images.importing import import_set as import_images
from attar.images.score import Evaluation
from attar.images.score import evaluate as evaluate_images
from attar.images.sources import load

Say = Callable[[str], None]
Small = CondensedImages | str | Path


def condense(
    data: Any,
    method: Any,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    say: Say | None = None,
) -> CondensedImages:
    """Turn a labelled data set into a few samples per class.

    Args:
        data: A source, or anything `attar.load` takes.
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
    source = load(data)
    runtime = Runtime(engine, seed, say=say)
    method = method.resolve(source, runtime)
    runtime.plan(method.work(source))
    runtime.say(str(source))
    runtime.say(f"{method.name} · {core.resolved_json(method)}")
    small: CondensedImages = core.run(method, source, runtime, out=Path(out) if out else None)
    return small


def evaluate(small: Small | Sequence[Small], data: Any, **settings: Any) -> Evaluation:
    """Train fresh networks on a condensed set and test them on the real test images.

    Args:
        small: The condensed set, or its folder; or several by the same method with other seeds.
        data: A source, or anything `attar.load` takes.
        settings: Those of `attar.images.score.evaluate`: networks, repeats, protocol, ceiling, beside, seed, engine.

    Raises:
        InputError: The folder holds no condensed set, or it does not belong to the data.
    """
    several = [small] if isinstance(small, (CondensedImages, str, Path)) else list(small)
    return evaluate_images(_opened(several), load(data), **settings)


def compare(sets: Sequence[Small], data: Any, **settings: Any) -> Comparison:
    """Evaluate condensed sets with the same networks and seeds: rows of methods, columns of networks, differences.

    Args:
        sets: Condensed sets or their folders; those that differ only in their seed make one row.
        data: A source, or anything `attar.load` takes.
        settings: Those of `attar.images.compare.compare`: networks, repeats, protocol, ceiling, beside, seed, engine.

    Raises:
        InputError: A folder holds no condensed set, or one does not belong to the data.
    """
    return compare_images(_opened(sets), load(data), **settings)


def _opened(sets: Sequence[Small]) -> list[CondensedImages]:
    return [small if isinstance(small, CondensedImages) else open_artefact(small) for small in sets]


def open_artefact(folder: str | Path) -> CondensedImages:
    """Read a condensed set from its folder, or from the hub where `user/name` is no folder here.

    Raises:
        InputError: It holds none, or a truncated or altered one.
    """
    if not Path(folder).exists() and hub.looks_like_one(str(folder)):
        return CondensedImages.from_hub(str(folder))
    return CondensedImages.load(folder)


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
