"""Whatever is typed, the command ends with 0, 2 or 130, without a traceback, and writes where it was told to."""

import contextlib
import io
import os
import warnings
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import attar
from attar.cli import main
from attar.commands.verbs import VERBS
from attar.core.registry import METHODS, entries_in
from fuzzing import TEXTS, tried

METHOD_WORDS = sorted(METHODS)
FLAGS = sorted({flag.flag for entry in METHODS.values() for flag in entry.flags})
TABLES = [entry.name for entry in entries_in("attar.bench", "tables.json")]
GLOBAL = ("--data", "--out", "--seed", "--device", "--quiet", "--help", "--help-all", "--json", "--settings", "--paper")
GLOBAL += (
    "--baseline",
    "--variant",
    "--protocol",
    "--networks",
    "--repeats",
    "--size",
    "--kind",
    "--images",
    "--record",
)
VALUES = (
    *("1", "0", "-1", "2.5", "1e3", "1e400", "nan", "inf", "9" * 30, "9" * 5000, "ten", "1,5", "0x10", "١", "1_000"),
    *("digits", "motifs", "standard-1d", "phrases", "nowhere", "user/name", "tu/NONE", "convnet:wdth=8", "gcn:width=x"),
    *(
        "none",
        "True",
        "auto",
        "quick",
        "cifar10",
        "{here}",
        "{set}",
        "{file}",
        "{out}",
        "~nobody/x",
        "a\nb",
        "\x1b[31m",
    ),
)
SAFE = [text for text in TEXTS if "\0" not in text and text != "/" and len(text) < 10_000]
ODD = (
    "--",
    "-",
    "---",
    "--=",
    "--=x",
    "=",
    "-x",
    "—ipc",
    "--no-",
    "--no-quiet",
    "--IPC",
    "--ipc=",
    "--ipc 1",
    "--İpc",
    "-h",
    "help",
)


def flag_and_value():
    """A flag in one of the forms in which people give it, with what follows it."""
    flag, value = st.sampled_from([*FLAGS, *GLOBAL, *GLOBAL]), st.sampled_from([*VALUES, *SAFE])
    return st.one_of(
        st.tuples(flag, value),
        st.tuples(flag, value).map(lambda pair: ("=".join(pair),)),
        st.tuples(flag),
        st.tuples(flag, value, value),
        st.tuples(flag, value).map(lambda pair: (*pair, *pair)),
        st.tuples(flag).map(lambda one: (one[0].replace("--", "--no-", 1),)),
        st.tuples(flag).map(lambda one: (one[0][:-1],)),
    )


def lines():
    """Commands of the grammar, with odd words in them."""
    verb = st.sampled_from([*VERBS, *VERBS, "", "condens", "dm", "-V", "--help", "--", "help"])
    method = st.one_of(st.sampled_from(METHOD_WORDS), st.sampled_from([*TABLES, *VALUES, *SAFE, "", "dmm"]))
    pieces = st.lists(
        st.one_of(flag_and_value(), st.sampled_from([*ODD, *VALUES]).map(lambda word: (word,))), max_size=4
    )
    parts = st.tuples(verb, st.one_of(method.map(lambda word: (word,)), st.just(())), pieces)
    return parts.map(lambda drawn: [drawn[0], *drawn[1], *(word for piece in drawn[2] for word in piece)])


def fitting_lines():
    """A method with its own verb and flags, and values that may be right."""

    def of(name):
        entry = METHODS[name]
        flags = st.sampled_from([flag.flag for flag in entry.flags] + ["--seed", "--out", "--data", "--split-seed"])
        value = st.sampled_from(
            ["1", "2", "0.5", "0", "none", "digits", "convnet:width=8", "{out}", "{here}/x", "~/x", *VALUES]
        )
        pairs = st.lists(st.tuples(flags, value), max_size=4, unique_by=lambda pair: pair[0])
        return pairs.map(lambda found: [entry.verb, name, *(word for pair in found for word in pair)])

    return st.sampled_from(METHOD_WORDS).flatmap(of)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A working directory, a condensed set, a file, and a folder for what is made."""
    home = tmp_path_factory.mktemp("commands")
    for name in ("here", "out", "home"):
        (home / name).mkdir()
    attar.condense("digits", attar.Random(ipc=1), out=home / "set", engine=attar.Engine(device="cpu", quiet=True))
    (home / "file").write_text("text", encoding="utf-8")
    return home


class Started(BaseException):
    """The command would begin its work."""


@pytest.fixture
def nothing_runs(monkeypatch):
    """Commands are read and checked; what takes minutes is not begun."""

    def begun(*given, **named):
        raise Started

    for place in ("attar.verbs.run", "attar.verbs.measured", "attar.bench.tables.run", "attar.core.hub.push"):
        monkeypatch.setattr(place, begun)


def files_below(home):
    return {str(path.relative_to(home)): path.stat().st_mtime_ns for path in home.rglob("*")}


def ended(words):
    """The exit status of a command, and what it printed."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            main(words)
        except SystemExit as stop:
            return stop.code, out.getvalue(), error.getvalue()
        except Started:
            pass
    return 0, out.getvalue(), error.getvalue()


@pytest.mark.usefixtures("nothing_runs")
@tried(300)
@given(st.one_of(lines(), fitting_lines()))
@example(["condense", "dm", "--out", "~nobody/x"])
@example(["data", "~nobody/x"])
@example(["condense", "", "--ipc"])
@example(["condense", "edf", "--observer.augmented", "9" * 5000])
@example(["data", "~no_such_user/x"])
@example(["report", "{set}", "--out", "{set}/artefact.json"])
@example(["condense", "dm", "--network", "convnet:wdth=8"])
@example(["bench", "grid", "--methods", "dc:lr=null"])
def test_every_command_ends_well(places, line):
    words = [word.replace("{here}", str(places / "here")).replace("{set}", str(places / "set")) for word in line]
    words = [word.replace("{file}", str(places / "file")).replace("{out}", str(places / "out")) for word in words]
    before, there = files_below(places), Path.cwd()
    home = os.environ.get("HOME")
    os.environ["HOME"] = str(places / "home")
    os.chdir(places / "here")
    try:
        status, printed, error = ended(words)
    finally:
        os.chdir(there)
        os.environ["HOME"] = home or ""
    assert status in (0, 2, 130), (words, status, error)
    assert "Traceback" not in printed + error
    if status == 2:
        assert error.startswith("attar: ") and error.rstrip("\n").count("\n") == 0, error
        assert len(error) < 2500, error
    changed = {name for name, when in files_below(places).items() if before.get(name) != when}
    told = {"report.html", "out"} if words[:1] == ["report"] else {"out"}
    assert not any(name.split("/")[0] not in (*told, "set", "here") for name in changed), (words, changed)
    assert not any(name.startswith("home/") for name in changed) or any("~" in word for word in words)
