"""The figures and lists that README and pages print are those that were recorded, and those that attar has."""

import importlib.util
import json
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


SEEDS = {"0": {"map": 80.0, "micro_f1": 70.0}, "1": {"map": 82.0, "micro_f1": 71.0}}
VIEWS = {"0": {"knn": 30.0, "probe": 40.0, "knn, rare classes": 9.0, "seconds": 5.0}}
SIZES = {"samples": 64, "classes": 80, "d": 128}
RECORDS = {
    "multilabel": {
        "data": {
            "emotions": {
                "source": "emotions: 476 training samples",
                "rows": {"BCE": {"seeds": SEEDS}, "KMCL": {"seeds": {"0": {"map": 83.0, "micro_f1": 70.0}}}},
                "beside": {"0": {"random encoder, linear probe": 50.0}, "1": {"random encoder, linear probe": 51.0}},
            }
        }
    },
    "self_supervised": {"data": {"balanced": {"rows": {"simclr": {"seeds": VIEWS}, "dcl": {"seeds": VIEWS}}}}},
    "few_shot": {
        "machine": {},
        "digits": {
            "about": {"encoder": "conv4", "epochs": 20, "episodes_tested": 300, "seeds": 2},
            "rows": {
                "protonet, unsquared": {"5-way 1-shot": {"seeds": [75.0, 76.0]}},
                "icnn": {
                    "5-way 1-shot": {
                        "seeds": [74.0, 74.5],
                        "minus protonet, unsquared": {"difference": -1.25, "low": -2.0, "high": None},
                    }
                },
            },
        },
    },
    "contrast": {
        "rows": {
            "supcon-2048": {
                "ratio": {"attar": 2.5},
                "seconds": {"rival": 0.2, "attar": 0.08},
                "peak_mb": {"rival": 1200.0, "attar": 20.0},
            }
        }
    },
    "mixture_similarity": {"parts": {"kernels, diagonal": {"sizes": SIZES, "attar": {"seconds": 0.01, "mb": 30.0}}}},
    "multilabel_map": {
        "samples": 40_000,
        "classes": 80,
        "seconds": {name: {"attar": 0.5, "scikit-learn": 0.8} for name in ("distinct", "ties")},
    },
}
"""Small records of encoders, in the form of the scripts that make them."""


def test_records_of_encoders_become_tables(figures, tmp_path, monkeypatch):
    import results

    for name, facts in RECORDS.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(facts))
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    several = figures.TABLES["several labels"]()
    assert "**emotions** (476 training samples)" in several
    assert "| BCE | 81.0 ± 1.4 |  | +30.5 [+24.1, +36.9] | 70.5 ± 0.7 |" in several
    assert "| KMCL | 83.0 | +3.0 | +33.0 | 70.0 |" in several
    assert "| random encoder, linear probe | 50.5 ± 0.7 | -30.5 [-36.9, -24.1] |  |  |" in several
    assert "| dcl | 30.0 | +0.0 | 40.0 | +0.0 | 9.0 | 5 |" in figures.TABLES["without labels"]()
    assert "| icnn | -1.2 |" in figures.TABLES["few shots"]()
    assert list(figures.encoders.steps()) == [
        ("SupCon of 2,048 views, rival pytorch-metric-learning", "0.20 s, 1.2 GB", "80 ms, 20 MB", "2.5×"),
        ("similarities of KMCL, diagonal, 64 samples, 80 classes, D = 128", "", "10 ms, 30 MB", ""),
        ("mAP of 40,000 × 80, distinct scores, rival scikit-learn", "0.80 s", "0.50 s", "1.6×"),
        ("mAP of 40,000 × 80, nearly all scores tied, rival scikit-learn", "0.80 s", "0.50 s", "1.6×"),
    ]


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
