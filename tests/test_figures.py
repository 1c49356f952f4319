"""The figures and lists that README and pages print are those that were recorded, and those that attar has."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("write_figures", ROOT / "docs" / "write_figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_as_recorded(figures):
    stale = [page.name for page in figures.PAGES if figures.written(page.read_text()) != page.read_text()]
    assert not stale, "run docs/write_figures.py"


def test_every_table_stands_on_a_page(figures):
    found = [name for page in figures.PAGES for _, name, _ in figures.MARKED.findall(page.read_text())]
    assert sorted(found) == sorted(figures.TABLES)


def test_what_is_not_recorded_yet_is_left_out(figures, tmp_path, monkeypatch):
    import results

    monkeypatch.setattr(results, "RESULTS", tmp_path)
    names = list(figures.encoders.TABLES)
    assert [figures.TABLES[name]() for name in names] == [""] * len(names)
    assert list(figures.encoders.steps()) == list(figures.encoders.sentences()) == []
    empty = "before\n\n<!-- figures: few shots -->\n<!-- /figures -->\n\nafter\n"
    assert figures.written(empty) == empty


def test_figures_in_running_text_are_as_recorded(figures):
    pages = {path.name: " ".join(path.read_text().split()) for path in figures.PAGES}
    missing = [f"{page}: {figure}" for page, figure in figures.sentences() if figure not in pages[page]]
    assert not missing


def test_the_picture_has_the_recorded_scores(figures):
    facts = figures.recorded("demo")
    drawn = (ROOT / "docs" / "demo.svg").read_text()
    scores = [cell.score.number for cell in figures.cells_of(facts) if cell.ipc == 1]
    missing = [score for score in [*scores, figures.Score(**facts["full"]).number] if score not in drawn]
    assert not missing, "run docs/make_plots.py"


def test_the_demo_drops_rows_of_the_table_of_digits_and_has_no_others():
    """README's result is `make demo`'s; what it leaves out is listed in docs/numbers.md."""
    from attar.bench.tables import demo_rows, digits_rows

    mine, all_of_them = demo_rows(40), {row.label: row for row in digits_rows(120)}
    assert {row.label for row in mine} < set(all_of_them)
    learned = [row for row in mine if row.label in ("DM", "DataDAM")]
    assert [row.sets for row in learned] == [all_of_them[row.label].sets for row in learned] == [4, 4]
