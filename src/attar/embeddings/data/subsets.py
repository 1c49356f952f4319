"""Which samples are used: novel classes for testing, a long tail, a smaller number."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from attar.core.errors import InputError, unknown
from attar.core.seeds import derived_seed, permutation
from attar.core.selection import rows_by_class, shuffled
from attar.embeddings.data.raw import RawSamples
from attar.embeddings.sources import Features, Part
from attar.images.data.pixels import Batch, InMemory, Pixels


def novel_classes(classes: Sequence[str], wanted: Sequence[str], seed: int) -> tuple[int, ...]:
    """The numbers of the classes that are only tested on, in their order.

    Args:
        classes: All classes.
        wanted: Names, beginnings of names, numbers, or a share between 0 and 1 that is drawn.
        seed: Seed of the draw.

    Raises:
        InputError: A word means no class, or all classes, or none, would be novel.
    """
    numbers: set[int] = set()
    for word in wanted:
        share = _share(word)
        if word in classes:
            numbers.add(list(classes).index(word))
        elif share is not None and len(wanted) == 1:
            count = max(1, min(round(share * len(classes)), len(classes) - 1))
            numbers |= set(permutation(seed, "novel classes", len(classes))[:count].tolist())
        elif word.isdecimal() and int(word) < len(classes):
            numbers.add(int(word))
        else:
            found = [number for number, name in enumerate(classes) if word and name.startswith(word)]
            if not found:
                raise unknown("novel class", word, classes if len(classes) <= 20 else sorted(set(map(_first, classes))))
            numbers |= set(found)
    if len(numbers) == len(classes):
        raise InputError(f"all {len(classes)} classes are novel, so none is left to learn from. Name fewer.")
    return tuple(sorted(numbers))


def _share(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if 0 < value < 1 else None


def _first(name: str) -> str:
    return name.partition("/")[0]


def few_shot(found: RawSamples, novel: Sequence[int]) -> tuple[RawSamples, tuple[str, ...]]:
    """The samples of novel classes as test samples, all others as training samples; and the names of the novel classes.

    Samples have one label each. A given split is not regarded.
    """
    whole = found.train if found.test is None else together(found.train, found.test)
    labels = whole.labels
    assert labels is not None and labels.ndim == 1
    is_novel = torch.zeros(len(found.classes), dtype=torch.bool)
    is_novel[list(novel)] = True
    places = torch.where(is_novel, is_novel.cumsum(0), (~is_novel).cumsum(0)) - 1
    renumbered = dataclasses.replace(whole, labels=places[labels])
    train, test = (renumbered.select(rows.nonzero().flatten()) for rows in (~is_novel[labels], is_novel[labels]))
    base = tuple(name for number, name in enumerate(found.classes) if not is_novel[number])
    notes = found.notes
    if found.test is not None:
        notes += ("the split of the samples is not regarded: all samples of the novel classes are test samples",)
    names = tuple(found.classes[number] for number in novel)
    return dataclasses.replace(found, classes=base, train=train, test=test, notes=notes), names


def one_label(part: Part, name: str, flag: str) -> Int[Tensor, " sample"]:
    """The labels of samples with one label each, which a setting needs.

    Raises:
        InputError: They have none or several.
    """
    if part.labels is None or part.labels.ndim != 1:
        has = "no labels" if part.labels is None else "several labels each"
        raise InputError(f"{flag} needs samples with one label each, but those of {name} have {has}.")
    return part.labels


def long_tail(labels: Int[Tensor, " sample"], classes: int, ratio: float, seed: int) -> Bool[Tensor, " sample"]:
    """Which samples are kept, so that the sizes of classes fall geometrically from the first to the last.

    The first class keeps `ratio` times as many as the last, as far as numbers can be rounded. The sizes are the
    largest that all classes have.
    Cao, Wei, Gaidon, Arechiga and Ma, Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS
    2019, arXiv:1906.07413.
    """
    profile = [ratio ** (-number / max(classes - 1, 1)) for number in range(classes)]
    sizes = labels.bincount(minlength=classes).tolist()
    largest = min(size / share for size, share in zip(sizes, profile, strict=True))
    generator = torch.Generator().manual_seed(derived_seed(seed, "imbalance"))
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for rows, share in zip(rows_by_class(labels, range(classes)), profile, strict=True):
        mask[shuffled(rows, generator)[: max(1, math.floor(largest * share + 1e-9))]] = True
    return mask


# --------------------------------------------------------------------------------------------------------- joined parts


@dataclasses.dataclass(frozen=True)
class Joined:
    """Images of two parts, one after the other, that stay where they are."""

    first: Pixels
    second: Pixels
    rows: Int[Tensor, " image"]
    """Rows of both together that hold these images."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image: channels, height, width."""
        return self.first.shape

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Int[Tensor, " batch"]) -> Batch:
        wanted = self.rows[rows]
        is_late = wanted >= len(self.first)
        early, late = (~is_late).nonzero().flatten(), is_late.nonzero().flatten()
        found = [self.first[wanted[early]], self.second[wanted[late] - len(self.first)]]
        return torch.cat([one for one in found if len(one)])[torch.cat([early, late]).argsort()]

    def select(self, rows: Int[Tensor, " row"]) -> "Joined":
        """The images of these rows."""
        return dataclasses.replace(self, rows=self.rows[rows])

    def content(self) -> Iterator[bytes]:
        """Yield what a fingerprint is computed from."""
        is_late = self.rows >= len(self.first)
        yield self.rows.numpy().tobytes()
        yield from self.first.select(self.rows[~is_late]).content()
        yield from self.second.select(self.rows[is_late] - len(self.first)).content()


def together(first: Part, second: Part) -> Part:
    """Two parts as one."""
    labels = None if first.labels is None or second.labels is None else torch.cat([first.labels, second.labels])
    one, other = first.samples, second.samples
    samples: Pixels | Features
    if isinstance(one, Features) and isinstance(other, Features):
        samples = Features(torch.cat([one.tensor, other.tensor]))
    elif isinstance(one, InMemory) and isinstance(other, InMemory):
        samples = InMemory(torch.cat([one.tensor, other.tensor]))
    else:
        assert not isinstance(one, Features) and not isinstance(other, Features)
        samples = Joined(one, other, torch.arange(len(first) + len(second)))
    return Part(samples, labels, first.captions + second.captions)
