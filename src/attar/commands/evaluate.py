"""`attar evaluate FOLDER`: what fresh networks learn from a condensed set."""

from pathlib import Path
from typing import Literal

from attar.commands.shared import Reading, at_least_one, parse, speaker
from attar.core.errors import InputError


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    from tyro.conf import Positional

    from attar.core.runtime import Engine

    def evaluate(
        folder: Positional[Path],
        data: str | None = None,
        networks: tuple[str, ...] = ("convnet",),
        repeats: int = 5,
        protocol: str = "field",
        ceiling: Literal["auto", "run", "skip"] = "auto",
        seed: int = 0,
        reading: Reading = Reading(),  # noqa: B008
        json: Path | None = None,
        engine: Engine = Engine(),  # noqa: B008
    ) -> None:
        """Train fresh networks on a condensed set and test them on the real test images.

        Args:
            folder: The condensed set.
            data: The data it was condensed from; left out, the bundled set it names.
            networks: Kinds of networks, such as convnet, mlp, convnet:norm=batch,width=64.
            repeats: Networks of each kind.
            protocol: How they are trained: field (1,000 epochs), quick (100), datadam, dc.
            ceiling: The score of all the data: auto trains it when that takes under ten minutes.
            seed: The repeats' seeds come from it, the same for every set.
            reading: How pictures are read.
            json: File to write the scores to as well.
            engine: How the machine is used.
        """
        from attar.core.store import write_json
        from attar.images.score import evaluate as run
        from attar.images.training import protocol_named
        from attar.verbs import open_artefact

        at_least_one(repeats=repeats)
        small, how = open_artefact(folder), protocol_named(protocol)
        if data is None and small.origin.source != "digits":
            raise InputError(f"{folder} was condensed from {small.origin.source!r}, which is not bundled; give --data.")
        source = reading.load(data or small.origin.source, small.origin.seed)
        say = speaker(engine.quiet)
        if source.fingerprint != small.origin.fingerprint and small.origin.settings.get("zca") is not True:
            say(f"note: {source.name} is not, pixel for pixel, the data that {folder} was condensed from.")
        result = run(
            small,
            source,
            networks=networks,
            repeats=repeats,
            protocol=how,
            ceiling=ceiling,
            seed=seed,
            engine=engine,
            say=say,
        )
        print(result)
        if json is not None:
            write_json(json, result.to_json())

    parse(evaluate, "attar evaluate", arguments)
