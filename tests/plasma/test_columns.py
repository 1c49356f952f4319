"""Columns: how they are cut and placed, where they come from, who answers them, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import attar
import small
from attar.core.errors import InputError
from attar.core.machine import Engine
from attar.plasma.answers import AnsweredColumns, Asked, answered
from attar.plasma.column import Column, column_of
from attar.plasma.columns import BLOCKS, Columns, split
from attar.plasma.gridding import POINTS, THRESHOLD, regridded
from attar.plasma.slab import Slab
from attar.plasma.teachers import teacher_named
from attar.plasma.threads import RandomThreads, Threads

QUIET = Engine(device="cpu", quiet=True)


def made(**settings):
    return attar.simulate(AnsweredColumns(**{"count": 12, **settings}), RandomThreads(), engine=QUIET)


def thread(points=101, core=8e3, centre=0.0):
    """A thread between corona, smooth."""
    place = np.linspace(-3, 3, points)
    inside = 0.5 * (np.tanh((place - centre + 1) / 0.2) - np.tanh((place - centre - 1) / 0.2))
    density = 1e15 + 9.9e16 * inside
    return Column(1e6 * (place + 3), core * 1e17 / density, density, 5e3 * place)


# ----------------------------------------------------------------------------------------------------- cut and placed


@pytest.mark.parametrize("points", [3, 4, 50, 64, 400])
def test_a_column_is_put_on_as_many_points_whatever_it_had(points):
    place = np.linspace(0, 1, points)
    column = regridded(Column(2e6 * place, 1e4 - 2e3 * place, 1e16 * np.ones(points), 1e3 * place))
    assert len(column) == POINTS
    assert (np.diff(column.depth) > 0).all()
    assert column.depth[[0, -1]] == pytest.approx([0, 2e6])
    assert column.temperature[[0, -1]] == pytest.approx([1e4, 8e3])
    assert column.velocity == pytest.approx(1e3 * column.depth / 2e6, abs=1e-6)


def test_points_follow_the_transitions_and_hot_gas_is_left_out():
    column = regridded(thread(2001))
    assert column.temperature.max() == pytest.approx(THRESHOLD)
    assert column.depth[0] == 0
    steep = np.abs(np.diff(np.log10(column.temperature)))
    assert steep.max() < 3 * np.log10(THRESHOLD / 8e3) * 2 / POINTS
    assert np.diff(column.depth).min() < 0.2 * np.diff(column.depth).max()


def test_points_that_are_placed_are_placed_again_where_they_are():
    once = regridded(thread(2001))
    twice = regridded(once)
    for part in ("depth", "temperature", "hydrogen", "velocity"):
        np.testing.assert_allclose(getattr(twice, part), getattr(once, part), rtol=1e-3, atol=1.0)


def test_corona_between_two_threads_closes_up():
    place = np.linspace(0, 10, 2001)
    cool = ((place > 2) & (place < 3)) | ((place > 6) & (place < 8))
    column = Column(1e6 * place, np.where(cool, 8e3, 1e6), np.where(cool, 1e17, 1e15), np.where(place < 5, 1e3, -1e3))
    found = regridded(column)
    assert found.depth[-1] == pytest.approx(3e6, rel=0.02)
    assert (found.temperature <= THRESHOLD * (1 + 1e-9)).all()
    assert sorted(set(found.velocity.round()))[:1] + sorted(set(found.velocity.round()))[-1:] == [-1e3, 1e3]


def test_what_a_thread_shows_does_not_depend_on_the_points():
    fine = thread(4001)
    fine = fine.kept(fine.temperature < THRESHOLD)
    truth, found = Slab().answer(fine), Slab().answer(regridded(thread(401)))
    assert np.abs(found - truth).max() < 0.02 * truth.max()


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"temperature": np.full(5, 1e6)}, "a column has no gas cooler than 250000 K: its coolest point has 1e\\+06 K"),
        ({"depth": np.zeros(5)}, "the depth of a column must rise"),
        ({"hydrogen": np.array([1.0, 1, -2, 1, 1])}, "hydrogen of a column must be positive everywhere"),
        ({"velocity": np.array([1.0, 1, np.nan, 1, 1])}, "velocity of a column must be finite"),
    ],
)
def test_a_column_that_cannot_be_read_is_refused(changed, told):
    column = Column(np.arange(5.0), np.full(5, 8e3), np.full(5, 1e16), np.zeros(5))
    with pytest.raises(InputError, match=told):
        regridded(dataclasses.replace(column, **changed))


# ------------------------------------------------------------------------------------------------ where they come from


def test_random_threads_keep_to_their_ranges_and_to_the_seed():
    how = Threads(most_threads=2, core_temperatures=(7e3, 9e3), core_densities=(5e16, 6e16))
    one, again, other = (list(how.drawn(20, torch.Generator().manual_seed(seed))) for seed in (1, 1, 2))
    assert all((a.temperature == b.temperature).all() for a, b in zip(one, again, strict=True))
    assert not (one[0].temperature == other[0].temperature).all()
    assert all(6.99e3 < column.temperature.min() < 9.5e3 for column in one)
    assert all(column.hydrogen.max() < 6.01e16 for column in one)
    assert all(np.abs(column.velocity).max() < 2e4 + 2.5e3 for column in one)


def test_a_single_thread_has_one_pressure():
    column = Threads(most_threads=1).one(torch.Generator().manual_seed(3))
    assert np.ptp(column.temperature * column.hydrogen) < 1e-6 * (column.temperature * column.hydrogen).max()


def test_columns_of_a_run_are_its_lines_of_sight():
    run = small.run_of_plasma()
    columns = attar.simulate(AnsweredColumns(count=6, at_snapshots=(3,), teacher="none"), run, engine=QUIET)
    assert len(columns) == 6
    direct = regridded(column_of(run, 3, 1))
    assert columns.column(0).temperature == pytest.approx(direct.temperature)
    assert columns.answers is None
    with pytest.raises(InputError, match="snapshot 9 is not in this run; it has the snapshots 0 to 6"):
        attar.simulate(AnsweredColumns(at_snapshots=(9,)), run, engine=QUIET)


def test_columns_are_split_by_a_seed_of_their_own_and_those_of_a_run_in_stretches():
    assert split(100, 0.2, 0).sum() == 20
    assert (split(100, 0.2, 0) == split(100, 0.2, 0)).all()
    assert (split(100, 0.2, 0) != split(100, 0.2, 1)).any()
    held = split(400, 0.25, 0, BLOCKS)
    assert held.sum() == 100
    assert int(held.int().diff().abs().sum()) <= 2 * 5
    assert [int(split(2, share, 0).sum()) for share in (0.01, 0.99)] == [1, 1]


# ----------------------------------------------------------------------------------------------------- who answers them


def test_the_answers_are_those_of_the_teacher(tmp_path):
    columns = made()
    again = attar.open_artefact(attar.simulate(AnsweredColumns(count=12), "threads", out=tmp_path, engine=QUIET).folder)
    assert isinstance(again, Columns)
    assert again.fingerprint == columns.fingerprint
    answers = again.known
    for row in (0, 7):
        np.testing.assert_array_equal(answers.profiles[row].numpy(), Slab().answer(again.column(row)))
    assert answers.converged.all()
    assert answers.seconds > 0
    assert json.loads((tmp_path / "timing.json").read_text())["teacher"] == answers.seconds
    card = (tmp_path / "README.md").read_text()
    assert "Teacher: slab (LTE, n_e given: as many electrons as hydrogen nuclei)" in card
    assert "CPU seconds on one thread" in card


def test_columns_without_answers_are_answered_later_with_the_same_split(tmp_path):
    bare = attar.simulate(AnsweredColumns(count=12, teacher="none"), "threads", out=tmp_path / "bare", engine=QUIET)
    full = attar.simulate(AnsweredColumns(), tmp_path / "bare", engine=QUIET)
    assert bare.answers is None
    assert full.inputs == bare.inputs == made().inputs
    assert (full.known.profiles == made().known.profiles).all()


class Own:
    """A caller's own teacher, which does not converge everywhere."""

    name = "my code"
    wavelengths = np.array([500.0, 500.1])
    line = "Fe I"

    class StuckError(InputError):
        """It does not converge."""

    def answer(self, column):
        if column.temperature.min() > 9e3:
            raise self.StuckError("it does not converge.")
        return np.array([column.depth[-1], column.temperature.min()])


def test_a_code_of_the_callers_own_may_answer_and_what_does_not_converge_is_kept_and_marked():
    columns = made(count=30, teacher=Own())
    answers = columns.known
    hot = torch.tensor([columns.column(row).temperature.min() > 9e3 for row in range(30)])
    assert hot.any()
    assert (answers.converged == ~hot).all()
    assert (answers.profiles[hot] == 0).all()
    assert len(columns.train_rows) + len(columns.test_rows) == int((~hot).sum())
    assert f"{int(hot.sum())} of which did not converge" in str(columns)
    assert columns.origin.settings["teacher"] == "my code"


def test_answers_are_kept_in_the_cache_if_the_teacher_can_be_told_from_others(monkeypatch, tmp_path):
    from attar.core.runtime import Runtime

    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    bare = made(teacher="none")
    first = answered(bare, teacher_named("slab"), Runtime(QUIET))
    monkeypatch.setattr(Slab, "answer", lambda *given: pytest.fail("it was asked again"))
    again = answered(bare, teacher_named("slab"), Runtime(QUIET))
    assert (again.known.profiles == first.known.profiles).all()
    answered(bare, teacher_named(Own()), Runtime(QUIET))
    assert len(list(tmp_path.glob("networks/*"))) == 1
    assert Asked(bare, teacher_named("slab"), "").fingerprint != Asked(bare, teacher_named(Own()), "").fingerprint


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"teacher": "slabb"}, "there is no teacher 'slabb'.* Give slab, lightweaver, or an emulator's folder"),
        (
            {"teacher": 3},
            "the teacher is of type int. Give slab, lightweaver, or an object with wavelengths and answer",
        ),
        ({"threads": Threads(corona_temperature=2e5, core_temperatures=(1e5, 1.5e5))}, None),
    ],
)
def test_a_teacher_that_is_none_is_refused(settings, told):
    if told is None:
        assert len(made(**settings)) == 12
        return
    with pytest.raises(InputError, match=told):
        made(**settings)


def test_ranges_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="thread_widths is 10 to 5; give the smaller one first"):
        Threads(thread_widths=(10, 5))
    with pytest.raises(InputError, match="The corona must be hotter"):
        Threads(corona_temperature=1e4)


def test_data_that_are_no_columns_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"there is no folder 'thread'.* Give threads"):
        attar.simulate(AnsweredColumns(), "thread", engine=QUIET)
    with pytest.raises(InputError, match="columns are made of random threads or of a run, and this is"):
        attar.simulate(AnsweredColumns(), 7, engine=QUIET)
