"""The table runner: cells are kept, compared with random by sets, and chosen iterates never see the test set."""

import dataclasses
import json

import pytest
import torch

from attar.bench import tables
from attar.bench.tables import Cell, Plan, Row, choose, lines, measure, over
from attar.core.runtime import Engine
from attar.core.score import Score
from attar.images.condense.coresets import Random
from attar.images.condense.dm import DM
from attar.images.networks.architecture import Architecture
from attar.images.protocols import PROTOCOLS, Protocol
from attar.images.sources import held_out

SMALL = Architecture(width=8)
ENGINE = Engine(device="cpu", quiet=True)


@pytest.fixture
def plan(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "brief", Protocol(name="brief", epochs=2))
    monkeypatch.setattr(tables, "CHOICE", Protocol(name="choice", epochs=2))
    return Plan("digits", (1,), (), "brief", SMALL, "")


@pytest.fixture
def row():
    settings = {"steps": 4, "real_batch": 2, "architecture": SMALL}
    return Row("DM", lambda ipc: DM(ipc=ipc, **settings), sets=2, networks=1, chosen=True)


def test_a_cell_has_one_value_per_set_and_network(few_digits, plan, tmp_path):
    row = Row("random", lambda ipc: Random(ipc=ipc), sets=3, networks=2)
    (cell,) = measure(row, 1, few_digits, plan, tmp_path, ENGINE)
    assert [len(values) for values in cell.values] == [2, 2, 2]
    assert cell.score.n == 6


def test_a_measured_cell_is_not_measured_again(few_digits, plan, row, tmp_path, monkeypatch):
    first = measure(row, 1, few_digits, plan, tmp_path, ENGINE)
    monkeypatch.setattr(tables, "train_and_test", lambda *a: pytest.fail("trained again"))
    assert measure(row, 1, few_digits, plan, tmp_path, ENGINE) == first


def test_the_chosen_iterate_is_one_of_the_snapshots_chosen_without_the_test_set(
    few_digits, plan, row, tmp_path, monkeypatch
):
    last, chosen = measure(row, 1, few_digits, plan, tmp_path, ENGINE)
    assert (last.label, chosen.label) == ("DM", "DM, iterate chosen on held-out images")
    seen = []
    monkeypatch.setattr(tables.store, "remembered", lambda file, fresh: fresh())
    monkeypatch.setattr(tables, "train_and_test", lambda small, source, *rest: seen.append(source.test) or [1.0])
    assert choose(tmp_path / "dm-1-0", few_digits, plan, ENGINE).parent.name == "snapshots"
    assert all(torch.equal(split.labels, few_digits.train.labels[held_out(few_digits, 0)]) for split in seen)


def test_what_is_held_out_is_not_condensed(few_digits, plan, row, tmp_path):
    measure(row, 1, few_digits, plan, tmp_path, ENGINE)
    facts = json.loads((tmp_path / "dm-1-0" / "artefact.json").read_text())
    assert facts["origin"]["full_images"] == len(few_digits.train) - len(held_out(few_digits, 0))


def test_cells_are_compared_by_sets_and_single_sets_by_networks():
    random = Cell("random", 1, ((50.0, 52.0), (60.0, 62.0), (55.0, 57.0)), 1, 0.0)
    several = Cell("DM", 1, ((80.0, 90.0), (80.0, 90.0)), 1, 0.0)
    single = Cell("herding", 1, ((80.0, 90.0),), 1, 0.0)
    assert over(several, random).difference == pytest.approx(29.0)
    assert over(single, random).high - over(single, random).low > over(several, random).high - over(several, random).low


def test_the_table_has_published_figures_beside_measured_ones(few_digits):
    cells = [Cell("random", 1, ((14.0,), (15.0,)), 1, 0.0), Cell("DM", 1, ((25.0,), (26.0,)), 1, 0.0)]
    rows = [line.split(" │ ") for line in lines(cells, Score(80.0), 1.0, few_digits, "cifar10", 6) if "│" in line]
    assert [row[-1].strip() for row in rows] == ["published %", "84.8", "14.4 ± 2.0", "26.0 ± 0.8"]


def test_a_table_without_published_figures_has_no_column_for_them(few_digits):
    head = next(lines([], None, None, few_digits, "digits", 6))
    assert "seconds" in head and "published" not in head


def test_a_line_is_given_before_the_next_cell_is_measured(few_digits):
    """So that each row is on the screen as soon as it is there."""
    measured = []

    def cells():
        for label, values in (("random", ((50.0,), (52.0,))), ("DM", ((80.0,), (81.0,)))):
            measured.append(label)
            yield Cell(label, 1, values, 1, 0.0)

    shown = lines(cells(), Score(98.0), 1.0, few_digits, "digits", 6)
    first = next(line for line in shown if "random" in line and "over random" not in line)
    assert measured == ["random"] and "51.0 ± 1.4" in first
    assert "+29.5 [" in next(line for line in shown if "DM" in line)


def test_rows_go_by_what_networks_learn_with_random_images_first():
    def row(label, labels="hard"):
        return Row(label, lambda ipc: Random(ipc=ipc), sets=1, networks=1, labels=labels)

    plan = Plan("digits", (1, 10), (row("RDED", "soft"), row("DM"), row("random")), "quick", SMALL, "")
    assert [(row.label, ipc) for row, ipc in plan.grid][:4] == [("random", 1), ("DM", 1), ("RDED", 1), ("random", 10)]


def test_a_run_prints_every_row_and_keeps_it(plan, tmp_path, capsys):
    rows = (Row("random", lambda ipc: Random(ipc=ipc), sets=2, networks=1),)
    facts = tables.run(dataclasses.replace(plan, rows=rows), "digits", tmp_path, "skip", ENGINE)
    printed = capsys.readouterr().out
    assert "full data │  not trained" in printed and printed.count("random") == 2  # the heading, and the row
    assert json.loads((tmp_path / "table.json").read_text())["cells"] == json.loads(json.dumps(facts["cells"]))
