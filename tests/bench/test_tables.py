"""The table runner: cells are kept, compared with random by sets, and chosen iterates never see the test set."""

import json

import pytest
import torch

from attar.bench import tables
from attar.bench.tables import Cell, Plan, Row, choose, measure, over, table
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
    grid = table(cells, Score(80.0), 1.0, few_digits, "cifar10")
    published = list(grid.columns[-1].cells)
    assert published == ["84.8", "14.4 ± 2.0", "26.0 ± 0.8"]
