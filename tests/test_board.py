"""The results page: its rows are the records, whole or left out loudly; its table sorts and filters in a browser."""

import base64
import hashlib
import html
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS.parent / "bench" / "results"
sys.path.insert(0, str(DOCS / "_ext"))

import assets  # noqa: E402
import board  # noqa: E402
import board_page  # noqa: E402
import board_records  # noqa: E402
import results  # noqa: E402


@pytest.fixture(scope="module")
def found():
    return board.board()


def of_record(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------------------- the rows


def test_every_row_is_whole(found):
    assert len(found.rows) > 400
    for row in found.rows:
        assert board.lacking(row) == ""
        assert row.kind and row.method and row.data and row.metric and row.command and row.score.n >= 1
        assert row.score.spread is not None or row.score.interval is not None or row.score.n == 1
        assert row.score.better in ("higher", "lower")
        json.dumps(row.to_json(), allow_nan=False)


def test_nothing_that_is_recorded_is_left_out(found):
    assert [line for line in found.left_out if not line.endswith(": nothing is recorded yet")] == []


def test_every_record_is_read_or_said_to_be_elsewhere():
    recorded = {path.stem for path in RESULTS.glob("*.json")}
    assert recorded <= board_records.READERS.keys() | board_records.ELSEWHERE.keys()
    assert not board_records.READERS.keys() & board_records.ELSEWHERE.keys()


def test_each_record_has_as_many_rows_as_cells(found):
    graphs, language, losses = of_record("graphs"), of_record("language"), of_record("ensloss")
    expected = {
        "digits_all": len(of_record("digits_all")["cells"]),
        "cifar10": len(of_record("cifar10")["cells"]),
        "comp_dd_tiny43": sum(len(of_record("comp_dd_tiny43")[half]["cells"]) for half in ("easy", "hard")),
        "graphs": sum(len(cell["rows"]) for cell in graphs["cells"].values()),
        "language": 2 * sum(map(len, language["cells"].values())),
        "ensloss": sum(map(len, losses["small"].values())),
        "mixtures": sum(len(of_record("mixtures")[part]) for part in ("random", "digits", "tracking")),
        "distillation_digits": len(of_record("distillation_digits")["rows"]),
    }
    counts = found.by_record()
    assert {name: counts.get(name) for name in expected} == expected
    recorded = {path.stem for path in RESULTS.glob("*.json")}
    assert recorded & board_records.READERS.keys() == counts.keys()


def test_no_two_rows_say_different_things_of_the_same(found):
    names = [(row.record, row.data, row.budget, row.metric, row.method) for row in found.rows]
    assert len(names) == len(set(names))


def test_figures_are_those_of_the_pages(found):
    """The same numbers with the same intervals as in the tables that `write_figures.py` fills in."""
    page = (DOCS / "choosing.md").read_text(encoding="utf-8")
    measured = (DOCS / "measured.md").read_text(encoding="utf-8")
    for row in found.rows:
        if row.record == "digits_all":
            line = f"| {row.budget.split()[0]} | {row.labels} | {row.method} | {row.score.number} | {row.gap} |"
            assert line in page
        if row.record == "distillation_cifar10" and row.rival == "student alone":
            assert f"| {row.method} | {row.score.number} | {row.gap} |" in measured


def test_a_rival_is_a_row_beside(found):
    groups = {(row.record, row.data, row.budget, row.metric, row.method) for row in found.rows}
    for row in found.rows:
        assert not row.rival or (row.record, row.data, row.budget, row.metric, row.rival) in groups
        assert bool(row.rival) == bool(row.gap)


def test_what_is_broken_is_left_out_and_told(tmp_path, monkeypatch):
    whole = of_record("digits_all")
    whole["cells"] = whole["cells"][:3]
    whole["cells"][1]["values"] = [[math.nan]]
    (tmp_path / "digits_all.json").write_text(json.dumps(whole), encoding="utf-8")
    (tmp_path / "graphs.json").write_text("[]", encoding="utf-8")
    (tmp_path / "language.json").write_text('{"cells": {"plays": {"sft": [{}]}}}', encoding="utf-8")
    (tmp_path / "cut.json").write_text("{}", encoding="utf-8")
    (tmp_path / "mixtures.json").write_text('{"random": {', encoding="utf-8")
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(board, "RESULTS", tmp_path)
    made = board.board()
    assert len(made.rows) == 2
    told = {line.partition(":")[0]: line for line in made.left_out}
    assert told["digits_all, digits 1 per class, class mean"].endswith("accuracy is nan")
    for name in ("graphs", "language", "mixtures"):
        assert "another form" in told[name] and "\n" not in told[name]
    assert told["cut"] == "cut: no reader" and told["samplers"] == "samplers: nothing is recorded yet"


# ----------------------------------------------------------------------------------------------------------- the markup


def test_the_plain_table_has_every_row(found):
    for with_scripts in (True, False):
        text = board_page.markup(found, with_scripts=with_scripts)
        assert text.count("<tr>") == len(found.rows) + 1
        assert ("<noscript>" in text) == with_scripts
    assert len(board_page.PLAIN) <= 12


def test_texts_cannot_leave_their_place(found):
    evil = "</script><script>alert(1)</script>"
    row = board.dataclasses.replace(found.rows[0], method=evil)
    text = board_page.markup(board.Board((row,), (evil,)), with_scripts=True)
    assert "<script>alert" not in text
    data = re.search(r'id="board-rows">(.*?)</script>', text, re.DOTALL)[1]
    assert json.loads(data)[0]["method"] == evil and html.escape(evil) in text


# -------------------------------------------------------------------------------------------------------- the libraries


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A stand-in for npm that packs two files, and a lock of what it packs."""
    if sys.platform == "win32":
        pytest.skip("the stand-in is a script with a first line")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in (("package/dist/one.js", b"one"), ("package/LICENSE", b"free")):
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            archive.addfile(facts, io.BytesIO(content))
    (tmp_path / "packed.tgz").write_bytes(packed.getvalue())
    tool = tmp_path / "tools" / "npm"
    tool.parent.mkdir()
    tool.write_text(
        f"#!{sys.executable}\nimport shutil, sys\n"
        "place = next(word.partition('=')[2] for word in sys.argv if word.startswith('--pack-destination'))\n"
        f"shutil.copy({str(tmp_path / 'packed.tgz')!r}, place + '/one-1.0.0.tgz')\n",
        encoding="utf-8",
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent))
    digest = "sha512-" + base64.b64encode(hashlib.sha512(packed.getvalue()).digest()).decode()
    lock = tmp_path / "lock"
    facts = {"one": {"version": "1.0.0", "integrity": digest, "files": ["dist/one.js"]}}
    lock.write_text(json.dumps(facts), encoding="utf-8")
    return tool, lock, facts


def test_a_locked_library_is_fetched_once(npm, tmp_path):
    tool, lock, _ = npm
    (file,) = assets.assets(tmp_path / "kept", lock)
    assert file.read_bytes() == b"one" and (file.parent / "LICENSE").read_bytes() == b"free"
    tool.unlink()
    assert assets.assets(tmp_path / "kept", lock) == [file]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"integrity": "sha512-AAAA"}, "one-1.0.0.tgz has the digest sha512-.*was locked"),
        ({"files": ["dist/two.js"]}, "one-1.0.0.tgz has no file dist/two.js; correct assets.lock"),
    ],
)
def test_another_package_than_the_locked_one_is_refused(npm, tmp_path, change, message):
    _, lock, facts = npm
    lock.write_text(json.dumps({"one": facts["one"] | change}), encoding="utf-8")
    with pytest.raises(assets.Missing, match=message):
        assets.assets(tmp_path / "kept", lock)
    assert not list((tmp_path / "kept").rglob("LICENSE"))


def test_without_npm_it_says_so_in_one_line(npm, tmp_path):
    tool, lock, _ = npm
    tool.write_text("#!/bin/sh\necho 'npm error network unreachable' >&2\nexit 1\n", encoding="utf-8")
    with pytest.raises(assets.Missing, match=r"^one@1.0.0 cannot be fetched: npm error network unreachable$"):
        assets.assets(tmp_path / "kept", lock)
    tool.unlink()
    with pytest.raises(assets.Missing, match=r"^npm is not installed, so one@1.0.0 cannot be fetched$"):
        assets.assets(tmp_path / "kept", lock)


def test_every_library_has_its_version_and_digest_locked():
    for name, facts in json.loads(assets.LOCK.read_text(encoding="utf-8")).items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", facts["version"]), name
        assert len(base64.b64decode(facts["integrity"].removeprefix("sha512-"))) == 64
        assert facts["files"] and facts["licence"]


# ---------------------------------------------------------------------------------------------------------- the browser


def built(place, kept="", **environment):
    """The results page alone, built by Sphinx; what it said."""
    pytest.importorskip("sphinx", reason="sphinx is not installed: pip install '.[docs]'")
    source, out = place / "source", place / "site"
    source.mkdir(parents=True)
    shutil.copy(DOCS / "results.md", source)
    settings = {
        "extensions": "myst_parser,board_page",
        "html_theme": "furo",
        "root_doc": "results",
        "board_kept": str(kept),
    }
    words = [word for name, value in settings.items() for word in ("-D", f"{name}={value}")]
    paths = os.pathsep.join([str(DOCS / "_ext"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "sphinx", "-q", "-C", *words, "-b", "html", str(source), str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths, **environment}
    )
    assert done.returncode == 0, done.stderr
    return out / "results.html", done.stderr


@pytest.fixture(scope="module")
def page(browse, tmp_path_factory):
    made, told = built(tmp_path_factory.mktemp("results"))
    if "plain table only" in told:
        pytest.skip(next(line for line in told.splitlines() if "plain table only" in line))
    browser = browse(made)
    assert browser.complaints() == []
    return browser


COUNT = "return document.getElementById('board-count').textContent"


def shown(page, column):
    cells = f"document.querySelectorAll('.tabulator-row [tabulator-field=\"{column}\"]')"
    return page.run(f"return [...{cells}].map(cell => cell.innerText)")


def fill(page, column, text):
    """Type into the filter of a column, as a person does."""
    page.run(
        f"""const box = document.querySelector('.tabulator-col[tabulator-field="{column}"] input');
        box.focus(); box.value = {text!r};
        for (const kind of ['input', 'keyup', 'search']) box.dispatchEvent(new Event(kind, {{bubbles: true}}));"""
    )


def until(page, script, wanted):
    page.ask("POST", f"{page.base}/timeouts", {"script": 10_000})
    wait = f"""const done = arguments[arguments.length - 1];
    const look = () => {{ const got = (() => {{ {script} }})();
      if (JSON.stringify(got) === JSON.stringify({json.dumps(wanted)})) done(got); else setTimeout(look, 50); }};
    look();"""
    page.ask("POST", f"{page.base}/execute/async", {"script": wait, "args": []})


def press(page, key, code, **more):
    for what in ("keyDown", "keyUp"):
        page.tell("Input.dispatchKeyEvent", type=what, key=key, code=key, windowsVirtualKeyCode=code, **more)


def test_the_table_is_there_with_all_rows(page, found):
    until(page, COUNT, f"{len(found.rows)} of {len(found.rows)} rows")
    assert len(shown(page, "method")) == 25
    assert page.run("return getComputedStyle(document.getElementById('board')).display") != "none"
    assert page.run("return document.querySelectorAll('.tabulator-col[role=columnheader]').length") <= 12


def test_it_loads_nothing_from_elsewhere(page):
    assert (
        page.run("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('file:')).length") == 0
    )


def test_it_filters_and_the_plot_follows(page, found):
    mine = [row for row in found.rows if "k-means" in row.method]
    fill(page, "method", "k-means")
    until(page, COUNT, f"{len(mine)} of {len(found.rows)} rows")
    points = [row for row in mine if row.bytes and row.metric.startswith("accuracy")]
    until(
        page,
        "return document.querySelectorAll('#board-plot .mark-symbol[role=\"graphics-object\"] path').length",
        len(points),
    )
    page.run("document.getElementById('board-clear').click()")
    until(page, COUNT, f"{len(found.rows)} of {len(found.rows)} rows")


def test_it_sorts_by_value(page, found):
    head = """document.querySelector('.tabulator-col[tabulator-field="value"] .tabulator-col-title')"""
    for ascending in (True, False):
        page.run(f"{head}.click()")
        ends = sorted((row.score.value for row in found.rows), reverse=not ascending)[:25]
        told = {f"{row.score.value}": row.to_json()["told"] for row in found.rows}
        assert shown(page, "value")[0].split("\n")[0] == told[f"{ends[0]}"]


def test_a_keyboard_is_enough(page, found):
    page.run("document.querySelector('.tabulator-col[tabulator-field=\"kind\"] input').focus()")
    kinds = sorted({row.kind for row in found.rows})
    mine = [row for row in found.rows if row.kind == kinds[0]]
    press(page, "ArrowDown", 40)
    until(page, "return document.querySelectorAll('.tabulator-edit-list-item').length", len(kinds))
    press(page, "Enter", 13)
    until(page, COUNT, f"{len(mine)} of {len(found.rows)} rows")
    assert set(shown(page, "kind")) == {kinds[0]}
    until(page, "return document.querySelectorAll('.tabulator-edit-list-item').length", 0)
    page.run("document.getElementById('board-clear').focus()")
    press(page, "Enter", 13, text="\r")
    until(page, COUNT, f"{len(found.rows)} of {len(found.rows)} rows")


def test_it_fits_a_desk(page):
    assert page.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_it_fits_a_phone(page):
    page.as_phone(390)
    try:
        assert page.run("return document.documentElement.scrollWidth") <= 390
        assert page.run(
            "const t = document.querySelector('.tabulator-tableholder'); return t.scrollWidth > t.clientWidth"
        )
    finally:
        page.as_desk()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_has_the_colours_of_the_theme(page, theme):
    page.run(f"document.body.dataset.theme = '{theme}'")
    page_colour = page.run("return getComputedStyle(document.body).backgroundColor")
    rows = page.run("return getComputedStyle(document.querySelector('.tabulator-row')).backgroundColor")
    text = page.run("return getComputedStyle(document.querySelector('.tabulator-row')).color")
    assert rows == page_colour and text != rows


def test_without_the_libraries_the_plain_table_stands(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    made, told = built(tmp_path, tmp_path / "none", PATH=str(tools))
    (line,) = (line for line in told.splitlines() if "plain table only" in line)
    assert line.startswith("results: the page has its plain table only: npm is not installed")
    text = made.read_text(encoding="utf-8")
    assert '<table class="board-plain">' in text and "board.js" not in text and "<noscript><div" not in text
