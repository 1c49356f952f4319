"""Tasks of images other than condensing: storing labels, training experts, and importing released sets."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from attar.core import tasks
from attar.core.errors import InputError
from attar.core.settings import Hidden, Range, Words


@dataclass(frozen=True, kw_only=True)
class Label(tasks.Task):
    """Settings of the teacher that is trained if neither the set nor the method has one."""

    data: Annotated[Any, Words()] = None
    """Data to train a teacher on, if neither the set nor --teacher has one."""
    network: Annotated[Any, Words()] = "convnet:norm=batch"
    """The network, by words, that is then trained as the teacher."""

    title = "storing labels"
    of_artefact = True
    usual = "attar.images.labels.stored:StoreLabels"

    def source(self, data: Any, reading: tasks.Reading) -> Any:
        """The condensed set."""
        from attar.images.artefact import CondensedImages

        return data if isinstance(data, CondensedImages) else CondensedImages.load(data)

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """The set and the method. A teacher is trained and added to the set if neither has one."""
        if source.teacher is not None or method.teacher is not None or self.data is None:
            return source, method
        from attar.images.networks.architecture import parse
        from attar.images.protocols import PROTOCOLS
        from attar.images.sources import load
        from attar.images.trained import trained

        network = parse(self.network) if isinstance(self.network, str) else self.network
        return replace(source, teacher=trained(load(self.data), network, runtime, PROTOCOLS["ceiling"])), method

    def folder(self, source: Any, out: Path | None) -> Path | None:
        """The folder of labels inside the set's folder."""
        from attar.images.labels.stored import LABELS

        return source.folder and source.folder / LABELS

    def told(self, made: Any, folder: Path | None, data: str = "") -> list[str]:
        """The size of the labels, and the command that trains on them."""
        soft, rest = made.soft, made.bytes - made.soft.bytes
        return [
            f"{folder}: labels of {soft.epochs} epochs, {soft.bytes:,} bytes, {soft.bytes_per_label:,} per label; "
            f"the rest of the set {rest:,} bytes",
            f"score:   {shlex.join(['attar', 'evaluate', str(folder), '--protocol', 'sre2l'])}",
        ]

    def open(self, folder: Path, kind: Any) -> Any:
        """Open the set with its labels, and add them to its card."""
        labelled = kind.load(folder.parent)
        labelled.write_card(folder.parent)
        return labelled


@dataclass(frozen=True, kw_only=True)
class Import(tasks.Task):
    """The files of a released set."""

    files: Annotated[tuple[Path, ...], Hidden()] = ()
    """Files of the set: one .pt, .npz or .safetensors; three with images, labels and learning rate; or a folder of
    pictures."""

    title = "importing"
    usual = "attar.images.importing:Import"
    positional = "files"

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """The files with the data that they were condensed from, and the method."""
        from attar.images.importing import Released

        return Released(source, self.files), method


@dataclass(frozen=True, kw_only=True)
class Train(tasks.Task):
    """Settings of the experts' network and of its input."""

    network: Annotated[Any, Words()] = "convnet"
    """The network, by words, of the experts."""
    augmentation: str | None = None
    """DSA operations joined by underscores, or none. Default: the usual six (five for digits)."""
    zca: bool = False
    """Whether images are ZCA-whitened, as methods with --zca need it."""
    workers: Annotated[int, Range(1)] = 1
    """Number of tasks that Ray does at once on this machine, with one core each: experts."""
    address: str | None = None
    """Address of a Ray cluster to do tasks on: experts."""
    task_gpus: Annotated[float, Range(0)] | None = None
    """GPUs, or a share of one, for each task of Ray. Default: one where there are GPUs, unless --device is cpu."""

    def place(self, usual: Path) -> Path | None:
        """None: experts are stored in the cache, where every method finds them."""
        return None

    def told(self, made: Any, folder: Path | None, data: str = "") -> list[str]:
        """The folder of the experts, and the smoothness of their trajectories."""
        where = made.files[0].path.parents[1]
        return [f"{where}: {len(made)} experts of {made.epochs} epochs", made.smoothness()]

    def run(self, method: Any, source: Any, runtime: Any, *, kind: Any, out: Path | None) -> Any:
        """Train the experts. Each group is a separate run below one folder that every method uses."""
        from attar.core.fleet import Fleet, crew
        from attar.images.expert_pool import open_experts
        from attar.images.networks.architecture import parse
        from attar.images.views.augment import default_strategy

        if runtime.seed:
            raise InputError(
                f"--seed is {runtime.seed}, but each expert has a seed of its own. Give --first-seed {runtime.seed}."
            )
        runtime.say(str(source))
        if runtime.engine.trackers:
            runtime.say("note: experts are many small trainings, which no tracker is told of.")
        source = source.whitened(raw=True) if self.zca else source
        folder = method.folder if out is None else str(out)
        network = (parse(self.network) if isinstance(self.network, str) else self.network).resolve(source.shape)
        augmentation = default_strategy(source.flips) if self.augmentation is None else self.augmentation
        with crew(Fleet(self.workers, self.address, self.task_gpus), runtime) as hired:
            many = method.experts or (100 if hired.on_gpus else 10)
            experts = replace(method, experts=many, folder=folder)
            return open_experts(source, network, augmentation, experts, method.epochs or 50, runtime, hired=hired)
