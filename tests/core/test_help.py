"""Help is made from data: it fits the terminal, says types and defaults in words, and imports nothing heavy."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, fields
from typing import Annotated, Literal

import pytest

from attar.cli import main
from attar.commands.verbs import GROUPS, MAKING, VERBS
from attar.core.flags import FlagText
from attar.core.help import method_help, methods_table, settings_help, verb_help
from attar.core.kinds import kinds
from attar.core.machine import Engine
from attar.core.parts import parts
from attar.core.registry import METHODS, entries_in, find
from attar.core.settings import Range, Settings

MADE = sorted({entry.verb for entry in METHODS.values()})
TABLES = [entry.name for entry in entries_in("attar.bench", "tables.json")]
PAGES = [
    *([entry.verb, name] for name, entry in METHODS.items()),
    *([verb] for verb in VERBS),
    *(["bench", table] for table in TABLES),
    [],
]
"""Everything that has help: methods, verbs, the tables of bench, and attar itself."""
CODE = ("None", "Literal[", "Annotated", "Optional", "tuple[", "<class", "{None}", "|INT", "|None", "\xa0")


@dataclass(frozen=True, kw_only=True)
class Around(Settings):
    source: str = "digits"
    """Where it comes from. Further words about it. A folder unless given."""
    form: Literal["one", "two"] | None = None
    """Which of both."""
    count: Annotated[int, Range(1)] = 1000
    """How many."""
    loud: bool = False
    """Whether it says so."""


def fits(text, width):
    return all(len(line) <= width for line in text.splitlines())


@pytest.fixture
def shown(capsys, monkeypatch):
    """What a command prints on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def of(*words):
        main(list(words))
        return capsys.readouterr().out

    return of


# First pages.


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_a_first_page_is_40_lines_of_80_columns_in_words(words, shown):
    text = shown(*words, "--help")
    lines = text.splitlines()
    assert len(lines) <= 40 and fits(text, 80)
    assert lines[0].startswith(f"usage: attar {' '.join(words)}")
    assert not [code for code in CODE if code in text]


@pytest.mark.parametrize("words", PAGES[:-1], ids=" ".join)
def test_help_with_everything_fits_80_columns_in_words(words, shown):
    text = shown(*words, "--help-all")
    assert fits(text, 80)
    assert not [code for code in CODE if code in text]
    assert "All settings:" not in text


@pytest.mark.parametrize("name", METHODS)
def test_the_first_page_of_a_method_tells_what_it_is_and_what_one_needs(name, shown):
    entry, text = METHODS[name], shown(METHODS[name].verb, name, "--help")
    flowing = " ".join(text.split())
    assert entry.summary[1:] in flowing
    assert len(entry.everyday) <= 6
    told = [*(flag.flag for flag in entry.everyday), "--data", "--out", "--seed", "--settings FOLDER", "--help-all"]
    assert not [flag for flag in told if flag.replace("--", "") not in text]
    assert not [preset for preset in entry.presets if preset not in flowing]
    if entry.verb == "distill":
        assert "\n  --teacher " in text


@pytest.mark.parametrize("name", METHODS)
def test_help_with_everything_has_every_setting_once(name, shown):
    entry = METHODS[name]
    text = shown(entry.verb, name, "--help-all")
    flags = re.findall(r"^  --(?:\[no-\])?(\S+)", text, re.MULTILINE)
    assert len(flags) == len(set(flags))
    assert {flag.flag for flag in entry.flags} <= {f"--{flag}" for flag in flags}
    assert {f"--{field.name.replace('_', '-')}" for field in fields(Engine)} <= {f"--{flag}" for flag in flags}


def test_the_settings_of_what_stands_beside_a_method_are_apart(shown):
    lines = shown("condense", "mtt", "--help-all").splitlines()
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == [
        "everyday settings:",
        "further settings:",
        "network:",
        "experts:",
        "data, folder and seed:",
        "how data are read:",
        "how the machine is used:",
    ]
    place = lines.index("experts:")
    assert lines[place + 1].startswith("  --experts.epochs ")


@pytest.mark.parametrize("name", METHODS)
def test_a_default_is_told_in_words(name):
    """A setting that is filled in says by what, and one that has a default says no other."""
    filled = ("Default: ", "unless given", "Unless given", "in place of", "to have instead", "show theirs")
    for flag in METHODS[name].flags:
        if flag.default == "nothing":
            assert any(words in flag.sentence for words in filled), flag
        else:
            assert "unless given" not in flag.sentence and "Default: " not in flag.sentence, flag
        assert "None" not in flag.type + flag.default, flag


def test_where_an_artefact_lies_unless_told_is_told_exactly(shown):
    assert "default: runs/dm-DATA-IPC-seedN" in shown("condense", "dm", "--help")
    assert "default: runs/kd-DATA-seedN" in shown("distill", "kd", "--help")
    assert "default: runs/" not in shown("train", "experts", "--help")  # experts lie in the cache


def test_data_and_what_is_bundled_are_told_by_kind(shown):
    for entry in METHODS.values():
        kind = kinds()[entry.kind]
        text = " ".join(shown(entry.verb, entry.name, "--help").split())
        if not entry.reads:
            assert "--data" not in text and "runs/" in text
            continue
        usual = entry.usual(kind)
        told = f"default: {usual}" if usual else "must be given"
        assert f"The data: {entry.takes(kind)}. ({told})" in text


def test_presets_say_what_the_defaults_are(shown):
    text = shown("condense", "datadam", "--paper", "cifar10", "--variant", "released", "--help-all")
    assert re.search(r"--power .*?default: 1\)", " ".join(text.split()))


# Of a verb.


@pytest.mark.parametrize("verb", MADE)
def test_help_of_a_verb_has_every_method_once_on_a_line(verb):
    text = verb_help(verb, "what it does", everything=True, width=80)
    assert fits(text, 80)
    assert "\n\nWhat it does.\n\n" in text
    for name, entry in METHODS.items():
        lines = [line for line in text.splitlines() if line.startswith(f"  {name} ")]
        assert len(lines) == (entry.verb == verb)
        assert all(line.endswith(entry.summary) for line in lines)


def test_help_of_a_verb_groups_methods_by_what_one_holds_and_family():
    lines = verb_help("condense", everything=True, width=80).splitlines()
    assert lines[0] == "usage: attar condense METHOD --data DATA [--out FOLDER] ..."
    order = [lines.index(line) for line in ("Labelled images", " gradient matching", "Labelled graphs")]
    assert order == sorted(order)
    assert lines[lines.index(" gradient matching") + 1].split()[0] == "dc"


def test_methods_of_a_verb_that_do_not_fit_a_page_stand_by_name():
    text = verb_help("condense", width=80)
    assert "\n  gradient matching       dc, dsa, dcc\n" in text
    assert text.endswith("What each one does:   attar condense --help-all")
    names = [word.strip(",") for word in text.split()]
    assert all(name in names for name, entry in METHODS.items() if entry.verb == "condense")


def test_every_verb_is_in_a_group_of_the_first_page():
    assert sorted(verb for verbs in GROUPS.values() for verb in verbs) == sorted(VERBS)
    assert set(MAKING) <= set(VERBS)


# Parts.


def test_help_of_a_method_shows_what_one_changes_first():
    text = method_help(find("dm"), {"reading": Around, "engine": Engine}, everything=False, width=80)
    assert text.startswith("usage: attar condense dm --data DATA [--out FOLDER] ...\n")
    assert "Dataset Condensation with Distribution Matching, WACV 2023, arXiv:2110.04181." in " ".join(text.split())
    flags = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    assert flags == ["--ipc", "--steps", "--lr", "--real-batch", "--start", "--network"]
    assert "\neveryday settings:\n" in text
    assert text.endswith("\n\nAll settings: attar condense dm --help-all")


def test_help_of_a_method_can_show_what_stands_beside_it_too():
    groups = {"reading": Around, "engine": Engine}
    text = method_help(find("dm"), groups, everything=False, first=("reading",), notes=["A note."])
    assert "\nreading:\n" in text and "\nengine:\n" not in text
    assert "\n\nA note.\nAll settings: " in text


def test_a_method_with_few_settings_shows_them_at_once():
    text = method_help(find("random"), {}, everything=False, width=80)
    assert "\nsettings:\n  --ipc  " in text
    assert "--help-all" not in text


def test_numbers_stay_whole_at_any_width():
    for width in range(60, 100):
        assert "1,000" in method_help(find("dm"), {}, everything=False, width=width)


def test_settings_stand_in_columns():
    assert settings_help("usage: attar data DATA", {"settings": Around, "none": Empty}, width=60) == "\n".join(
        [
            "usage: attar data DATA",
            "",
            "settings:",
            "  --source     Where it comes from. Further words about it.",
            "               A folder unless given. (default: digits)",
            "  --form       Which of both. (one or two)",
            "  --count      How many. (whole number, at least 1;",
            "               default: 1000)",
            "  --[no-]loud  Whether it says so. (default: no)",
        ]
    )


def test_a_first_page_is_brief_and_names_the_rest():
    text = settings_help(
        "usage: attar x FOLDER",
        {"what": (FlagText("--folder", "folder", "path", "must be given", "Where."),), "around": Around},
        about="tell something",
        everything=False,
        first=("what",),
        positional=("folder",),
        notes=["Look there."],
        width=60,
    )
    assert text.splitlines() == [
        "usage: attar x FOLDER",
        "",
        "Tell something.",
        "",
        "what:",
        "  FOLDER  Where. (path; must be given)",
        "",
        "around: --source, --form, --count, --loud",
        "",
        "Look there.",
        "All settings: attar x --help-all",
    ]
    text = settings_help("usage: attar x", {"around": Around}, everything=False, first=("around",), width=80)
    assert "  --source     Where it comes from. A folder unless given. (default: digits)" in text
    assert "  --count      How many. (whole number; default: 1000)" in text


@dataclass(frozen=True, kw_only=True)
class Empty(Settings):
    pass


# attar methods.


def test_the_table_of_methods_has_papers_at_the_right():
    text = methods_table(METHODS, width=100)
    assert fits(text, 100)
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    assert set(lines) == set(METHODS)
    starts = {lines[name].index(str(entry.paper)) for name, entry in METHODS.items() if entry.paper}
    assert len(starts) == 1
    assert "Labelled images: attar condense" in text.splitlines()


def test_methods_are_a_line_each_on_a_narrow_terminal(shown):
    lines = [line.split()[0] for line in shown("methods").splitlines() if line.startswith("  ")]
    assert sorted(lines) == sorted({*METHODS, *parts()})  # those of a family together


@pytest.mark.parametrize(
    "words, chosen",
    [
        (["graphs"], lambda entry: entry.kind == "graphs"),
        (["graph"], lambda entry: entry.kind == "graphs"),
        (["labelled", "graphs"], lambda entry: entry.kind == "graphs"),
        (["Gaussian mixtures"], lambda entry: entry.kind == "mixtures"),
        (["mixture"], lambda entry: entry.kind == "mixtures"),
        (["gaussian"], lambda entry: entry.kind == "mixtures"),
        (["image"], lambda entry: entry.kind == "images"),
        (["convolutions"], lambda entry: entry.kind == "convolution"),
        (["causal"], lambda entry: entry.kind == "language"),
        (["diffusion models"], lambda entry: entry.kind == "samplers"),
        (["distill"], lambda entry: entry.verb == "distill"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_methods_of_what_one_holds_or_does(words, chosen, shown):
    names = [name for name, entry in METHODS.items() if chosen(entry)]
    listed = [line.split()[0] for line in shown("methods", *words).splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(names)
    assert [entry["name"] for entry in json.loads(shown("methods", *words, "--json"))] == names


def test_one_method_tells_what_it_is_and_where_its_help_is(shown):
    text = shown("methods", "dm")
    assert "WACV 2023, arXiv:2110.04181." in " ".join(text.split())
    assert text.endswith("For labelled images, distribution matching.\nHelp: attar condense dm --help\n")


def test_methods_for_programs(shown):
    facts = json.loads(shown("methods", "--json"))
    assert [entry["name"] for entry in facts] == list(METHODS)
    assert {tuple(entry) for entry in facts} == {
        ("name", "kind", "verb", "family", "summary", "paper", "module", "class", "extra", "settings", "presets")
    }
    papers = {tuple(entry["paper"]) for entry in facts if entry["paper"]}
    assert papers == {("authors", "title", "venue", "year", "arxiv")}
    assert all(entry["kind"] in kinds() and entry["verb"] in VERBS and entry["summary"] for entry in facts)
    dm = next(entry for entry in facts if entry["name"] == "dm")
    assert (dm["module"], dm["class"], dm["presets"]) == ("attar.images.condense.dm", "DM", ["--paper NAME"])
    settings = {setting["flag"]: setting for setting in dm["settings"]}
    assert settings["--ipc"] == {
        "flag": "--ipc",
        "setting": "ipc",
        "type": "one or several whole numbers, each at least 1",
        "default": "10",
        "sentence": "Images per class: one number for all classes, or one number for each class in order.",
        "everyday": True,
    }
    assert settings["--steps"]["default"] is None and settings["--width"]["everyday"] is False


def test_every_kind_can_be_listed(shown):
    for kind in kinds():
        assert kinds()[kind].holds[1:] in shown("methods", kind)
    assert "graphs        labelled graphs" in shown("methods", "--help")


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["methods", "grahps"], "unknown kind, verb or method 'grahps'; did you mean 'graphs'? Kinds: images, "),
        (["methods", "graphs", "images"], "unknown kind, verb or method 'graphs images'; did you mean 'images'?"),
        (["methods", "datadan"], "did you mean 'datadam'?"),
        (["methods", "xyzzy"], "unknown kind, verb or method 'xyzzy'. Kinds: images, "),
        (["methods", "labelled"], "unknown kind, verb or method 'labelled'; "),
        (["cite", "random"], "random has no paper of its own. Cite the table you compare with."),
    ],
)
def test_what_is_not_there_is_refused(words, sentence, capsys):
    with pytest.raises(SystemExit):
        main(words)
    assert sentence in capsys.readouterr().err


def test_several_papers_are_cited_at_once(capsys):
    main(["cite", "dm", "dc"])
    assert capsys.readouterr().out.count("@inproceedings{") == 2


# It is quick.

HEAVY = ("torch", "numpy", "tyro", "rich", "pyarrow", "scipy", "sklearn", "transformers", "datasets", "PIL")


def imported_by(*pages):
    """The heavy modules that are there after each page of help, in one process."""
    program = f"""
import sys
from attar.cli import main
for words in {list(map(list, pages))!r}:
    main(words)
    print("HEAVY", words, [name for name in {HEAVY!r} if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [line for line in run.stdout.splitlines() if line.startswith("HEAVY")]


def test_help_imports_nothing_heavy():
    of_kinds = {entry.kind: [entry.verb, name] for name, entry in reversed(METHODS.items())}
    pages = [[*words, flag] for words in [*of_kinds.values(), *([verb] for verb in VERBS)] for flag in ("--help", "-h")]
    pages += [[], ["--version"], ["methods"], ["methods", "graphs", "--json"], ["cite", "dm"]]
    pages += [["bench", table, "--help"] for table in TABLES]
    pages += [[*words, "--help-all"] for words in of_kinds.values()]
    lines = imported_by(*map(tuple, pages))
    assert len(lines) == len(pages)
    assert [line for line in lines if not line.endswith(" []")] == []


def test_help_of_another_kind_names_the_command_of_that_kind(shown):
    last = shown("label", "--kind", "language", "--help").splitlines()[-1]
    command = last.removeprefix("All settings: attar ")
    assert command == "label --kind language --help-all"
    assert "--shard-megabytes" in shown(*command.split())
