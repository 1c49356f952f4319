"""Easy and hard classes of any data: chosen by a network, measured side by side, kept and gone on with."""

import json

import pytest
import torch

import attar
from attar.bench import comp_dd, tables
from attar.cli import main
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.images.complexity import ClassComplexity, Looking, class_complexity, select
from attar.images.networks.architecture import Architecture
from attar.images.protocols import PROTOCOLS, Protocol
from attar.images.trained import trained

ENGINE = Engine(device="cpu", compile="off", quiet=True)
SCORER = "convnet:width=4,norm=batch"


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    for name in ("quick", "ceiling"):
        monkeypatch.setitem(PROTOCOLS, name, Protocol(name=name, epochs=1))


def measure(out, **settings):
    given = {
        "methods": ("random", "dm:steps=2,real_batch=2,width=4"),
        "classes": 2,
        "ipc": (1,),
        "sets": 2,
        "networks": 1,
        "scorer": SCORER,
        "architecture": "convnet:width=4",
        "out": out,
    }
    comp_dd.CompDDTable(**{**given, **settings}).measure(ENGINE)
    return json.loads((out / "comp-dd.json").read_text(encoding="utf-8"))


def test_halves_are_the_classes_that_the_scorer_finds_easy_and_hard(tmp_path, digits, capsys):
    facts = measure(tmp_path, record=tmp_path / "kept.json")
    runtime = Runtime(ENGINE, 0)
    scorer = trained(digits, Architecture(width=4, norm="batch"), runtime, PROTOCOLS["ceiling"])
    scores = class_complexity(digits, scorer, runtime=runtime).by_class
    easy, hard = select(dict(enumerate(scores)), 2)
    assert (facts["easy"]["numbers"], facts["hard"]["numbers"]) == (list(easy), list(hard))
    assert list(facts["complexity"].values()) == pytest.approx(scores)
    assert facts["easy"]["complexity"] < facts["hard"]["complexity"]
    assert facts["looking"] == Looking(layer="blocks.1").to_json()
    assert json.loads((tmp_path / "kept.json").read_text(encoding="utf-8")) == facts
    text = capsys.readouterr().out
    assert "complexity %" in text
    assert "hard - easy" in text


def test_each_half_has_every_method_and_the_score_of_all_its_data(tmp_path):
    facts = measure(tmp_path)
    for name in ("easy", "hard"):
        assert [cell["label"] for cell in facts[name]["cells"]] == ["random", "dm:steps=2,real_batch=2,width=4"]
        assert all(len(cell["values"]) == 2 for cell in facts[name]["cells"])
        assert facts[name]["full"]["n"] == 3
        assert (tmp_path / name / "table.json").exists()


def test_a_finished_one_is_read(tmp_path, monkeypatch):
    first = measure(tmp_path)
    monkeypatch.setattr(tables, "train_and_test", lambda *a: pytest.fail("trained again"))
    assert measure(tmp_path) == first


def test_another_way_of_looking_is_looked_anew_and_the_same_is_not(tmp_path, digits, runtime, monkeypatch):
    def look(**settings):
        return comp_dd.measure(digits, SCORER, "ceiling", Looking(**settings), tmp_path, runtime)

    last, first = look(), look(layer="blocks.0")
    assert last[1]["complexity"] != first[1]["complexity"]
    monkeypatch.setattr(comp_dd, "class_complexity", lambda *a, **k: pytest.fail("looked again"))
    again, how = look()
    assert torch.equal(again.images, last[0].images)
    assert how == last[1]


def test_a_pool_is_chosen_by_name_and_a_network_by_its_folder(tmp_path, digits):
    pool = ("1", "3", "5", "7")
    (tmp_path / "net").mkdir()
    trained(digits, Architecture(width=4, norm="batch"), Runtime(ENGINE, 7), PROTOCOLS["quick"]).save(tmp_path / "net")
    facts = measure(tmp_path / "out", methods=("random",), pool=pool, scorer=str(tmp_path / "net"), ceiling="skip")
    assert sorted(facts["easy"]["numbers"] + facts["hard"]["numbers"]) == [1, 3, 5, 7]
    assert facts["easy"]["full"] is None


def test_published_categories_are_taken_by_their_lists(runtime):
    labels = torch.arange(1000)
    pixels = torch.zeros(1000, 8, 8, dtype=torch.uint8)
    source = attar.load(((pixels, labels), (pixels, labels)), statistics="measured")
    halves = comp_dd.listed(source, "music")
    assert [len(half.source.classes) for half in halves.values()] == [10, 9]
    assert halves["hard"].numbers[1] == 420
    assert [half.complexity for half in halves.values()] == [64.1, 68.7]


def test_the_tables_read_as_they_should(digits):
    measured = ClassComplexity(
        torch.tensor([0.25, 0.5, 1.0, 1.0]), torch.tensor([0, 0, 1, 2]), ("a", "b", "c"), Looking()
    )
    half = comp_dd.Half(digits.with_classes([1, 2]), (1, 2), 100.0)
    rows = comp_dd.complexity_table(measured, {"hard": half})
    assert list(rows.columns[0].cells) == ["b", "c", "a"]
    assert list(rows.columns[1].cells) == ["100.0", "100.0", "37.5"]
    assert list(rows.columns[3].cells) == ["1", "1", "0"]
    assert list(rows.columns[4].cells) == ["hard", "hard", ""]

    def facts(first, second, full):
        cell = {"label": "random", "ipc": 1, "values": ((first,), (second,)), "bytes": 1, "seconds": 0.0}
        score = {"value": full, "unit": "%", "better": "higher", "spread": 0.0, "n": 3}
        return {"cells": [cell], "full": score}

    grid = comp_dd.table({"easy": facts(60.0, 62.0, 80.0), "hard": {**facts(40.0, 42.0, 80.0), "full": None}})
    assert list(grid.columns[2].cells) == ["80.0 ± 0.0", "61.0 ± 1.4"]
    assert list(grid.columns[3].cells) == ["not trained", "41.0 ± 1.4"]
    assert list(grid.columns[4].cells)[1].startswith("-20.0 [")
    assert list(grid.columns[5].cells) == ["100.0", "76.2"]
    assert list(grid.columns[6].cells) == ["", ""]


@pytest.mark.parametrize(
    "settings, sentence",
    [
        (
            {"classes": 6},
            "count is 6, but there are 10 classes to choose easy and hard ones from. Give 12 classes or more",
        ),
        ({"pool": ("1", "ten")}, "unknown class 'ten'"),
        ({"category": "bird"}, "digits has 10 classes, but bird-easy is a subset of ImageNet. Give all 1,000"),
        ({"category": "birds"}, "unknown category of Comp-DD 'birds'; did you mean 'bird'?"),
        ({"scorer": "resnet-18"}, "unknown network 'resnet-18'; did you mean 'resnet18'?"),
        ({"methods": ()}, "--methods needs at least one method."),
        ({"sets": 0}, "sets is 0; it must be at least 1."),
        ({"methods": ("edf:refres=3",)}, "unknown setting of edf 'refres'; did you mean 'refresh'?"),
    ],
)
def test_what_cannot_be_is_refused_before_any_network_is_trained(settings, sentence, tmp_path, monkeypatch):
    monkeypatch.setattr(comp_dd, "trained", lambda *a: pytest.fail("trained"))
    with pytest.raises(InputError) as refusal:
        measure(tmp_path, **settings)
    assert sentence in str(refusal.value)


def test_the_command_takes_its_words(tmp_path, capsys):
    words = (
        "--methods random --classes 2 --ipc 1 --sets 1 --networks 1 --architecture mlp:width=4 --ceiling skip --quiet"
    )
    main(["bench", "comp-dd", *words.split(), "--scorer", SCORER, "--target", "label", "--out", str(tmp_path / "out")])
    assert "(complexity " in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "comp-dd.json").read_text(encoding="utf-8"))["looking"]["target"] == "label"
