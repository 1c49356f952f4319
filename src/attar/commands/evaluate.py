"""`attar evaluate FOLDER ...`: what fresh networks learn from a condensed set, or several side by side; students."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attar.commands.shared import Reading, at_least_one, parse, speaker
from attar.core.errors import InputError

if TYPE_CHECKING:
    from attar.images.artefact import CondensedImages
    from attar.images.sources import ImageSource


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    from tyro.conf import Positional

    from attar.core.runtime import Engine

    def evaluate(
        folders: Positional[tuple[str, ...]],
        data: str | None = None,
        networks: tuple[str, ...] = (),
        repeats: int = 5,
        protocol: str = "field",
        ceiling: Literal["auto", "run", "skip"] = "auto",
        beside: Literal["auto", "run", "skip"] = "auto",
        seed: int = 0,
        reading: Reading = Reading(),  # noqa: B008
        json: Path | None = None,
        engine: Engine = Engine(),  # noqa: B008
    ) -> None:
        """Train fresh networks on a condensed set and test them on real data; or test distilled students.

        With several folders, those that differ only in the seed are repeats of one row; rows are compared in pairs.

        Args:
            folders: Condensed sets, of images or of graphs, or students.
            data: The data they were condensed from; left out, the bundled set they name.
            networks: Kinds of networks, such as convnet, resnet18, convnet:norm=batch,width=64, transformers:FOLDER;
                for graphs gcn, gin, gat, sage. convnet, or gcn, unless given.
            repeats: Networks of each kind on each set.
            protocol: How they are trained: field (1,000 epochs), quick (100), datadam, dc; on a teacher's answers rded
                and hello, on stored ones sre2l.
            ceiling: The score of all the data: auto trains it when that takes under ten minutes.
            beside: What a score is read with (no augmentation, hard labels, random images): auto as for the ceiling.
            seed: The repeats' seeds come from it, the same for every set.
            reading: How pictures are read.
            json: File to write the scores to as well.
            engine: How the machine is used.
        """
        from attar.core.store import write_json
        from attar.images.compare import compare
        from attar.images.training import protocol_named
        from attar.verbs import kind_of, open_artefact

        at_least_one(repeats=repeats)
        if not folders:
            raise InputError("give the folder of a condensed set.")
        sets = [open_artefact(folder) for folder in folders]
        local = {Path(folder) for folder in folders}  # what came from the hub lies in its cache, which is not ours
        say = speaker(engine.quiet)
        if kind_of(sets[0]) != "images":
            others = {"protocol": protocol, "ceiling": ceiling, "seed": seed, "repeats": repeats}
            _other_kind(sets, data, {**others, "networks": networks or ("gcn",), "engine": engine, "say": say}, json)
            return
        source = _source(sets, data, reading)
        for folder, small in zip(folders, sets, strict=True):
            if source.fingerprint != small.origin.fingerprint and small.origin.settings.get("zca") is not True:
                say(f"note: {source.name} is not, pixel for pixel, the data that {folder} was condensed from.")
        how = protocol_named(protocol)
        settings: dict[str, Any] = {
            "networks": networks or ("convnet",),
            "repeats": repeats,
            "protocol": how,
            "ceiling": ceiling,
            "beside": beside,
            "seed": seed,
            "engine": engine,
            "say": say,
        }
        result = compare(sets, source, **settings)
        only = result.rows[0].evaluation if len(result.rows) == 1 else None
        for row in result.rows:
            for index, small in enumerate(row.sets):
                if small.folder in local and os.access(small.folder, os.W_OK):
                    small.remember([score.to_json() for score in row.evaluation.of_set(index).networks])
        print(only or result)
        if json is not None:
            write_json(json, (only or result).to_json())

    parse(evaluate, "attar evaluate", arguments)


def _other_kind(sets: list[Any], data: str | None, settings: dict[str, Any], json: Path | None) -> None:
    """Graphs and students, which are measured in their own way."""
    from attar.core.store import write_json
    from attar.verbs import evaluate

    bundled = {"motifs", "digits"}
    if data is None and sets[0].origin.source not in bundled:
        raise InputError(f"this was made from {sets[0].origin.source!r}, which is not bundled; give --data.")
    result = evaluate(sets, data or sets[0].origin.source, **settings)
    print(result)
    if json is not None:
        write_json(json, result.to_json())


def _source(sets: "list[CondensedImages]", data: str | None, reading: Reading) -> "ImageSource":
    """The data that was asked for, or the bundled data that the sets name."""
    origin = sets[0].origin
    if data is None and origin.source != "digits":
        raise InputError(f"this was condensed from {origin.source!r}, which is not bundled; give --data.")
    return reading.load(data or origin.source, origin.seed)
