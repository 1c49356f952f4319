"""`attar evaluate FOLDER ...`: what fresh networks learn from a condensed set, or several side by side; students."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attar.commands.shared import Reading, at_least_one, parse, speaker
from attar.core.errors import InputError

if TYPE_CHECKING:
    from attar.images.sources import ImageSource

BUNDLED = {"images": "digits", "graphs": "motifs", "classifiers": "digits", "language": "phrases"}
"""Data that are at hand, by the kind of what was made from them."""

MEANT = {
    "graphs": ("networks", "repeats", "protocol", "ceiling", "seed"),
    "classifiers": (),
    "language": ("repeats", "seed", "answers", "teacher", "stem"),
}
"""What means something to kinds that are measured in a way of their own."""


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
        answers: int = 64,
        teacher: str | None = None,
        stem: Literal["none", "porter"] = "none",
        reading: Reading = Reading(),  # noqa: B008
        json: Path | None = None,
        engine: Engine = Engine(),  # noqa: B008
    ) -> None:
        """Train fresh networks on a condensed set and test them on real data; or test distilled students.

        With several folders, those that differ only in the seed are repeats of one row; rows are compared in pairs.
        Students train nothing: networks, protocol, ceiling and beside mean nothing to them, nor repeats and seed to
        classifiers. Answers, teacher and stem are for students that write.

        Args:
            folders: Condensed sets, of images or of graphs, or students.
            data: The data they were made from; left out, the bundled data they name (digits, motifs, phrases).
            networks: Kinds of networks, such as convnet, resnet18, convnet:norm=batch,width=64, transformers:FOLDER;
                for graphs gcn, gin, gat, sage. convnet, or gcn, unless given.
            repeats: Networks of each kind on each set; rounds of answers of a student that writes.
            protocol: How they are trained: field (1,000 epochs), quick (100), datadam, dc; on a teacher's answers rded
                and hello, on stored ones sre2l.
            ceiling: The score of all the data: auto trains it when that takes under ten minutes.
            beside: What a score is read with (no augmentation, hard labels, random images): auto as for the ceiling.
            seed: The repeats' seeds come from it, the same for every set; rounds of answers are 10, 20, ... beyond it.
            answers: Test prompts that a student answers in each round; 0 for its cross-entropy alone.
            teacher: A causal model's folder or name on the hub, for a student's excess error and what it keeps.
            stem: How words are shortened before ROUGE-L compares them; porter is the field's, and needs nltk.
            reading: How pictures are read.
            json: File to write the scores to as well.
            engine: How the machine is used.
        """
        from attar.core.store import write_json
        from attar.images.compare import compare
        from attar.images.training import protocol_named
        from attar.verbs import open_artefact, scored_kind

        at_least_one(repeats=repeats)
        if not folders:
            raise InputError("give the folder of a condensed set, or of a student.")
        sets = [open_artefact(folder) for folder in folders]
        local = {Path(folder) for folder in folders}  # what came from the hub lies in its cache, which is not ours
        say = speaker(engine.quiet)
        kind = scored_kind(sets)
        if kind != "images":
            asked = {"networks": networks or ("gcn",), "repeats": repeats, "protocol": protocol, "ceiling": ceiling}
            asked |= {"seed": seed, "answers": answers, "teacher": teacher, "stem": stem}
            meant = {name: asked[name] for name in MEANT[kind]}
            real = _source(sets, data, reading, kind) if kind == "classifiers" else _named(sets, data, kind)
            _other_kind(sets, real, {**meant, "engine": engine, "say": say}, json)
            return
        source = _source(sets, data, reading, kind)
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


def _other_kind(sets: list[Any], data: Any, settings: dict[str, Any], json: Path | None) -> None:
    """Graphs and students, which are measured in their own way."""
    from attar.core.store import write_json
    from attar.verbs import evaluate

    result = evaluate(sets, data, **settings)
    print(result)
    if json is not None:
        write_json(json, result.to_json())


def _source(sets: list[Any], data: str | None, reading: Reading, kind: str) -> "ImageSource":
    """The images that were asked for, or the bundled ones, in training and test images as the first was made from."""
    return reading.load(_named(sets, data, kind), sets[0].origin.seed)


def _named(sets: list[Any], data: str | None, kind: str) -> str:
    """The name of the data: what was asked for, or what is at hand, where everything was made from that."""
    if data is not None:
        return data
    for origin in (one.origin for one in sets):
        if origin.source != BUNDLED[kind]:
            made = "condensed" if kind == "images" else "made"
            raise InputError(f"this was {made} from {origin.source!r}, which is not bundled; give --data.")
    return BUNDLED[kind]
