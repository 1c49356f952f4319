"""The table runner: cells are kept, compared with random by sets, and chosen iterates never see the test set."""

import dataclasses
import json

import pytest
import torch

from attar.bench import tables
from attar.bench.cells import FOOT, FOOT_PREPARED, FOOT_RATES, Cell, foot, lines, over
from attar.bench.rows import Row
from attar.bench.tables import Plan, choose, measure
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score
from attar.core.seeds import derived_seed
from attar.images.artefact import CondensedImages
from attar.images.condense.coresets import Herding, Random
from attar.images.condense.dm import DM
from attar.images.condense.mtt import MTT
from attar.images.experts import Experts
from attar.images.networks.architecture import Architecture
from attar.images.protocols import PROTOCOLS, Protocol
from attar.images.score import train_and_test
from attar.images.sources import held_out
from attar.images.trained import Auxiliary

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
    facts = json.loads((tmp_path / "dm-1-0" / "artefact.json").read_text(encoding="utf-8"))
    assert facts["origin"]["full_images"] == len(few_digits.train) - len(held_out(few_digits, 0))


def test_cells_are_compared_by_sets_and_single_sets_by_networks():
    random = Cell("random", 1, ((50.0, 52.0), (60.0, 62.0), (55.0, 57.0)), 1, 0.0)
    several = Cell("DM", 1, ((80.0, 90.0), (80.0, 90.0)), 1, 0.0)
    single = Cell("herding", 1, ((80.0, 90.0),), 1, 0.0)
    assert over(several, random).difference == pytest.approx(29.0)
    assert over(single, random).high - over(single, random).low > over(several, random).high - over(several, random).low


def trajectories(**settings):
    experts = Experts(experts=1, epochs=3, batch=64)
    brief = {"steps": 2, "student_steps": 2, "last_start": 2, "architecture": SMALL, "experts": experts}
    return Row("MTT", lambda ipc: MTT(ipc=ipc, **{**brief, **settings}), sets=2, networks=1)


def test_a_learned_step_size_is_compared_with_random_images_at_it_too(few_digits, plan, tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "brief", Protocol(name="brief", epochs=20, lr=0.1))
    random, row = Row("random", lambda ipc: Random(ipc=ipc), sets=3, networks=1), trajectories(student_lr=0.002)
    plan = dataclasses.replace(plan, rows=(random, row))
    (plain,), (cell,) = (measure(one, 1, few_digits, plan, tmp_path, ENGINE) for one in (random, row))
    assert len(cell.random) == 3 and plain.random == ()
    rates = [CondensedImages.load(tmp_path / f"mtt-1-{seed}").lr for seed in (0, 1)]
    for seed, values in enumerate(cell.random):
        small = dataclasses.replace(CondensedImages.load(tmp_path / f"random-1-{seed}"), lr=rates[seed % 2])
        machine = Runtime(ENGINE, derived_seed(seed, "evaluation"))
        assert list(values) == train_and_test(small, few_digits, SMALL, PROTOCOLS["brief"], 1, machine)
    monkeypatch.setattr(tables, "train_and_test", lambda *a: pytest.fail("trained again"))
    assert measure(row, 1, few_digits, plan, tmp_path, ENGINE) == [cell]
    assert Cell.from_json(json.loads(json.dumps(dataclasses.asdict(cell)))) == cell
    kept = sorted(file.name for file in (tmp_path / "mtt-1-0" / "run").glob("*-brief*-1*.json"))
    assert len(kept) == 3 and all("lr=0.0" in name for name in kept)


def test_without_random_images_or_with_adamw_there_is_no_second_rival(few_digits, plan, tmp_path, monkeypatch):
    random = Row("random", lambda ipc: Random(ipc=ipc), sets=1, networks=1)
    (alone,) = measure(trajectories(), 1, few_digits, plan, tmp_path, ENGINE)
    assert alone.random == ()
    adamw = Protocol(name="brief", epochs=2, optimizer="adamw", lr=0.001)
    monkeypatch.setitem(PROTOCOLS, "brief", adamw)
    (cell,) = measure(trajectories(), 1, few_digits, dataclasses.replace(plan, rows=(random,)), tmp_path, ENGINE)
    assert cell.random == ()


def test_the_better_of_two_step_sizes_is_the_rival():
    random = Cell("random", 1, ((50.0,), (54.0,)), 1, 0.0)
    learned = Cell("MTT", 1, ((80.0,), (82.0,)), 1, 0.0, random=((60.0,), (62.0,)))
    assert over(learned, random).difference == pytest.approx(20.0)
    worse = dataclasses.replace(learned, random=((10.0,), (12.0,)))
    assert over(worse, random).difference == pytest.approx(29.0)
    assert list(foot([learned])) == [FOOT, FOOT_RATES] and list(foot([random])) == [FOOT]


def test_networks_that_a_method_needs_are_counted_with_every_cell(few_digits, plan, tmp_path):
    observer = Auxiliary(architecture=SMALL, protocol=Protocol(name="brief", epochs=3))
    row = Row("herding", lambda ipc: Herding(ipc=ipc, observer=observer), sets=1, networks=1)
    cells = [measure(row, ipc, few_digits, plan, tmp_path, ENGINE)[0] for ipc in (1, 2)]
    assert cells[0].prepared == cells[1].prepared > 0
    assert all(cell.seconds >= cell.prepared for cell in cells)
    assert Cell("herding", 1, ((1.0,),), 1, 14.2, prepared=14.0).time == "0.2 + 14.0"
    assert Cell("random", 1, ((1.0,),), 1, 0.2).time == "0.2"
    assert list(foot(cells)) == [FOOT, FOOT_PREPARED]


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
    assert json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))["cells"] == json.loads(
        json.dumps(facts["cells"])
    )
