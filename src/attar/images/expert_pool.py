"""Trained experts on disk: they are found or trained, described, and drawn from.

A folder holds the experts of one kind of training on some data, each with its parameters after every epoch. Runs with
other seeds and other methods share them.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core import processes, store
from attar.core.dealing import deal
from attar.core.errors import InputError
from attar.core.fleet import ALONE, Crew, Task, crew
from attar.core.memory import may_stay_on
from attar.core.runtime import Engine, Runtime
from attar.core.sending import sent
from attar.core.settings import difference
from attar.core.training import cache_place, made_in
from attar.images.experts import Experts, TrainExperts
from attar.images.networks.architecture import Architecture
from attar.images.networks.flat import Vector
from attar.images.sources import ImageSource

TOGETHER = 10
"""Number of experts that a GPU trains together. A CPU trains them one after another."""


@dataclass
class Pool:
    """Trained experts on disk. For each student a method draws an expert and two of its checkpoints."""

    files: tuple[store.Rows, ...]

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def epochs(self) -> int:
        """Number of epochs of the shortest trajectory."""
        return min(len(file) for file in self.files) - 1

    def smoothness(self) -> str:
        """The smoothness of the trajectories in one line."""
        every = [smoothness(torch.stack([self.vector(e, k) for k in range(self.epochs + 1)])) for e in range(len(self))]
        mean = {name: sum(one[name] for one in every) / len(every) for name in every[0]}
        return (
            f"per epoch they move by {100 * mean['displacement']:.2f} ± {100 * mean['spread']:.2f} % of their length "
            f"({100 * mean['first']:.2f} % in the first), and turn by {mean['angle']:.0f}°"
        )

    def vector(self, expert: int, epoch: int, device: torch.device | str = "cpu") -> Vector:
        """An expert's parameters after a number of epochs. A GPU keeps those that it was given, if all would fit."""
        device = torch.device(device)
        if (expert, epoch, device) in self._kept:
            return self._kept[expert, epoch, device]
        found = sent(self.files[expert][epoch], device)
        if may_stay_on(device, found.nbytes * sum(map(len, self.files)), self):
            self._kept[expert, epoch, device] = found
        return found

    @cached_property
    def _kept(self) -> dict[tuple[int, int, torch.device], Vector]:
        return {}


def open_experts(
    source: ImageSource,
    architecture: Architecture,
    augmentation: str,
    experts: Experts,
    epochs: int,
    runtime: Runtime,
    *,
    hired: Crew | None = None,
) -> Pool:
    """Experts for these data: found on disk, or trained now and saved.

    Args:
        source: The data, whitened if the method whitens.
        architecture: The network.
        augmentation: DSA operations for their training.
        experts: Their training, number and folder.
        epochs: Smallest number of epochs.
        runtime: The machine; the experts have a seed of their own.
        hired: Who trains them. Default: this process.

    Raises:
        InputError: The folder holds experts of other data or another network, or a file is truncated.
    """
    assert experts.experts is not None, "resolve the settings first"
    folder = _folder(source, architecture, augmentation, experts)
    store.make_folder(folder)
    runtime.processes.once(partial(_write_card, folder, source, architecture, augmentation, experts))
    if runtime.processes.any(not (folder / "experts.json").exists()):
        raise InputError(
            f"{folder} is not the same folder for all {runtime.processes.count} processes. Choose a folder on storage "
            "that all machines share."
        )
    method = TrainExperts(
        experts=dataclasses.replace(experts, experts=None, epochs=None, folder=None),
        architecture=architecture,
        augmentation=augmentation,
        epochs=epochs,
        together=TOGETHER if (hired.on_gpus if hired else runtime.device.type != "cpu") else 1,
    )
    count = experts.experts
    missing = runtime.processes.once(
        lambda: [number for number in range(count) if number not in _found(folder, epochs)]
    )
    if missing:
        runtime.say(f"{count} experts of {epochs} epochs: {len(missing)} to train, kept in {folder}")
    _train_all(method, _groups(missing, method.together), folder.resolve(), source, runtime, hired)
    found = _found(folder, epochs)
    pool = Pool(tuple(found[number] for number in range(count)))
    for file in pool.files:
        runtime.prepared.count(file.path.parent)
    return pool


def _train_all(
    method: TrainExperts,
    groups: list[list[int]],
    folder: Path,
    source: ImageSource,
    runtime: Runtime,
    hired: Crew | None,
) -> None:
    """Train groups of experts: each by one process, or, where there are too few, by several together."""
    training = partial(_train, method, folder=folder, settings=runtime.engine)
    tasks = [Task(f"experts {group[0]} to {group[-1]}", partial(training, group), (source,)) for group in groups]
    with runtime.prepared.making(), crew(ALONE, runtime) as alone:
        if runtime.processes.count == 1 or (hired and hired.fleet != ALONE):
            (hired or alone).do(tasks, folder=folder, say=runtime.say)
            return
        one = method.resolve(source, runtime)
        work = one.work(source) / one.total_steps
        for numbers, together in deal(len(tasks), runtime.processes, work, runtime.device):
            shared = partial(training, together=together)
            some = [dataclasses.replace(tasks[number], call=partial(shared, groups[number])) for number in numbers]
            alone.do(some, folder=folder, say=runtime.say)
        runtime.processes.any(False)  # waits until the other processes are done too


def _groups(numbers: Sequence[int], together: int) -> list[list[int]]:
    """Groups of consecutive numbers, at most `together` in each."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and len(groups[-1]) < together and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def _train(
    method: TrainExperts,
    group: list[int],
    source: ImageSource,
    *,
    folder: Path,
    settings: Engine,
    together: processes.Processes = processes.ALONE,
) -> None:
    """Train a group in its own run folder, and resume it if it was stopped."""
    machine = Runtime(settings, method.experts.first_seed).among(together)
    method = dataclasses.replace(method, first=group[0], together=len(group)).resolve(source, machine)
    place = folder / f"{group[0]:03d}-{group[-1]:03d}-epochs-{method.epochs}"
    made_in(place, method, source, machine, title=f"expert {group[0]}", shared=True)


def _found(folder: Path, epochs: int) -> dict[int, store.Rows]:
    """Experts with enough epochs, by number."""
    found: dict[int, store.Rows] = {}
    for path in sorted(folder.glob("*/expert-*.safetensors")):
        rows = store.Rows(path)
        if len(rows) > epochs:
            found.setdefault(int(path.stem.split("-")[1]), rows)
    return found


def _folder(source: ImageSource, architecture: Architecture, augmentation: str, experts: Experts) -> Path:
    if experts.folder is not None:
        return Path(experts.folder)
    facts = _facts(source, architecture, augmentation, experts)
    names = {new: old for old, new in experts.moved.items()}
    older = {**facts, "training": {names.get(name, name): value for name, value in experts.how.items()}}
    usual, earlier = cache_place("experts", facts), cache_place("experts", older)
    return earlier if earlier.exists() and not usual.exists() else usual


def _facts(source: ImageSource, architecture: Architecture, augmentation: str, experts: Experts) -> dict[str, Any]:
    """The data, network, augmentation and training of experts.

    Earlier versions warmed up the penalty too. Their experts are not those of today.
    """
    return {
        "data": source.fingerprint,
        "network": architecture.to_json(),
        "augmentation": augmentation,
        "training": experts.how,
        **({"gradient penalty": "without the warm-up"} if experts.smooth_penalty and experts.smooth_warm_up else {}),
    }


def _in_words_of_today(facts: Any) -> Any:
    """The facts that an older version wrote, with the current names of the settings."""
    training = facts.get("training") if isinstance(facts, dict) else None
    if not isinstance(training, dict):
        return facts
    return {**facts, "training": {Experts.moved.get(name, name): value for name, value in training.items()}}


def _write_card(
    folder: Path, source: ImageSource, architecture: Architecture, augmentation: str, experts: Experts
) -> None:
    """Describe the experts in a folder, and refuse a folder that holds other experts.

    Raises:
        InputError: The folder holds other experts or other files, or its description is damaged or missing.
    """
    facts = _facts(source, architecture, augmentation, experts)
    path = folder / "experts.json"
    # Listed first: another process may describe the same experts here at this moment.
    files = [child for child in folder.iterdir() if not child.match(".*.tmp")]
    if path.exists():
        there = _in_words_of_today(store.read_json(path))
        changes = difference(there, facts) if isinstance(there, dict) else ["experts.json is damaged"]
        if changes:
            raise InputError(f"{folder} holds other experts ({'; '.join(changes)}); choose another folder.")
        return
    if any(folder.glob("*/expert-*.safetensors")):
        raise InputError(f"{path} is missing, so the data of the experts beside it are unknown; choose another folder.")
    if files:
        raise InputError(f"{folder} is not empty, but it has no experts trained by attar; choose another folder.")
    how = "\n".join(f"| {name} | {value} |" for name, value in experts.how.items())
    text = (
        f"# Experts on {source.name}\n\nNetworks ({architecture.network}) trained on all of {source.name}, for "
        f"trajectory matching. Their parameters are kept after every epoch. Each file has one expert: row 0 is its "
        f"start, row k its parameters after epoch k. Augmentation: {augmentation}.\n\n"
        f"| setting | value |\n|---|---|\n{how}\n"
    )
    store.write_json(path, facts)
    store.write_bytes(folder / "README.md", text.encode())


def smoothness(vectors: Float[Tensor, "checkpoint parameter"]) -> dict[str, float]:
    """Smoothness of a trajectory: mean relative displacement per epoch, its spread, and mean turn between epochs.

    AST claims that its warm-up shortens the first displacement and that its penalty makes displacements more equal.
    """
    moves = vectors[1:] - vectors[:-1]
    sizes = moves.norm(dim=1) / vectors[:-1].norm(dim=1)
    angles = torch.cosine_similarity(moves[1:], moves[:-1], dim=1).clamp(-1, 1).acos().rad2deg()
    return {
        "first": float(sizes[0]),
        "displacement": float(sizes.mean()),
        "spread": float(sizes.std(correction=0)),
        "angle": float(angles.mean()) if len(angles) else 0.0,
    }
