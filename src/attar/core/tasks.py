"""Base classes of the settings around a method: reading data, the task of a verb, and scoring.

A kind names its three classes in `kind.py`. None of them imports torch before it is used, so that help is quick.
"""

import os
import shlex
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from attar.core.flags import flag_words, is_flag
from attar.core.kinds import kind_of
from attar.core.settings import Range, Settings, Words

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Reading(Settings):
    """How data are read."""

    @abstractmethod
    def load(self, data: Any) -> Any:
        """The source that data stand for; a source passes as it is.

        Raises:
            InputError: Nothing of the sort, or nothing that can be used.
        """

    def describe(self, source: Any) -> str:
        """What a source holds, as `attar data` prints it."""
        return str(source)


@dataclass(frozen=True, kw_only=True)
class Task(Settings):
    """What one verb does with one kind, before and after the run of a method."""

    title: ClassVar[str] = ""
    """Name of the run on the progress line. Default: the name of the method."""
    usual: ClassVar[str] = ""
    """Settings class of the verb's only method, as `package.module:Name`, if the verb takes no METHOD."""
    word: ClassVar[str] = ""
    """What follows the verb to choose this task, where several kinds have the verb: `attar import teacher`."""
    meanings: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """What settings of the verb's command mean for such a task, in a sentence each, by name."""
    positional: ClassVar[str] = ""
    """The setting that is given without a flag, if there is one."""
    of_artefact: ClassVar[bool] = False
    """Whether the verb works on an artefact, whose folder is given without a flag and keeps what is made, not on
    data."""
    follows: ClassVar[str] = ""
    """The flag, without dashes, that names an artefact of an earlier run, if there is one: see `earlier`."""
    measured: ClassVar[bool] = True
    """Whether `attar evaluate` measures what is made, where it measures the kind at all."""

    @property
    def earlier(self) -> Any:
        """The artefact that the method works on, or its folder, if there is one. Its own kind reads the data."""
        return None

    def models_of(self, method: Any) -> Sequence[Any]:
        """What the call names as models that a library reads from a folder or from the hub, and from nowhere else.

        Where no folder has such a name, it is one on the hub, also without a user in front.
        """
        return ()

    def source(self, data: Any, reading: Reading) -> Any:
        """What the method works on, or is made from."""
        return reading.load(data)

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """What the engine is given: a source with what stands beside it, and the method with what follows from that."""
        return source, method

    def run(self, method: Any, source: Any, runtime: Any, *, kind: Any, out: Path | None) -> Any:
        """Make something of a source by a method: one run of the engine, unless the verb knows better."""
        from attar.core.runs import carry_out

        return carry_out(method, source, runtime, kind=kind, task=self, out=out)

    def measured_on(self, source: Any) -> Any:
        """What an artefact of another kind, which this task made of a source, is measured on."""
        return source

    def folder(self, source: Any, out: Path | None) -> Path | None:
        """Where the run lies; `out` unless the verb has a place of its own."""
        return out

    def open(self, folder: Path, kind: Any) -> Any:
        """Read what a finished run has left."""
        return kind.load(folder)

    def score(self, made: Any, work: Any, method: Any, runtime: Any) -> Any:
        """The artefact with what was measured of it, once, before the run counts as finished."""
        return made

    @property
    def scores(self) -> bool:
        """Whether `score` measures anything."""
        return type(self).score is not Task.score

    def place(self, usual: Path) -> Path | None:
        """The folder of a run, where none is named."""
        return usual

    def told(self, made: Any, folder: Path | None, data: str = "") -> list[str]:
        """What the terminal says when a run is done: what was made, where, and how to go on.

        Args:
            made: What was made.
            folder: Where.
            data: What has to be named again for a score, since the artefact does not keep it.
        """
        lines = [f"{folder}: {made.summary}"]
        if folder is not None and (folder / "preview.png").exists():
            lines.append(f"picture: {folder / 'preview.png'}")
        if kind_of(made).scoring and self.measured:
            place = f"./{folder}" if is_flag(str(folder)) else str(folder)
            words = ["attar", "evaluate", place, *(flag_words("--data", data) if data else [])]
            lines.append(f"score:   {shlex.join(words)}")
        return lines


@dataclass(frozen=True, kw_only=True)
class Scoring(Settings):
    """How artefacts of a kind are measured again."""

    shares: ClassVar[bool] = False
    """Whether several processes share the measurement. If not, several are refused."""

    @property
    def reads(self) -> bool:
        """Whether the measurement needs the data that the artefacts were made from."""
        return True

    def remember(self, artefacts: Sequence[Any], found: "Evaluation") -> None:
        """Keep what was measured beside artefacts that lie in folders of one's own, and on their cards.

        Args:
            artefacts: Those of the evaluation's that may be written to.
            found: What was measured.
        """
        for row in found.rows:
            for index, one in enumerate(row.artefacts):
                mine = any(one is other for other in artefacts)
                if mine and one.folder is not None and os.access(one.folder, os.W_OK):
                    one.remember(list(row.of_set(index).cells))

    @abstractmethod
    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Rows × columns of scores: artefacts that differ in their seed alone are repeats of one row.

        Args:
            artefacts: Of one kind.
            source: What they were made from; None where that is not read.
            runtime: The machine and the seed.

        Raises:
            InputError: Artefacts and data do not fit one another.
        """


@dataclass(frozen=True, kw_only=True)
class ByNetworks(Scoring):
    """Scores of networks that are trained on artefacts, beside those of all the data."""

    networks: tuple[Annotated[Any, Words()], ...] = ()
    """Kinds of networks."""
    repeats: Annotated[int, Range(1)] = 5
    """Repeats of the measurement: networks of each kind on each set."""
    protocol: Annotated[Any, Words()] = "field"
    """How they are trained."""
    ceiling: Literal["auto", "run", "skip"] = "auto"
    """Whether to train networks on all the data, as the ceiling. auto does if that takes under ten minutes."""
