import importlib
import re
import subprocess
import sys

import pytest

from attar.core.errors import InputError
from attar.core.registry import METHODS, Entry, Paper, find
from attar.core.settings import Settings


@pytest.mark.parametrize("name", METHODS)
def test_every_entry_is_a_method_of_its_name(name):
    entry = METHODS[name]
    settings = entry.load()
    assert issubclass(settings, Settings)
    assert settings.name == entry.name == name
    assert settings.__module__ == entry.module
    parts = {
        "condense": ("build", "step", "result", "resolve", "work", "load", "total_steps"),
        "compress": ("open", "compress"),
    }
    parts["distill"] = parts["condense"]
    for part in parts[entry.verb]:
        assert hasattr(settings, part)
    kinds = {
        "condense": ("images", "graphs"),
        "compress": ("mixtures", "convolution"),
        "distill": ("classifiers", "language"),
    }
    assert entry.kind in kinds[entry.verb]


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
    assert len(summary) <= 70
    assert not summary.endswith(".")


def test_the_registry_is_read_without_importing_a_method():
    program = """
import sys
import attar.core.registry
print([name for name in sys.modules if name == "torch" or name.startswith("attar.") and ".core" not in name])
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
    assert str(refusal.value) == "gstam needs torch_geometric: pip install 'attar[graphs]'."
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
