"""Match the classes of a released set with those of the data: by names, or by numbers where these are certain."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.images.data import naming
from attar.images.sources import ImageSource


def places_of_folders(
    folders: Sequence[str], folder: Path, source: ImageSource, given: Sequence[str], runtime: Runtime
) -> list[int]:
    """The place of each folder's class among the classes of the data.

    Raises:
        InputError: Names and numbers of the folders do not tell.
    """
    if given:
        return places(source, given, runtime)
    if set(folders) == set(source.classes):
        return [source.classes.index(name) for name in folders]
    numbers = [int(found[0]) if len(found := re.findall("[0-9]+", name)) == 1 else -1 for name in folders]
    if sorted(numbers) != list(range(len(folders))):
        raise InputError(
            f"the folders of {folder} ({_few(folders)}) are not named after the classes of {source.name} "
            f"({_few(source.classes)}). Rename them, or give --classes with a class for each folder in this order."
        )
    known = places(source, given, runtime)
    return [known[number] for number in numbers]


def places(source: ImageSource, given: Sequence[str], runtime: Runtime) -> list[int]:
    """The place among the classes of the data for each number that a set uses.

    A set has numbers and no names. Its number k is the class named k if all classes are named by such numbers.
    Otherwise the order of the classes is used, and said.

    Raises:
        InputError: The given names are not those of the classes, or the order is not certain.
    """
    classes = list(source.classes)
    if given:
        if sorted(given) != sorted(classes):
            raise InputError(
                f"--classes are {_few(given)}, but {source.name} has {_few(classes)}. Give each class once."
            )
        return [classes.index(name) for name in given]
    if all(re.fullmatch("[0-9]+", name) for name in classes):
        values = list(map(int, classes))
        if sorted(values) == list(range(len(classes))):
            return [values.index(number) for number in range(len(classes))]
        raise InputError(
            f"the classes of {source.name} are named by numbers ({_few(classes)}), but not from 0 on, so it is not "
            "certain which class a number of the set means. Give --classes in the order of the set's numbers."
        )
    if classes == naming.in_order(classes) != sorted(classes):
        raise InputError(
            f"the classes of {source.name} ({_few(classes)}) have another order if numbers in names are text, so it is "
            "not certain which class a number of the set means. Give --classes in the order of the set's numbers."
        )
    told = ", ".join(f"{number} is {name}" for number, name in list(enumerate(classes))[:3])
    runtime.say(f"note: the set has numbers of classes, not names. {told}, ... Give --classes if the order is another.")
    return list(range(len(classes)))


def _few(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def as_in(labels: Tensor, places: Sequence[int]) -> Tensor:
    """Labels whose numbers, or columns, are those of the data's classes."""
    order = torch.tensor(list(places))
    return order[labels] if labels.ndim == 1 else labels[:, order.argsort()]
