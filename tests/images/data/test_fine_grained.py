import dataclasses

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.presets import table_of
from attar.images.data.fine_grained import class_names, names, subset


def test_the_groups_are_dccs():
    assert {name: len(class_names(name)) for name in names()} == {
        "automobile": 9,
        "truck": 9,
        "lizard": 11,
        "fish": 16,
        "terrier": 26,
        "insect": 27,
    }
    every = [one for name in names() for one in class_names(name)]
    assert len(set(every)) == len(every)
    assert {cell.data for cell in table_of(attar.DCC).cells} == {"svhn", "cifar10", "cifar100", *names()}
    assert all(attar.DCC.paper(name, ipc=1).together == len(class_names(name)) for name in names())
    with pytest.raises(InputError, match="did you mean 'terrier'"):
        class_names("terriers")


def source_of(classes):
    pixels = torch.arange(len(classes), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    labels = torch.arange(len(classes))
    return dataclasses.replace(attar.load(((pixels, labels), (pixels, labels))), classes=tuple(classes))


def test_a_group_is_taken_by_its_names():
    wanted = class_names("truck")
    classes = ["tench, Tinca tinca", *(name.replace("_", " ").upper() for name in reversed(wanted)), "minivan taxi"]
    found = subset(source_of(classes), "truck")
    assert (found.name, len(found.classes)) == ("truck", 9)
    assert found.classes[0] == "PICKUP"
    assert found.train.pixels[found.rows_of[0]].unique().tolist() == [classes.index("PICKUP")]
    with pytest.raises(InputError, match="has no class 'agama', which lizard needs"):
        subset(source_of(classes), "lizard")
