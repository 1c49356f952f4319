import importlib
import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from attar.core import registry
from attar.core.errors import InputError
from attar.core.extras import install
from attar.core.kinds import built_in, verb_of
from attar.core.registry import METHODS, Entry, Paper, entry_of, find, methods
from attar.core.settings import Settings

_SPEC = importlib.util.spec_from_file_location("write_methods", Path(__file__).parents[2] / "docs" / "write_methods.py")
WRITER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(WRITER)


PARTS = ("build", "step", "result", "resolve", "total_steps")
"""What a method has that the engine runs."""


@pytest.mark.parametrize("name", METHODS)
def test_every_entry_is_a_method_of_its_name(name):
    entry = METHODS[name]
    settings = entry.load()
    assert issubclass(settings, Settings)
    assert settings.name == entry.name == name
    assert settings.__module__ == entry.module
    assert settings.kind == entry.kind
    assert entry.verb == verb_of(settings)
    assert entry.verb in built_in()[entry.kind].tasks
    for part in PARTS if entry.verb != "train" else ():
        assert hasattr(settings, part)


@pytest.mark.parametrize("file", WRITER.files(), ids=lambda file: "/".join(file.parts[-2:]))
def test_settings_in_words_are_those_of_the_classes(file):
    """After a change of settings: python docs/write_methods.py."""
    text = file.read_text(encoding="utf-8")
    assert WRITER.written(json.loads(text)) == text, "run docs/write_methods.py"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_shows_six_settings_first_at_most(name):
    entry = METHODS[name]
    assert 1 <= len(entry.everyday) <= 6
    assert entry.flags[: len(entry.everyday)] == entry.everyday
    assert all(flag.sentence for flag in entry.flags)


@pytest.mark.parametrize("name", [name for name, entry in METHODS.items() if entry.paper and entry.paper.arxiv])
def test_the_docstring_of_a_method_names_its_paper(name):
    entry = METHODS[name]
    assert f"arXiv:{entry.paper.arxiv}" in entry.load().__doc__
    assert f"arXiv:{entry.paper.arxiv}" in importlib.import_module(entry.module).__doc__
    assert re.fullmatch(r"\d{4}\.\d{4,5}", entry.paper.arxiv)


@pytest.mark.parametrize("name", [name for name, entry in METHODS.items() if entry.paper])
def test_the_docstring_of_a_method_names_venue_and_year(name):
    paper, doc = METHODS[name].paper, METHODS[name].load().__doc__
    assert f"{paper.venue} {paper.year}" in doc


@pytest.mark.parametrize("name", METHODS)
def test_a_summary_is_one_short_line(name):
    summary = METHODS[name].summary
    assert "\n" not in summary
    assert len(summary) <= 60, "lists of methods fit 80 columns, and 100 with papers"
    assert not summary.endswith(".")
    assert not summary.startswith("the same"), "it is read alone"


def test_the_registry_is_read_without_importing_a_method():
    program = """
import sys
from attar.core.registry import METHODS, find, methods
find("dm"), methods(), METHODS["kd"].flags
print([name for name in sys.modules if name in ("torch", "numpy", "tyro")
       or name.startswith("attar.") and not name.startswith("attar.core") and not name.endswith(".kind")
       and name.count(".") > 1])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_a_method_is_found_by_either_spelling_of_its_name():
    assert find("k-center") is find("k_center") is METHODS["k-center"]
    assert find("dm", "condense").verb == "condense"


@pytest.mark.parametrize(
    "name, verb, sentence",
    [
        (
            "datadm",
            None,
            "unknown method 'datadm'; did you mean 'datadam'? Known: " + ", ".join(sorted(METHODS)) + ".",
        ),
        ("dm", "distill", "dm is used with `attar condense`, not `attar distill`."),
    ],
)
def test_a_method_that_is_not_there_is_refused(name, verb, sentence):
    with pytest.raises(InputError) as refusal:
        find(name, verb)
    assert str(refusal.value) == sentence


def test_a_missing_extra_says_what_to_install(monkeypatch):
    def missing(module):
        raise ModuleNotFoundError("No module named 'torch_geometric'", name="torch_geometric")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(InputError) as refusal:
        Entry("gstam", "condense", "attar.graphs.gstam", "GSTAM", "graphs", extra="graphs").load()
    assert str(refusal.value) == f"gstam needs torch_geometric: {install('graphs')}."
    with pytest.raises(ModuleNotFoundError):
        Entry("dm", "condense", "attar.images.condense.dm", "DM", "no extra").load()


def test_a_paper_is_a_bibtex_entry():
    paper = Paper("Ada, A. and Bob, B.", "Small Data", "ICML", 2024, "2401.00001")
    assert paper.bibtex("ada2024") == (
        "@inproceedings{ada2024,\n"
        "  title = {{Small Data}},\n"
        "  author = {Ada, A. and Bob, B.},\n"
        "  booktitle = {ICML},\n"
        "  year = {2024},\n"
        "  eprint = {2401.00001},\n"
        "  archivePrefix = {arXiv}\n"
        "}"
    )
    assert "eprint" not in Paper("A", "T", "V", 2000).bibtex("a2000")


def test_methods_are_listed_by_kind_and_verb():
    assert methods() == METHODS
    assert {entry.kind for entry in methods("graphs").values()} == {"graphs"}
    assert {entry.verb for entry in methods(verb="distill").values()} == {"distill"}
    assert set(methods("images", "train")) == {"experts"}
    assert methods("graphs", "distill") == {}


def test_there_is_nothing_else_that_is_made_when_asked_for():
    with pytest.raises(AttributeError, match="has no attribute 'NONSENSE'"):
        registry.NONSENSE  # noqa: B018


@dataclass(frozen=True, kw_only=True)
class Foreign(Settings):
    """Choose images by their names."""

    ipc: int = 1
    """Images per class."""
    order: str = "alphabet"
    """Which names come first."""

    name = "by-name"
    kind = "images"
    everyday = ("order",)


class Point:
    """An entry point, as `importlib.metadata` has them."""

    def __init__(self, name, found):
        self.name, self.value, self.found = name, f"foreign:{name}", found

    def load(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.fixture
def foreign(monkeypatch):
    """Give the registry entry points of other packages."""

    def give(*points):
        monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.GROUP else ())
        registry._further.cache_clear()

    yield give
    registry._further.cache_clear()


def test_a_method_of_another_package_joins_by_its_class_or_an_entry(foreign):
    foreign(
        Point("by-name", Foreign), Point("other", Entry("other", "condense", "foreign", "Other", "x", kind="images"))
    )
    entry = find("by_name", "condense")
    assert entry == methods("images")["by-name"] == entry_of(Foreign)
    assert (entry.verb, entry.kind, entry.summary, entry.paper) == (
        "condense",
        "images",
        "Choose images by their names",
        None,
    )
    assert [(flag.flag, flag.everyday) for flag in entry.flags] == [("--order", True), ("--ipc", False)]
    assert entry.load() is Foreign
    assert list(methods())[-2:] == ["by-name", "other"]
    assert "by-name" not in METHODS


def test_a_name_of_attar_cannot_be_taken(foreign):
    foreign(Point("dm", Entry("dm", "condense", "foreign", "DM", "another")))
    assert methods()["dm"] is find("dm") is METHODS["dm"]


def test_a_package_that_is_broken_is_left_out_and_said(foreign):
    foreign(Point("broken", ImportError("no such module")), Point("by-name", Foreign))
    with pytest.warns(UserWarning, match="the method broken .foreign:broken. could not be read: no such module"):
        assert "by-name" in methods()
    assert find("dm").verb == "condense"


def test_a_verb_that_means_nothing_to_a_kind_names_those_that_do():
    with pytest.raises(InputError, match="Use `attar distill`, `attar train`, `attar calibrate` or `attar import`"):
        built_in()["classifiers"].task("label")
