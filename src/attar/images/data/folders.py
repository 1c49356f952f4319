"""Folders of pictures: a folder for each class, below folders of splits or not."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attar.core.errors import InputError
from attar.images.data import naming
from attar.images.data.columns import Part, assemble, unlabelled
from attar.images.data.decoding import endings
from attar.images.data.form import Form
from attar.images.data.holding import Held, Wanted, all_grey, hold
from attar.images.data.pixels import Loaded
from attar.images.data.streaming import Files

Names = tuple[str, ...]
"""The path of a file below the given folder, in its parts."""
Classes = dict[str, list[Names]]
"""The pictures of each class."""


@dataclass
class Inside:
    """The files below a folder, without hidden ones."""

    pictures: list[Names] = field(default_factory=list)
    parquet: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    """Number of other files by their ending."""
    empty: list[str] = field(default_factory=list)
    """Folders at the top or one below without a picture at any depth."""

    @property
    def in_folders(self) -> set[str]:
        """The folders that have pictures."""
        return {names[0] for names in self.pictures if len(names) > 1}

    @property
    def ignored(self) -> list[str]:
        """A note about files that are not read."""
        if not self.others:
            return []
        counts = sorted(self.others.items(), key=lambda pair: (-pair[1], pair[0]))
        kinds = ", ".join(f"{count:,} × {ending or 'without an ending'}" for ending, count in counts)
        count = self.others.total()
        return [f"{count:,} {'file' if count == 1 else 'files'} ignored: {kinds}"]


def look_into(folder: Path) -> Inside:
    """Find all files below a folder. Links to folders are followed, but not in a circle."""
    inside = Inside()
    for names in _files(folder, (), {os.path.realpath(folder)}, inside):
        ending = os.path.splitext(names[-1])[1].lower()  # noqa: PTH122 (a million paths)
        if ending == ".parquet":
            inside.parquet.append(folder.joinpath(*names))
        elif ending in endings():
            inside.pictures.append(names)
        else:
            inside.others[ending] += 1
    inside.parquet.sort()
    return inside


def _files(folder: Path, above: Names, on_the_way: set[str], inside: Inside) -> Iterator[Names]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}).") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        names = (*above, entry.name)
        if not _is_folder(entry):
            yield names
        elif (real := os.path.realpath(entry.path)) not in on_the_way:
            before = len(inside.pictures)
            yield from _files(Path(entry.path), names, on_the_way | {real}, inside)
            if len(names) <= 2 and len(inside.pictures) == before:
                inside.empty.append("/".join(names))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle, which are told of when they are read
        return False


def from_folder(name: str, path: Path, inside: Inside, form: Form, notes: Sequence[str] = ()) -> Loaded:
    """Read the pictures of a folder.

    Args:
        name: The name of the set.
        path: The folder.
        inside: What lies in it.
        form: Size, budget, and how pictures are decoded.
        notes: What was left out or decided so far.

    Raises:
        InputError: There are no classes, it is not clear what is a split and what a class, or pictures cannot be read.
    """
    loose = sum(len(names) == 1 for names in inside.pictures)
    if loose == len(inside.pictures):
        seen = "".join(f" ({note})" for note in inside.ignored)
        raise InputError(f"{path} holds neither a parquet file nor a folder of pictures for each class{seen}.")
    found, told = _layout([names for names in inside.pictures if len(names) > 1], inside.empty, path)
    told = [*inside.ignored, *told]
    if loose:
        told.append(f"left out, because they lie in no folder of a class: {loose:,} picture{'s' * (loose > 1)}")
    if inside.empty:
        told.append(f"folders without pictures: {', '.join(inside.empty[:5])}" + ", ..." * (len(inside.empty) > 5))
    parts = {split: _part(path, where, classes, form, inside) for split, (where, classes) in found.items()}
    _check_test_classes({split: (path / where, classes) for split, (where, classes) in found.items()})
    return assemble(name, parts, [*notes, *told])


def _check_test_classes(found: Mapping[str, tuple[Path, Classes]]) -> None:
    """Check that test classes have training images. The source reports classes without test images.

    Raises:
        InputError: One has none, or the folder of the test images has no classes, and no other is to be tested on.
    """
    top, known = found["train"]
    labelled = [split for split in ("test", "validation") if split in found and found[split][1]]
    for split in labelled[:1] or [split for split in ("test", "validation") if split in found]:
        folder, classes = found[split]
        strange = ", ".join(repr(label) for label in classes if label not in known)
        if strange or not classes:
            if folder == top:
                raise InputError(
                    f"the {split} images of {folder} have pictures of {strange}, but its training images do not."
                )
            what = f"pictures of {strange}, but {top} does not" if strange else "no folders of pictures"
            raise InputError(f"{folder} has {what}. Both need folders of the same names.")


def _part(path: Path, where: str, classes: Classes, form: Form, inside: Inside) -> Part:
    if not classes:
        above = tuple(where.split("/"))
        return unlabelled(str(path / where), sum(names[: len(above)] == above for names in inside.pictures))
    ordered = [(label, names) for label in naming.in_order(classes) for names in classes[label]]
    pictures = Files(path, ["/".join(names) for _, names in ordered])

    def pixels(wanted: Wanted) -> Held:
        return hold(pictures, form, wanted)

    labels = [label for label, _ in ordered]
    return Part(str(path / where), labels, None, pictures.where, pixels, lambda: all_grey(pictures))


# Which folders are splits, and which are classes.

Splits = dict[str, tuple[str, Classes]]
"""The folder and the classes of each split. Without classes its pictures have no labels."""


def _layout(pictures: list[Names], empty: Sequence[str], path: Path) -> tuple[Splits, list[str]]:
    """Divide pictures into splits and classes, with notes.

    Raises:
        InputError: It is not clear which folders are splits.
    """
    above: Names = ()
    tops = _grouped(pictures, 0)
    while len(tops) == 1 and not naming.splits_in(next(iter(tops))) and _lead_to_folders(pictures, len(above) + 1):
        above = pictures[0][: len(above) + 1]
        tops = _grouped(pictures, len(above))
    depth = len(above)
    folders = _split_folders(tops, depth)
    if not folders:
        return _without_split_folders(tops, depth, path.joinpath(*above))
    groups: dict[str, list[str]] = {}
    for name in folders:
        groups.setdefault(naming.split_in([name], f"folder {name} of {path}"), []).append(name)
    others = [name for name in tops if name not in folders]
    _check_others(others, folders, tops, depth, path)
    for name in [*others, *(name for name in empty if "/" not in name)]:
        split = naming.split_in([name], f"folder {name} of {path}") if naming.is_word(name) else naming.NONE
        if split != naming.NONE and split not in groups:
            groups[split] = [name]
        else:
            groups.setdefault(naming.NONE, []).extend([name] if name in others else [])
    if not groups.get(naming.NONE):
        groups.pop(naming.NONE, None)
    naming.check_training(groups, str(path))
    notes = naming.left_out(groups.get(naming.NONE, ()))
    found: Splits = {}
    for split in (split for split in naming.SPLITS if split in groups):
        names = groups[split]
        if len(names) > 1:
            notes.append(f"folders are read together as {split} images: {', '.join(names)}")
        classes: Classes = {}
        for name in names:
            for label, several in folders.get(name, {}).items():
                classes.setdefault(label, []).extend(several)
        found[split] = ("/".join((*above, names[0])), classes)
    return found, notes


def _check_others(others: Sequence[str], folders: Mapping[str, Classes], tops: Classes, depth: int, path: Path) -> None:
    """Check that a folder that no word names is not a class beside a class called train.

    Raises:
        InputError: It has folders of its own, and none of their names is a class of the splits.
    """
    classes = {label for found in folders.values() for label in found}
    for name in others:
        below = _grouped(tops[name], depth + 1)
        if sum(map(len, below.values())) == len(tops[name]) and len(below) > 1 and not classes & below.keys():
            raise InputError(
                f"{path} has folders {', '.join(folders)}, which are named after splits, and {name}, which has other "
                "folders inside. If these are classes, put their pictures into one folder each; if not, move "
                f"{name} away."
            )


def _grouped(pictures: Sequence[Names], depth: int) -> Classes:
    """Pictures by the folder at this depth, in the order of their paths."""
    found: Classes = {}
    for names in sorted(pictures):
        if len(names) > depth + 1:
            found.setdefault(names[depth], []).append(names)
    return found


def _is_above(pictures: Sequence[Names], depth: int) -> bool:
    """Whether all pictures lie in several folders of this depth."""
    return all(len(names) > depth + 1 for names in pictures) and len({names[depth] for names in pictures}) > 1


def _lead_to_folders(pictures: Sequence[Names], depth: int) -> bool:
    """Whether all pictures lie in several folders of this depth, or of a deeper one."""
    return any(_is_above(pictures, deeper) for deeper in range(depth, min(map(len, pictures)) - 1))


def _split_folders(tops: Classes, depth: int) -> dict[str, Classes]:
    """The folders that are named after splits and hold folders of pictures, each with its classes."""
    found = {}
    for name, pictures in tops.items():
        splits, inner = naming.splits_in(name), depth + 1
        if not splits:
            continue
        below = _grouped(pictures, inner)
        if len(below) == 1 and naming.splits_in(next(iter(below))) == splits and _is_above(pictures, inner + 1):
            below = _grouped(pictures, inner + 1)  # a folder in a folder of the same name, as from an archive
        if below and sum(map(len, below.values())) == len(pictures):
            found[name] = below
    splits_found = {split for name in found for split in naming.splits_in(name)}
    if len(splits_found) == 1 and all(len(classes) < 2 for classes in found.values()) and len(tops) > len(found):
        return {}  # one class whose name has a word in it: bullet train
    return found


def _without_split_folders(tops: Classes, depth: int, path: Path) -> tuple[Splits, list[str]]:
    """Divide folders of classes by the folders inside them or by the names of pictures, or take them as one set."""
    _check_flat_splits(tops, depth, path)
    inner = {label: _grouped(pictures, depth + 1) for label, pictures in tops.items()}
    nested = all(sum(map(len, inner[label].values())) == len(pictures) for label, pictures in tops.items())
    below = {name for folders in inner.values() for name in folders}
    said = {split for name in below for split in naming.splits_in(name)}
    if "train" in said and len(said) > 1:
        if not nested or not all(map(naming.splits_in, below)):
            raise InputError(
                f"some folders of classes in {path} have a folder for training and one for test images, but not all "
                "pictures lie in these. Put every picture into one of them, or rename them."
            )
        return _divided(tops, path, lambda names: [names[depth + 1]]), []
    common = set.intersection(*(set(folders) for folders in inner.values()))
    if nested and len(tops) > 1 and len(common) > 1:
        some = ", ".join(sorted(tops)[:5])
        raise InputError(
            f"the folders {some} of {path} all have folders {', '.join(sorted(common)[:5])}, so they may be splits or "
            "classes. Name splits train, validation and test, or put the pictures of a class into its folder."
        )
    return _by_file_names(tops, path)


def _check_flat_splits(tops: Classes, depth: int, path: Path) -> None:
    """Check that no folder named after a split is taken for a class.

    Raises:
        InputError: All are named after splits, or one is exactly the word for test images.
    """
    if len({split for name in tops for split in naming.splits_in(name)}) > 1 and all(map(naming.splits_in, tops)):
        raise InputError(
            f"the folders {', '.join(sorted(tops)[:5])} of {path} are named after splits, but their pictures lie in no "
            "folders of classes. Put them into a folder for each class."
        )
    for name in tops:
        if naming.is_word(name) and naming.splits_in(name) != {"train"} and len(tops) > 1:
            raise InputError(
                f"folder {name} of {path} lies beside folders of classes. If its pictures are a class, rename it; if "
                "they are a split, put them into folders of classes, and the training images into a folder train."
            )


def _by_file_names(tops: Classes, path: Path) -> tuple[Splits, list[str]]:
    """Divide pictures by words in their names if all of them have one; otherwise take them as one set."""
    every = [names for pictures in tops.values() for names in pictures]
    said = [naming.splits_in(Path(names[-1]).stem) for names in every]
    known = set().union(*said)
    if "train" not in known or len(known) < 2:
        return {"train": ("", tops)}, []
    if all(len(splits) == 1 for splits in said):
        return _divided(tops, path, lambda names: [Path(names[-1]).stem]), ["splits are those of the pictures' names"]
    some = sum(bool(splits) for splits in said)
    return {"train": ("", tops)}, [
        f"{some:,} of {len(every):,} pictures have a word for a split in their names; these words are not regarded"
    ]


def _divided(tops: Classes, path: Path, told_by: Callable[[Names], list[str]]) -> Splits:
    found: dict[str, Classes] = {}
    for label, pictures in tops.items():
        for names in pictures:
            split = naming.split_in(told_by(names), f"{'/'.join(names)} in {path}")
            found.setdefault(split, {}).setdefault(label, []).append(names)
    return {split: ("", found[split]) for split in naming.SPLITS if split in found}
