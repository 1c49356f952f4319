"""Every method with a step size, far too large a one: a refusal that names flags which are there, and nothing saved."""

import json

import pytest
import torch

import attar
import small
from attar.cli import main
from attar.core import checks, settings
from attar.core.divergence import step_sizes
from attar.core.errors import Diverged, InputError
from attar.core.flags import flags_of
from attar.core.runtime import Engine
from attar.images.data.pixels import eight_bits

ENGINE = Engine(device="cpu", checkpoint_seconds=0, quiet=True, compile="off")
KEPT_IN_RANGE = {"sre2l", "cda"}
"""Methods that clip what they learn to its range after each step: however large, a step leaves black and white."""
KEPT_AT_BEST = {"ca", "pts"}
"""Methods that keep the step which is best on held-out rows, and so their start where all steps are worse."""


@pytest.fixture(autouse=True)
def _wider_settings(monkeypatch):
    """Let step sizes be larger than settings allow, so that every method diverges within its few steps."""
    monkeypatch.setattr(checks, "MOST", {**checks.MOST, "lr": 1e38})
    settings._checks.cache_clear()
    yield
    settings._checks.cache_clear()


def own(entry):
    """The step sizes of a method itself."""
    return [flag for flag in step_sizes(small.method_of(entry)) if "." not in flag.name]


def with_size(entry, flag, size):
    """The settings of an entry with a step size that is named by its flag."""
    method = small.method_of(entry)
    plain = method.to_json()
    *groups, name = next(one.path for one in flags_of(method) if one.name == flag)
    place = plain
    for group in groups:
        place = place[group]
    place[name] = size
    return type(method).from_json(plain)


def refused(method, kind, out, **settings):
    """The refusal of a run that diverges; there is no artefact then."""
    with pytest.raises(Diverged) as refusal:
        small.run(method, kind, out=out, engine=ENGINE, **settings)
    assert not (out / "artefact.json").exists()
    known = {flag.name for flag in flags_of(method)}
    assert refusal.value.flags
    assert {flag.name for flag in refusal.value.flags} <= known
    return str(refusal.value)


@pytest.mark.parametrize(
    "entry", [entry for entry in small.SMALL if own(entry) and entry not in KEPT_IN_RANGE | KEPT_AT_BEST]
)
def test_a_step_size_that_is_far_too_large_is_told_of_and_nothing_is_saved(entry, tmp_path):
    flag = own(entry)[0].name
    told = refused(with_size(entry, flag, 1e30), small.kind_of(entry), tmp_path / "out")
    assert ". Try a smaller step size (" in told
    assert flag in told


@pytest.mark.parametrize(
    "entry, beside",
    [
        ("herding", "observer"),
        ("relabel", "teacher"),
        ("sre2l", "teacher"),
        ("edf", "observer"),
        ("mtt", "experts"),
        ("graph-herding", "observer"),
        ("graph-k-center", "observer"),
    ],
)
def test_a_network_beside_a_method_that_diverges_is_told_of_by_its_own_flag(entry, beside, tmp_path):
    (flag,) = (one.name for one in step_sizes(small.method_of(entry)) if one.path[0] == beside)
    told = refused(with_size(entry, flag, 1e30), small.kind_of(entry), tmp_path / "out")
    assert told.endswith(f". Try a smaller step size ({flag}).")


def test_the_same_with_a_smaller_step_size_works_elsewhere_and_what_was_there_is_kept(tmp_path):
    wild, tame = with_size("dm", "--lr", 1e7), with_size("dm", "--lr", 0.1)
    told = refused(wild, "images", tmp_path / "wild")
    assert told.startswith("pixels became ")
    before = (tmp_path / "wild" / "run" / "settings.json").read_bytes()
    small.run(tame, "images", out=tmp_path / "tame", engine=ENGINE)
    assert attar.open_artefact(tmp_path / "tame").images.abs().max() < 1e6
    assert (tmp_path / "wild" / "run" / "settings.json").read_bytes() == before


def test_pixels_that_are_no_numbers_do_not_become_eight_bits():
    assert eight_bits(torch.tensor([-1.0, 0.5, torch.inf])).tolist() == [0, 128, 255]
    with pytest.raises(Diverged, match=r"^pixels became nan\.$"):
        eight_bits(torch.tensor([0.5, torch.nan]))


def test_an_infinite_step_size_is_refused_before_anything_is_made():
    with pytest.raises(InputError, match=r"^image_lr is inf; it must be finite\.$"):
        with_size("sre2l", "--image-lr", float("inf"))


COMMANDS = {
    "condense dm --ipc 1 --steps 3 --real-batch 4 --lr 1e38": "--lr",
    "condense datadam --ipc 1 --steps 3 --real-batch 4 --width 8 --lr 1e38": "--lr",
    "condense gstam --gpc 1 --steps 3 --real-batch 4 --lr-adjacency 1e30": "--lr-adjacency",
    "condense herding --ipc 1 --observer.epochs 2 --observer.lr 1e30": "--observer.lr",
    "distill alone --data digits --student convnet:norm=batch,width=4 --epochs 3 --lr 1e30": "--lr",
    "distill language --data phrases --divergence none --student gpt2:layers=1,width=16,heads=2 --steps 3 --batch 4 "
    "--lr 1e30": "--lr",
    "train simclr --data digits --encoder convnet:norm=batch,width=4 --epochs 3 --lr 1e30": "--lr",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_on_the_command_line_it_is_one_line_and_exit_code_2(command, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--out", str(tmp_path / "out"), "--device", "cpu", "--quiet"])
    assert stop.value.code == 2
    printed = capsys.readouterr().err.splitlines()
    assert printed[-1].startswith("attar: ")
    assert f"{COMMANDS[command]}" in printed[-1].partition(". Try a smaller step size (")[2]
    assert not any(line.startswith("Traceback") for line in printed)
    assert not (tmp_path / "out" / "artefact.json").exists()
    assert not json.loads((tmp_path / "out" / "run" / "settings.json").read_text(encoding="utf-8")).get("finished")


def test_an_infinite_step_size_on_the_command_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["condense", "sre2l", "--image-lr", "inf", "--out", str(tmp_path / "out"), "--quiet"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "attar: --image-lr takes a number, at least 0, not 'inf'.\n"
    assert not (tmp_path / "out" / "artefact.json").exists()
