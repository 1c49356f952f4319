"""Losses and heads by name: each is there, is said to be no method, and can be cited."""

import json
import re

import pytest

from attar.cli import main
from attar.core.errors import InputError
from attar.core.losses import LossName
from attar.core.parts import part_named, parts
from attar.core.registry import METHODS, find


def test_parts_have_names_of_their_own_and_every_loss_is_one():
    assert not parts().keys() & METHODS.keys()
    losses = {name for name, part in parts().items() if part.what == "loss"}
    assert losses == set(LossName.__args__)


@pytest.mark.parametrize("name", sorted(name for name, part in parts().items() if part.what == "loss"))
def test_every_loss_loads_and_says_what_it_takes(name):
    family = part_named(name, "loss").load()
    assert isinstance(family.settings, tuple) and isinstance(family.pseudo, bool) and family.__doc__


@pytest.mark.parametrize("verb", [None, "train", "condense", "distill"])
def test_a_part_given_as_a_method_answers_with_its_command(verb):
    with pytest.raises(InputError) as told:
        find("ensloss", verb)
    assert str(told.value) == "ensloss is a loss, not a method: attar train classifier --loss ensloss"


def test_the_command_says_so_in_one_line(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["condense", "log_hinge", "--data", "digits"])
    told = capsys.readouterr().err.strip()
    assert told == "attar: log-hinge is a loss, not a method: attar train classifier --loss log-hinge"


def test_unknown_losses_and_methods_are_told_the_nearest():
    with pytest.raises(InputError, match=re.escape("unknown loss 'enslos'; did you mean 'ensloss'?")):
        part_named("enslos", "loss")
    with pytest.raises(InputError, match=re.escape("unknown method 'datadm'; did you mean 'datadam'?")):
        find("datadm")


def test_parts_are_cited_and_listed(capsys):
    main(["cite", "ensloss", "dm"])
    told = capsys.readouterr().out
    assert "eprint = {2409.00908}" in told and "@inproceedings{dm," in told
    main(["methods"])
    told = capsys.readouterr().out
    assert "Parts of a training" in told and "a fresh random calibrated convex loss in every step" in told
    main(["methods", "ensloss"])
    told = capsys.readouterr().out
    assert "A loss, not a method: attar train classifier --loss ensloss" in told and "arXiv:2409.00908" in told
    main(["methods", "ensloss", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["what"] == "loss"
