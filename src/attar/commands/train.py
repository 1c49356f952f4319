"""`attar train experts`: networks trained on all the data, their parameters kept, for trajectory matching."""

from pathlib import Path

from attar.commands.shared import Reading, at_least_one, parse, speaker
from attar.core.errors import unknown

TRAINED = {"experts": "networks whose parameters are kept after every epoch, for trajectory matching"}
"""What can be trained, and what it is."""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: attar train WHAT --data DATA ...\n")
        print("\n".join(f"  {name:<12}{what}" for name, what in TRAINED.items()))
        print("\nAll settings: attar train experts --help")
        return
    if arguments[0] not in TRAINED:
        raise unknown("thing to train", arguments[0], TRAINED)

    from attar.core.runtime import Engine
    from attar.images.experts import Experts
    from attar.images.networks.architecture import Architecture

    def train(
        data: str = "digits",
        experts: Experts = Experts(),  # noqa: B008
        architecture: Architecture = Architecture(),  # noqa: B008
        augmentation: str | None = None,
        zca: bool = False,
        workers: int = 1,
        address: str | None = None,
        reading: Reading = Reading(),  # noqa: B008
        engine: Engine = Engine(),  # noqa: B008
    ) -> None:
        """Train experts once; every method of trajectory matching finds those of its data and network.

        Args:
            data: digits, a parquet file or folder, a folder of pictures per class, or a name on the hub.
            experts: How they are trained, how many, for how long (50 epochs unless given) and where they lie.
            architecture: The network.
            augmentation: DSA operations joined by underscores, or none; the field's six (five for digits) unless given.
            zca: Whether images are whitened, as methods with --zca need it.
            workers: How many are trained at once on this machine, by Ray, on one core each.
            address: A Ray cluster to train them on.
            reading: How pictures are read.
            engine: How the machine is used.
        """
        from attar.verbs import train_experts

        at_least_one(workers=workers)
        source = reading.load(data, 0)
        pool = train_experts(
            source,
            experts,
            architecture=architecture,
            augmentation=augmentation,
            zca=zca,
            workers=workers,
            address=address,
            engine=engine,
            say=speaker(engine.quiet),
        )
        folder: Path = pool.files[0].path.parents[1]
        print(f"{folder}: {len(pool)} experts of {pool.epochs} epochs")
        print(pool.smoothness())

    parse(train, "attar train experts", arguments[1:])
