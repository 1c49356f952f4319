"""What the battery needs: one finished run of every method, runs that are killed, and a hub that takes notes."""

import contextlib
import fnmatch
import importlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import small
from attar.core.runtime import Engine

EVERY_STEP = Engine(device="cpu", checkpoint_seconds=0, quiet=True)
"""A checkpoint after every step."""
IN_ONE_GO = Engine(device="cpu", quiet=True)
"""No checkpoint, in runs as short as these."""

SEED_FREE = {
    "class-mean",
    "table-herding",
    "table-k-center",
    "spectra",
    "answers",
    *small.BY_KIND["mixtures"],
    *small.CALIBRATORS,
} - {"ctdgmr", "pts", "ca"}
"""Methods that make the same of the same data, whatever the seed."""
MEASURED = {"timing.json"}
"""Files that hold what a clock said."""
CLOCKED = {
    "conv": {"network.safetensors"},
    "columns": {"columns.safetensors", "artefact.json", "preview.png"},
    "emulator": {"emulator.safetensors", "artefact.json"},
}
"""Methods whose result or card a clock decides, and the files that it does not touch."""


class Killed(BaseException):
    """Ends a run as abruptly as an exception can."""


@contextlib.contextmanager
def dying(method: Any, step: int) -> Iterator[None]:
    """Within, the method dies in the middle of its `step`-th step; that it does is expected."""
    with dying_in(type(method), "step", step):
        yield


@contextlib.contextmanager
def dying_in(home: Any, name: str, call: int) -> Iterator[None]:
    """Within, a function of a class or module dies at the end of its `call`-th call; that it does is expected."""

    def die(number: int) -> None:
        if number == call:
            raise Killed

    with _told_of_calls(home, name, die), pytest.raises(Killed):
        yield


@contextlib.contextmanager
def counted(method: Any) -> Iterator[list[int]]:
    """Within, the steps that the method takes are noted."""
    steps: list[int] = []
    with _told_of_calls(type(method), "step", steps.append):
        yield steps


@contextlib.contextmanager
def idle(method: Any) -> Iterator[None]:
    """Within, the method must not begin."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(method), "build", lambda *a: pytest.fail("it ran"))
        yield


def killed_and_resumed(scenario: "Scenario", name: str, *steps: int, method: Any = None) -> Path:
    """The folder of a run that was killed in each of these steps, and each time took up there what was left."""
    method, done = method or scenario.method, 0
    for step in steps:
        with counted(method) as taken, dying(method, step - done):
            scenario.run(name, method)
        assert len(taken) == step - done
        assert not (scenario.place / name / "artefact.json").exists()
        done = step - 1
    with counted(method) as taken:
        folder = scenario.run(name, method)
    assert len(taken) == scenario.filled_in(folder).total_steps - done
    return folder


@contextlib.contextmanager
def _told_of_calls(home: Any, name: str, tell: Callable[[int], Any]) -> Iterator[None]:
    real, numbers = getattr(home, name), itertools.count(1)

    def call(*given: Any, **settings: Any) -> Any:
        result = real(*given, **settings)
        tell(next(numbers))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(home, name, call)
        yield


@dataclass
class Scenario:
    """An entry of `small`, and its runs."""

    entry: str
    place: Path

    @property
    def kind(self) -> str:
        return small.kind_of(self.entry)

    @cached_property
    def method(self) -> Any:
        return small.method_of(self.entry)

    def run(self, name: str | Path, method: Any = None, **settings: Any) -> Path:
        """Run it in a folder of this name; return the folder."""
        folder = self.place / name
        small.run(method or self.method, self.kind, out=folder, **{"engine": EVERY_STEP, **settings})
        return folder

    @cached_property
    def whole(self) -> Path:
        """A run from beginning to end, made once; it is only looked at."""
        return self.run("whole", engine=IN_ONE_GO)

    def filled_in(self, folder: Path) -> Any:
        """The settings that the engine was given for the run in a folder."""
        return small.method_of(
            self.entry, json.loads((folder / "run" / "settings.json").read_text(encoding="utf-8"))["settings"]
        )

    @property
    def told_and_filled_in(self) -> list[Any]:
        """The settings before the run, and in it."""
        return [self.method, self.filled_in(self.whole)]

    @property
    def steps(self) -> int:
        """How many a whole run takes."""
        return int(self.filled_in(self.whole).total_steps)

    @cached_property
    def again(self) -> Path:
        """A second run of the same seed. Where it has steps, it was killed in its first, a middle and its last one."""
        cuts = sorted({1, self.steps // 2 + 1, self.steps}) if self.steps else []
        return killed_and_resumed(self, "again", *cuts)

    def bytes_of(self, folder: Path) -> dict[str, bytes]:
        """The files of the artefact in a folder, without what a clock decides."""
        untouched = CLOCKED.get(small.method_name(self.entry))
        found = {name: data for name, data in files_of(folder).items() if Path(name).name not in MEASURED}
        return {name: data for name, data in found.items() if untouched is None or name in untouched}

    def tensors_in(self, folder: Path) -> dict[str, bytes]:
        """The tensors and tables of the artefact in a folder."""
        ends = (".safetensors", ".parquet")
        return {name: data for name, data in self.bytes_of(folder).items() if name.endswith(ends)}

    def assert_alike(self, one: Path, other: Path) -> None:
        """See that two runs made the same, and told the same of their steps."""
        curves = [(folder / "run" / "metrics.jsonl").read_text(encoding="utf-8") for folder in (one, other)]
        assert self.bytes_of(one) == self.bytes_of(other)
        assert curves[0] == curves[1]


_scenarios: dict[str, Scenario] = {}


def scenario_of(entry: str, folders: pytest.TempPathFactory) -> Scenario:
    """The scenario of an entry: one for all test files."""
    if entry not in _scenarios:
        _scenarios[entry] = Scenario(entry, folders.mktemp("scenario"))
    return _scenarios[entry]


def files_of(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, without the run that made it."""
    inner = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {str(name): path.read_bytes() for name, path in inner.items() if name.parts[0] != "run"}


def everything_in(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, with the run that made it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Arrived(BaseException):
    """Carries the method that a command made of its words."""


@contextlib.contextmanager
def arriving(method: Any) -> Iterator[list[Any]]:
    """Within, a command gets as far as the method, which is noted."""
    found: list[Any] = []

    def arrive(self: Any, *rest: Any) -> None:
        found.append(self)
        raise Arrived

    first = next(name for name in ("prepared", "resolve", "compress") if hasattr(method, name))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Arrived):
        patch.setattr(type(method), first, arrive)
        yield found


class Hub:
    """Stands for the hub, and remembers which files it was given."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.files: set[str] = set()

    def __call__(self, token: str | None = None) -> "Hub":
        return self

    def create_repo(self, name: str, **settings: Any) -> str:
        self.names.append(name)
        return f"https://hub.example/{name}"

    def upload_folder(self, *, folder_path: str | Path, allow_patterns: list[str], **settings: Any) -> None:
        names = everything_in(Path(folder_path))
        self.files |= {name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)}


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    """Within, what is pushed goes to a hub that takes notes."""
    import huggingface_hub

    with contextlib.suppress(ImportError):  # which takes the real names with it when it is first imported
        importlib.import_module("transformers.utils.hub")
    with pytest.MonkeyPatch.context() as patch:
        found = Hub()
        patch.setattr(huggingface_hub, "HfApi", found)
        yield found
