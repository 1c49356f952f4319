"""The figures that README and pages print are those that were recorded."""

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


@pytest.mark.parametrize("page", ["README.md", "docs/choosing.md", "docs/measured.md"])
def test_tables_are_as_recorded(figures, page):
    text = (ROOT / page).read_text()
    assert figures.written(text) == text, "run docs/write_figures.py"


def test_every_table_stands_on_a_page(figures):
    found = [name for page in figures.PAGES for _, name, _ in figures.MARKED.findall(page.read_text())]
    assert sorted(found) == sorted(figures.TABLES)


def test_figures_in_running_text_are_as_recorded(figures):
    pages = {path.name: " ".join(path.read_text().split()) for path in figures.PAGES}
    missing = [f"{page}: {figure}" for page, figure in figures.sentences() if figure not in pages[page]]
    assert not missing
