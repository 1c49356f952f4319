"""Help is made from data: it fits the terminal, says types and defaults in words, and imports nothing heavy."""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest

from attar.cli import main
from attar.core.help import method_help, methods_table, settings_help, verb_help
from attar.core.kinds import kinds
from attar.core.machine import Engine
from attar.core.registry import METHODS, find
from attar.core.settings import Settings

VERBS = sorted({entry.verb for entry in METHODS.values()})


@dataclass(frozen=True, kw_only=True)
class Around(Settings):
    source: str = "digits"
    """Where it comes from."""
    form: Literal["one", "two"] | None = None
    """Which of both."""
    loud: bool = False
    """Whether it says so."""


def fits(text, width):
    return all(len(line) <= width for line in text.splitlines())


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_every_method_once_on_a_line(verb):
    text = verb_help(verb, width=80)
    assert fits(text, 80)
    for name, entry in METHODS.items():
        lines = [line for line in text.splitlines() if line.startswith(f"  {name} ")]
        assert len(lines) == (entry.verb == verb)
        assert all(line.endswith(entry.summary) for line in lines)


def test_help_of_a_verb_groups_methods_by_what_one_holds_and_family():
    lines = verb_help("condense", width=80).splitlines()
    assert lines[0] == "usage: attar condense METHOD --data DATA [--out FOLDER] ..."
    order = [lines.index(line) for line in ("Labelled images", " gradient matching", "Labelled graphs")]
    assert order == sorted(order)
    assert lines[lines.index(" gradient matching") + 1].split()[0] == "dc"


def test_help_of_a_method_shows_what_one_changes_first():
    text = method_help(find("dm"), {"reading": Around, "engine": Engine}, everything=False, width=80)
    assert fits(text, 80)
    assert text.startswith("usage: attar condense dm --data DATA [--out FOLDER] ...\n")
    assert "Dataset Condensation with Distribution Matching, WACV 2023, arXiv:2110.04181." in " ".join(text.split())
    flags = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    assert flags == ["--ipc", "--steps", "--lr", "--real-batch", "--start", "--network"]
    assert "\neveryday settings:\n" in text
    assert text.endswith("\n\nAll settings: attar condense dm --help-all")


def test_help_of_a_method_can_show_what_stands_beside_it_too():
    text = method_help(find("dm"), {"reading": Around, "engine": Engine}, everything=False, first=("reading",))
    assert "\nreading:\n" in text and "\nengine:\n" not in text


def test_help_with_everything_has_all_settings_and_no_further_hint():
    groups = {"reading": Around, "engine": Engine(quiet=True)}
    text = method_help(find("dm"), groups, everything=True, width=80)
    assert fits(text, 80)
    assert "--help-all" not in text
    for flag in find("dm").flags:
        assert flag.flag.removeprefix("--") in text
    assert "  --[no-]quiet          yes or no (default: yes)\n" in text


def test_a_method_with_few_settings_shows_them_at_once():
    text = method_help(find("random"), {}, everything=False, width=80)
    assert "\nsettings:\n  --ipc  " in text
    assert "--help-all" not in text


@pytest.mark.parametrize("name", METHODS)
def test_help_of_every_method_fits_and_speaks_in_words(name):
    for everything in (False, True):
        text = method_help(METHODS[name], {"engine": Engine}, everything=everything, width=80)
        assert fits(text, 80)
        for code in ("default: None", "Literal[", "Annotated", "Optional", "tuple[", "<class"):
            assert code not in text


def test_numbers_stay_whole_at_any_width():
    for width in range(60, 100):
        assert "1,000" in method_help(find("dm"), {}, everything=False, width=width)


def test_settings_stand_in_columns():
    assert settings_help("usage: attar data DATA", {"settings": Around, "none": Empty}, width=60) == "\n".join(
        [
            "usage: attar data DATA",
            "",
            "settings:",
            "  --source     text (default: digits)",
            "               Where it comes from.",
            "  --form       one or two",
            "               Which of both.",
            "  --[no-]loud  yes or no (default: no)",
            "               Whether it says so.",
        ]
    )


@dataclass(frozen=True, kw_only=True)
class Empty(Settings):
    pass


def test_the_table_of_methods_has_papers_at_the_right():
    text = methods_table(width=100)
    assert fits(text, 100)
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    assert set(lines) == set(METHODS)
    starts = {lines[name].index(str(entry.paper)) for name, entry in METHODS.items() if entry.paper}
    assert len(starts) == 1
    assert "Labelled images: attar condense" in text.splitlines()


def test_methods_of_one_kind_and_as_json(capsys):
    main(["methods", "graphs"])
    printed = capsys.readouterr().out
    assert "doscond" in printed and "datadam" not in printed
    main(["methods", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in facts] == list(METHODS)
    assert facts[0]["flags"][0]["flag"] == "--ipc"


def test_every_kind_can_be_listed(capsys):
    for kind in kinds():
        main(["methods", kind])
        assert kinds()[kind].holds[1:] in capsys.readouterr().out
    main(["methods", "--help"])
    assert "graphs        labelled graphs" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["methods", "graph"], "unknown kind 'graph'; did you mean 'graphs'?"),
        (["methods", "graphs", "images"], "`attar methods` takes a kind, and --json; not 'graphs images'."),
        (["cite", "random"], "random has no paper of its own; cite the table you compare with."),
    ],
)
def test_what_is_not_there_is_refused(words, sentence, capsys):
    with pytest.raises(SystemExit):
        main(words)
    assert sentence in capsys.readouterr().err


def test_several_papers_are_cited_at_once(capsys):
    main(["cite", "dm", "dc"])
    assert capsys.readouterr().out.count("@inproceedings{") == 2


def test_help_needs_no_torch():
    program = """
import sys
from attar.core.help import method_help, methods_table, verb_help
from attar.core.machine import Engine
from attar.core.registry import find, methods
methods_table()
for name, entry in methods().items():
    verb_help(entry.verb)
    method_help(entry, {"engine": Engine}, everything=True)
print([name for name in ("torch", "tyro", "numpy") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
