"""Condense a list of words to its commonest ones, counted a piece at a time."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

from attar.core import store, tasks
from attar.core.artefact import ARTEFACT, CARD, Origin, Shareable, read_facts, write_facts
from attar.core.cell import Beside, Cell
from attar.core.evaluation import Evaluation, Row
from attar.core.score import Score
from attar.core.settings import Range, Settings
from attar.core.state import rebuilt

PROVERB = ["the", "early", "bird", "gets", "the", "worm", "but", "the", "second", "mouse", "gets", "the", "cheese"]
PIECE = 4


@dataclass(frozen=True)
class WordList:
    """A source: words, every fifth of which is kept for testing."""

    name: str
    words: tuple[str, ...]

    @property
    def train(self) -> list[str]:
        """The words to count."""
        return [word for place, word in enumerate(self.words) if place % 5]

    @property
    def fingerprint(self) -> str:
        """A digest of all words."""
        return hashlib.blake2b(json.dumps(self.words).encode(), digest_size=16).hexdigest()

    def __str__(self) -> str:
        return f"{self.name}: {len(self.train)} words to count and {len(self.words) - len(self.train)} to test on"


@dataclass(frozen=True, kw_only=True)
class Reading(tasks.Reading):
    """How lists of words are read."""

    lower: bool = False
    """Whether upper and lower case are one."""

    def load(self, data: Any) -> WordList:
        """A list by name or from a file."""
        if isinstance(data, WordList):
            return data
        words = PROVERB if data == "proverb" else Path(data).read_text(encoding="utf-8").split()
        name = Path(str(data)).stem
        return WordList(name, tuple(word.lower() if self.lower else word for word in words))


def looks_like(data: str) -> bool:
    """Whether a file is a list of words."""
    return data.endswith(".words")


@dataclass(frozen=True)
class CommonWords(Shareable):
    """A few words that stand for many."""

    words: tuple[str, ...]
    origin: Origin
    folder: Path | None = field(default=None, compare=False)

    kind = "words"
    repo_type = "dataset"
    files = ("words.txt", ARTEFACT, CARD)

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return f"The commonest words of {self.origin.source}"

    def save(self, folder: str | Path) -> Self:
        """Write it to a folder."""
        store.make_folder(Path(folder))
        store.write_bytes(Path(folder) / "words.txt", "\n".join(self.words).encode())
        facts = {"words": list(self.words), "origin": asdict(self.origin)}
        write_facts(Path(folder), self.kind, 1, facts)
        self.write_card(Path(folder))
        return replace(self, folder=Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote."""
        facts = read_facts(Path(folder), cls.kind, 1, "list of common words")
        return cls(tuple(facts["words"]), Origin(**facts["origin"]), folder=Path(folder))

    def card(self, scores: list[Cell]) -> str:
        """Its README."""
        return "\n\n".join([f"# {self.title}", str(self), *(f"{cell.column}: {cell.score}" for cell in scores)])

    def picture(self) -> None:
        """Words have none."""

    def __str__(self) -> str:
        return ", ".join(self.words)


@dataclass
class Counting:
    """How often each word was seen so far, by the number of its first place."""

    counts: list[int]
    done: int = 0
    source: WordList = rebuilt(default=None)


@dataclass(frozen=True, kw_only=True)
class Commonest(Settings):
    """Keep the commonest words; of equally common ones the first."""

    count: Annotated[int, Range(1)] = 3
    """Words that are kept."""
    pieces: int = 0
    """Steps; filled in from the data."""

    name = "commonest"
    kind = "words"
    summary = "the words that occur most often"

    def resolve(self, source: WordList, runtime: Any) -> Self:
        """Fill in how many pieces there are."""
        return replace(self, pieces=-(-len(source.train) // PIECE))

    @property
    def total_steps(self) -> int:
        """A piece a step."""
        return self.pieces

    def build(self, source: WordList, runtime: Any) -> Counting:
        """Nothing counted yet."""
        return Counting([0] * len(source.train), source=source)

    def step(self, state: Counting, runtime: Any) -> dict[str, float]:
        """Count a piece."""
        train = state.source.train
        for word in train[state.done * PIECE :][:PIECE]:
            state.counts[train.index(word)] += 1
        state.done += 1
        return {"loss": float(state.counts.count(0))}

    def result(self, state: Counting, runtime: Any) -> CommonWords:
        """The commonest so far."""
        train = state.source.train
        order = sorted(range(len(train)), key=lambda place: -state.counts[place])
        words = tuple(train[place] for place in order[: self.count])
        return CommonWords(words, Origin.made(state.source, self, runtime))


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """How lists of common words are measured."""

    longest: Annotated[int, Range(1)] = 99
    """Letters of the longest word that counts."""

    def measure(self, artefacts: Sequence[CommonWords], source: WordList, runtime: Any) -> Evaluation:
        """The share of the words to test on that are among those kept, beside as many first words."""
        tested = [word for word in source.words[::5] if len(word) <= self.longest]
        rows = []
        for one in artefacts:
            first = tuple(dict.fromkeys(source.train))[: len(one.words)]
            rival = Beside("the first words", Score(share(first, tested)), len(first))
            cell = Cell.of([[share(one.words, tested)]], column="covered", beside=(rival,))
            rows.append(Row.of(one.origin.method, [one], [cell], count=len(one.words)))
        return Evaluation(tuple(rows), counted="words", sets="lists")


def share(words: Sequence[str], tested: list[str]) -> float:
    """Per cent of the tested words that are among some."""
    counted = Counter(tested)
    return 100 * sum(counted[word] for word in words) / len(tested)
