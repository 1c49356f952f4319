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
    stale = [
        page.name
        for page in figures.PAGES
        if figures.written(page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8")
    ]
    assert not stale, "run docs/write_figures.py"


def test_every_table_stands_on_a_page(figures):
    found = [name for page in figures.PAGES for _, name, _ in figures.MARKED.findall(page.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(figures.TABLES)


def test_what_is_not_recorded_yet_is_left_out(figures, tmp_path, monkeypatch):
    import results

    monkeypatch.setattr(results, "RESULTS", tmp_path)
    parts = (figures.encoders, figures.little, figures.fair)
    names = [name for part in parts for name in part.TABLES]
    assert [figures.TABLES[name]() for name in names] == [""] * len(names)
    assert [row for part in parts for row in part.steps()] == list(figures.encoders.sentences()) == []
    assert figures.little.curves() == {}
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
        (tmp_path / f"{name}.json").write_text(json.dumps(facts), encoding="utf-8")
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


MEASURES = ("ece", "ece_25", "ks", "top_brier", "auroc", "nll")


def masks(count, errors):
    settings = {"dropout": 0.5, "dropout_samples": count}
    told = {str(seed): {"error": dict(error), "train_loss": {"15": 0.01}} for seed, error in enumerate(errors)}
    return {"settings": settings, "seeds": told}


def of_table(auroc, **codes):
    gaps = {column: [10.0, 12.0] for column in ("DPD", "DPD at matched rate", "EOD")}
    return {"scores": {"AUROC": [auroc, auroc + 2.0], **gaps}, "codes": {"AUC(s|z)": 0.5, **codes}, "seconds": 30.0}


FURTHER = {
    "ensloss": {
        "small": {
            "3v8": {
                "EnsLoss": {"accuracy": {"0": 98.0, "1": 99.0}, "rate": {"0": 0.01, "1": 0.01}},
                "BCE": {"accuracy": {"0": 97.0, "1": 97.0, "2": 90.0}, "rate": {"0": 0.1, "1": 0.03, "2": 0.1}},
            }
        },
        "images": {
            "runs": {
                "ConvNet": {
                    "plain": {
                        "bce": {"0": {"accuracy": [60.0, 70.0]}},
                        "ensloss": {"0": {"accuracy": [61.0, 72.0]}},
                    }
                }
            }
        },
    },
    "multi_sample_dropout": {
        "data": {
            "digits": {
                "looks": [15],
                "cost": {"1": 1.0, "8": 2.0},
                "rows": {
                    "p 0.5, M 1": masks(1, [{"15": 3.0, "30": 2.5}, {"15": 3.5, "30": 2.0}]),
                    "p 0.5, M 8": masks(8, [{"15": 2.0}, {"15": 2.5}]),
                },
            }
        }
    },
    "calibration": {
        "parts": {
            "networks": {
                "source": "cifar10: 10,000 training images",
                "seeds": {
                    "0": {
                        name: {"test images": {**dict.fromkeys(MEASURES, value), "accuracy": 60.0}}
                        for name, value in (("none", 12.0), ("ts", 3.0))
                    }
                },
            },
            "teachers-digits": {
                "seeds": {
                    str(seed): {
                        "student alone": {"student": 85.0, "teacher": None},
                        "KD": {"student": 90.0, "teacher": 97.0},
                        "KD, calibrated": {"student": 91.0 + seed, "teacher": 97.0},
                    }
                    for seed in (0, 1)
                }
            },
        }
    },
    "temperature": {
        "rows": 50_000,
        "classes": 100,
        "machine": {},
        "attar": {"seconds": 0.5, "temperature": 2.5},
        "scikit-learn": {"seconds": 1.0, "temperature": 2.5},
    },
    "dependence": {
        "parts": {
            "two groups": {
                "sizes": {"rows": 2048, "latents": 8, "groups": 2},
                "attar": {"seconds": 0.05, "mb": 20.0},
                "rival": {"seconds": 2.0, "mb": 1500.0},
                "ratio": 40.0,
            }
        }
    },
    "fair_tables": {
        "data": {
            "adult": {
                "source": "adult: 6,000 training rows",
                "rows": {
                    "β 0": {"seeds": {"0": of_table(84.0), "1": of_table(86.0)}},
                    "β 3": {"seeds": {"0": of_table(80.0), "1": of_table(81.0, collapsed="collapsed: ...")}},
                    "copula": {"seeds": {"0": of_table(75.0)}},
                    "β 10": {"seeds": {}},
                },
                "beside": {
                    "0": {
                        "6,000 real rows": {"AUROC": 90.0, "DPD": 17.0},
                        "threshold optimizer, 6,000 real rows": {"DPD": 1.0},
                        "constant, 6,000 real rows": {"AUROC": 50.0, "DPD": 0.0},
                    }
                },
            }
        }
    },
}
"""Small records of training on little data, calibration and tables, in the form of the scripts that make them."""


def test_records_of_little_data_and_tables_become_tables(figures, tmp_path, monkeypatch):
    import results

    for name, facts in FURTHER.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(facts), encoding="utf-8")
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    assert "| 3v8 | BCE | 94.7 ± 4.0 | +1.5 [-4.9, +7.9] | 0.03, 0.1 | 3 |" in figures.TABLES["losses"]()
    assert "| ConvNet | plain | bce | 70.0 | +2.0 | 1 |" in figures.TABLES["losses on images"]()
    assert figures.little.curves() == {"ConvNet, plain": {"bce": [[60.0, 70.0]], "ensloss": [[61.0, 72.0]]}}
    dropout = figures.TABLES["multi-sample dropout"]()
    assert "2.00 with 8 masks" in dropout
    assert "| p 0.5, M 8 | 2.2 ± 0.4 | 0.0100 | -1.0 [-1.0, -1.0] | +0.0 [-6.4, +6.4] |" in dropout
    calibrators = figures.TABLES["calibrators"]()
    assert "| none | 12.0 | 12.0 | 12.0 | 12.0 | 12.0 | 12 | 60.0 | +9.0 |  |" in calibrators
    assert "| KD, calibrated | 91.5 ± 0.7 | 97.0 ± 0.0 | +1.5 [-4.9, +7.9] |" in figures.TABLES["calibrated teachers"]()
    told = figures.TABLES["fair tables"]()
    assert "| β 3 (collapsed: 1 of 2) | 81.5 ± 0.7 | 11.0 ± 0.0 |" in told
    assert "| copula | 76.0 | 11.0 | 11.0 | 11.0 | 1.4 | -5.0 | 0.50 |  |  | 30 |" in told
    assert "| threshold optimizer, 6,000 real rows |  | 1.0 |" in told
    curves, rivals = figures.fair.points("adult")
    assert [(point.text, point.auroc) for point in curves[figures.fair.CURVE]] == [("0", 86.0), ("3", 81.5)]
    assert [point.label for point in rivals] == ["copula", "6,000 real rows"]
    assert list(figures.little.steps()) == [
        ("one temperature, 50,000 rows of 100 classes, rival scikit-learn", "1.00 s", "0.50 s", "2.0×")
    ]
    what = "V² of 2,048 rows, 8 latent dimensions, 2 groups, rival FairDisCo's loop"
    assert list(figures.fair.steps()) == [(what, "2.00 s, 1.5 GB", "50 ms, 20 MB", "40×")]


def test_figures_in_running_text_are_as_recorded(figures):
    pages = {path.name: " ".join(path.read_text(encoding="utf-8").split()) for path in figures.PAGES}
    missing = [f"{page}: {figure}" for page, figure in figures.sentences() if figure not in pages[page]]
    assert not missing


def test_the_picture_has_the_recorded_scores(figures):
    facts = figures.recorded("demo")
    drawn = (ROOT / "docs" / "demo.svg").read_text(encoding="utf-8")
    scores = [cell.score.number for cell in figures.cells_of(facts) if cell.ipc == 1]
    missing = [score for score in [*scores, figures.Score(**facts["full"]).number] if score not in drawn]
    assert not missing, "run docs/make_plots.py"


def test_the_demo_drops_rows_of_the_table_of_digits_and_has_no_others():
    """README's result is `make demo`'s; what it leaves out is listed in docs/numbers.md."""
    from attar.bench.rows import demo_rows, digits_rows

    mine, all_of_them = demo_rows(40), {row.label: row for row in digits_rows(120)}
    assert {row.label for row in mine} < set(all_of_them)
    learned = [row for row in mine if row.label in ("DM", "DataDAM")]
    assert [row.sets for row in learned] == [all_of_them[row.label].sets for row in learned] == [4, 4]
