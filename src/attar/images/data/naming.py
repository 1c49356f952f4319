"""Names of folders, files and classes: which split a name means, and the order of class names.

The words and separators are those of `datasets` (`data_files.py`), in any case, and = of folders such as `split=train`.
A name means a split if a word of the split is a part of it between separators: `My_Train` and `train2017` mean train,
`trainee` and `latest` mean none.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import TypeVar

from attar.core.errors import InputError

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""The words of each split."""
NONE = ""
"""Key of what no name assigns to a split."""
SEPARATORS = re.compile(r"[-._ =0-9]+")
SHARD = re.compile(r"(.+)-[0-9]{5}-of-[0-9]{5}")
"""Name of one file of several, without its ending."""
ADVICE = "The words are train, validation and test."

T = TypeVar("T")
Groups = dict[str, list[T]]
"""What belongs to each split; under `NONE` what belongs to none."""


def splits_in(name: str) -> set[str]:
    """The splits that are named in a name."""
    parts = set(SEPARATORS.split(name.lower()))
    return {split for split, words in SPLITS.items() if parts & set(words)}


def resembling(names: Iterable[str]) -> set[str]:
    """The splits whose words begin or end a part of a name, as in trainset, TestImages and cifartrain."""
    parts = {part for name in names for part in SEPARATORS.split(name.lower())}
    return {
        split
        for split, words in SPLITS.items()
        if any(part.startswith(words) or part.endswith(words) for part in parts)
    }


def is_word(name: str) -> bool:
    """Whether a name is one of the words itself."""
    return any(name.lower() in words for words in SPLITS.values())


def split_in(parts: Sequence[str], where: str) -> str:
    """The split that these names mean together; `NONE` if they name none.

    Raises:
        InputError: They name several.
    """
    found = sorted({split for part in parts for split in splits_in(part)})
    if len(found) > 1:
        raise InputError(f"{where} names several splits: {', '.join(found)}. Rename it, so that it names one.")
    return found[0] if found else NONE


def named_splits(names: Iterable[str], where: str) -> Groups[str]:
    """The names of each split, where a name stands for one whole split.

    Of several names for a split the one that is a word itself is used. The others belong to none.

    Raises:
        InputError: There is a choice, or a name means several splits.
    """
    groups: Groups[str] = {}
    for name in names:
        groups.setdefault(split_in([name], f"{name!r} of {where}"), []).append(name)
    for split in SPLITS.keys() & groups.keys():
        exact = [name for name in groups[split] if is_word(name)]
        if len(groups[split]) > 1 and len(exact) != 1:
            several = ", ".join(groups[split])
            raise InputError(f"{where} has several {split} splits: {several}. Keep one of them, or rename the others.")
        if len(groups[split]) > 1:
            groups.setdefault(NONE, []).extend(name for name in groups[split] if name != exact[0])
            groups[split] = exact
    return groups


def files_by_split(files: Sequence[PurePath], where: str) -> Groups[PurePath]:
    """Files of each split by their names and those of their folders.

    Args:
        files: Paths relative to the folder that was given.
        where: The folder, for messages.

    Raises:
        InputError: A name means several splits, or there is a choice.
    """
    sharded = {file: match for file in files if file.parts[:-1] == ("data",) and (match := SHARD.fullmatch(file.stem))}
    if sharded:  # as `datasets` has it, what stands before the numbers is the name of a split
        keys = named_splits(dict.fromkeys(match[1] for match in sharded.values()), where)
        groups = {
            split: [file for file, match in sharded.items() if match[1] in names] for split, names in keys.items()
        }
        return _with(groups, [file for file in files if file not in sharded])
    above = len(_common_folders(files))
    for skipped in dict.fromkeys((above, 0)):  # folders that all files share say nothing, unless nothing else does
        groups = {}
        for file in files:
            parts = [*file.parts[skipped:-1], file.stem]
            groups.setdefault(split_in(parts, f"{file.as_posix()} in {where}"), []).append(file)
        if "train" in groups:
            break
    return groups


def _with(groups: Groups[T], others: list[T]) -> Groups[T]:
    return {**groups, NONE: [*groups.get(NONE, []), *others]} if others else groups


def _common_folders(files: Sequence[PurePath]) -> tuple[str, ...]:
    folders = [file.parts[:-1] for file in files]
    first, last = min(folders), max(folders)
    same = next((place for place, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), None)
    return first[: min(len(first), len(last)) if same is None else same]


def check_training(groups: Mapping[str, Sequence[object]], where: str, what: str = "images") -> None:
    """Check that a division into splits has training images, or what else the samples are called.

    Raises:
        InputError: It has only others.
    """
    if "train" in groups or not groups.keys() - {NONE}:
        return
    there = [f"{split} ({few(map(str, groups[split]))})" for split in SPLITS if split in groups]
    rest = f" {few(map(str, groups[NONE]))} may be training {what}, but no name says so." if NONE in groups else ""
    raise InputError(
        f"{where} has no training {what}, only {' and '.join(there)}.{rest} Name the training {what} train, or give "
        "one of these by itself."
    )


def chosen(
    parts: Mapping[str, T], *, labelled: Callable[[T], bool], images: Callable[[T], int], what: str = "images"
) -> tuple[T, T | None, list[str]]:
    """The part to train on, the part to test on if there is one, and notes about the others.

    Validation images are kept apart. They are the test images only if there are no test images with labels.

    Args:
        parts: What there is of each split; training images at least.
        labelled: Whether a part has labels.
        images: The number of images of a part.
        what: What they are called in the notes.
    """
    empty = [split for split in ("test", "validation") if split in parts and not images(parts[split])]
    notes = [f"the {split} split has no {what}" for split in empty]
    test, validation = (None if split in empty else parts.get(split) for split in ("test", "validation"))
    if test is not None and not labelled(test):
        notes.append(f"the test {what} have no labels and are not used")
        test = None
    if validation is not None and not labelled(validation):
        notes.append(f"the validation {what} have no labels and are not used")
    elif validation is not None and test is None:
        notes.append(f"the validation {what} are the test {what}, because no others have labels")
        test = validation
    elif validation is not None:
        notes.append(f"validation {what} are kept apart: {images(validation):,} {what} are not used")
    return parts["train"], test, notes


def left_out(others: Iterable[object]) -> list[str]:
    """A note about what no name assigns to a split."""
    names = [str(other) for other in others]
    return [f"left out, because no name says which split it is: {few(names)}"] if names else []


def in_order(names: Iterable[str]) -> list[str]:
    """Names in order: numbers by their value, other names as text whose numbers count by their value.

    Example: 0, 1, 2, 10 and class 2, class 10.
    """
    several = set(names)
    values = {name: _value(name) for name in several}
    if None not in values.values():
        return sorted(several, key=lambda name: (values[name], name))
    return sorted(several, key=_naturally)


def _value(name: str) -> float | None:
    return float(name) if re.fullmatch(r"[-+]?[0-9]+(\.[0-9]+)?", name) else None


def _naturally(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key for sorting. Between the odd places, which hold digits, lie texts."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts)], name


def few(names: Iterable[object], most: int = 5) -> str:
    """The first few names, and the number of the others."""
    several = list(map(str, names))
    rest = f" and {len(several) - most:,} more" if len(several) > most else ""
    return ", ".join(several[:most]) + rest
