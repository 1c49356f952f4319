"""Emulators: what they learn, from which columns, how they are measured, and what they refuse."""

import copy
import functools

import numpy as np
import pytest
import torch
from torch import nn

import attar
import small
from attar.cli import main
from attar.core.errors import InputError
from attar.core.machine import Engine
from attar.core.pictures import can_draw
from attar.core.runtime import Runtime
from attar.core.selection import k_center
from attar.plasma.answers import AnsweredColumns
from attar.plasma.column import Column
from attar.plasma.emulator import LineEmulator, flat, mirrored, peak_weights
from attar.plasma.features import Scaling, channels_of, step_of
from attar.plasma.network import network_named
from attar.plasma.profile_errors import integrated_error, rms_over_peak
from attar.plasma.score import ERROR, INTEGRATED, MEAN, MOVING, NEAREST, RIDGE, SECONDS, rivals_of, scores_of
from attar.plasma.slab import Slab
from attar.plasma.threads import RandomThreads, Threads

QUIET = Engine(device="cpu", quiet=True)
FEW = {"steps": 300, "student": "cnn:width=24", "watch": 50}
SIMPLE = Threads(most_threads=1, core_densities=(2e16, 4e16), pctr_widths=(2e4, 4e4), thread_widths=(5e5, 2e6))


@functools.cache
def columns():
    """Columns of single threads, which a small network learns in seconds."""
    return attar.simulate(AnsweredColumns(count=240, threads=SIMPLE), RandomThreads(), engine=QUIET)


@functools.cache
def emulator():
    return attar.distill(columns(), LineEmulator(**FEW), engine=QUIET)


def error_of(values):
    test = columns().subset(columns().test_rows)
    profiles = emulator().passed(values).numpy()
    return scores_of(profiles, test)[ERROR]


# ---------------------------------------------------------------------------------------------------------- its parts


def test_channels_are_those_of_the_column_and_the_shares_add_up_to_the_depth():
    values = columns().values[:3]
    channels = channels_of(values)
    assert torch.equal(channels[:, 0], values[:, 1].log10())
    assert torch.equal(channels[:, 2], values[:, 3])
    torch.testing.assert_close((10 ** channels[:, 3]).sum(dim=1), values[:, 0, -1], rtol=1e-6, atol=0)


def test_profiles_come_back_from_what_the_network_learns_above_the_floor():
    values, profiles = columns().values, columns().known.profiles
    scaling = Scaling.of(values, profiles, 1e-3)
    back = scaling.profiles(scaling.targets(profiles, values), values)
    torch.testing.assert_close(back, profiles.clamp_min(scaling.floor), rtol=1e-5, atol=0)
    inputs = scaling.inputs(values)
    assert inputs.mean(dim=(0, 2)).abs().max() < 1e-4
    assert (inputs.std(dim=(0, 2)) - 1).abs().max() < 1e-3
    assert scaling.outside(values).max() == 0
    step = step_of(columns().known.wavelengths)
    assert step == pytest.approx(2.99792458e8 * 0.004 / 393.4777134, rel=1e-6)
    moving = Scaling.of(values, profiles, 1e-3, step)
    assert moving.centre[2] == 0
    torch.testing.assert_close(moving.mean, moving.mean.flip(0))
    assert peak_weights(profiles).square().mean() == pytest.approx(1, rel=1e-4)


def test_profiles_move_with_the_gas_and_are_mirrored_with_its_velocity():
    values = columns().values[:6].clone()
    step = step_of(columns().known.wavelengths)
    one = Scaling.of(values, columns().known.profiles[:6], 1e-3, step)
    faster, other = values.clone(), values.clone()
    faster[:, 3] += 3 * step
    other[:, 3] *= -1
    torch.testing.assert_close(one.inputs(faster), one.inputs(values), rtol=1e-4, atol=1e-4)
    profiles = torch.rand(6, 41, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    moved = one.profiles(one.targets(profiles, values), faster)
    torch.testing.assert_close(moved[:, 5:-10], profiles[:, 8:-7], rtol=1e-5, atol=0)
    sides = torch.tensor([True, False] * 3)
    inputs, targets = mirrored(sides, one.inputs(values), one.targets(profiles, values))
    torch.testing.assert_close(inputs[sides], one.inputs(other)[sides], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(inputs[~sides], one.inputs(values)[~sides])
    torch.testing.assert_close(targets[sides], one.targets(profiles.flip(1), other)[sides], rtol=1e-4, atol=1e-4)


def test_wavelengths_that_are_not_equally_spaced_do_not_move():
    assert step_of(torch.tensor([1.0, 2, 4])) == 0
    assert step_of(torch.tensor([500.0, 500.1])) == 0
    assert step_of(torch.tensor([500.0])) == 0


def test_the_teacher_keeps_to_what_the_student_relies_on():
    column, teacher = columns().column(0), Slab()
    step = step_of(columns().known.wavelengths)
    faster = Column(column.depth, column.temperature, column.hydrogen, column.velocity + 2 * step)
    np.testing.assert_allclose(teacher.answer(faster)[:-2], teacher.answer(column)[2:], rtol=1e-6)


def test_errors_are_those_of_their_definition():
    truth = np.array([[1.0, 4.0, 1.0]])
    assert rms_over_peak(truth + 0.4, truth) == pytest.approx(0.1)
    assert integrated_error(1.5 * truth, truth, np.array([0.0, 1.0, 3.0])) == pytest.approx(0.5)


def test_the_usual_network_has_65_000_parameters_and_sees_the_order_of_points():
    network = network_named("cnn", 64, 41, torch.Generator().manual_seed(0)).eval()
    assert 60_000 < sum(one.numel() for one in network.parameters()) < 70_000
    given = torch.randn(2, 4, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert network(given).shape == (2, 41)
        assert (network(given) - network(given.flip(2))).abs().max() > 1e-3


# -------------------------------------------------------------------------------------------------------- it learns


def test_it_is_better_than_its_rivals_on_held_out_columns_of_its_kind():
    (row,) = attar.evaluate(emulator(), columns(), engine=QUIET).rows
    cells = {cell.column: cell for cell in row.cells}
    assert list(cells) == [ERROR, INTEGRATED, SECONDS]
    beside = {one.label: one.score.value for one in cells[ERROR].beside}
    assert list(beside) == [MEAN, RIDGE, NEAREST, f"{RIDGE}{MOVING}", f"{NEAREST}{MOVING}"]
    assert cells[ERROR].score.value < 0.8 * min(beside[name] for name in (MEAN, RIDGE, NEAREST))
    assert cells[ERROR].score.better == "lower"
    assert cells[ERROR].further["9 of 10 below"].score.value >= cells[ERROR].score.value
    (teacher,) = cells[SECONDS].beside
    assert teacher.label == "the teacher, slab"
    assert "48 columns" in cells[ERROR].note


def test_it_is_worse_where_depth_is_permuted_or_the_gas_is_brought_to_rest():
    test = columns().subset(columns().test_rows)
    plain = error_of(test.values)
    mixed = test.values.clone()
    order = torch.randperm(test.points, generator=torch.Generator().manual_seed(0))
    mixed[:, 1:] = mixed[:, 1:, order]
    still = test.values.clone()
    still[:, 3] = 0
    assert error_of(mixed) > 1.3 * plain
    assert error_of(still) > 1.3 * plain


def test_a_killed_look_at_the_tenth_keeps_the_best_weights():
    short = attar.distill(columns(), LineEmulator(**{**FEW, "steps": 60, "watch": 20, "lr": 1e-3}), engine=QUIET)
    runtime = Runtime(QUIET)
    method = LineEmulator(**{**FEW, "steps": 60, "watch": 20, "lr": 1e-3})
    lessons = method.prepared(columns(), attar_task(), runtime)
    state = method.resolve(lessons, runtime).build(lessons, runtime)
    errors = []
    for _ in range(60):
        method.step(state, runtime)
        errors.append(state.error)
    assert errors[:19] == [None] * 19
    assert state.least == min(errors[19:])
    assert len(set(errors[19:])) == 3
    made = method.result(state, runtime)
    assert all(torch.equal(a, b) for a, b in zip(made.learned.values(), short.learned.values(), strict=True))
    assert len(state.tenth) == round(0.1 * 192)
    assert not set(state.tenth.tolist()) & set(state.train.tolist())


def attar_task(**given):
    from attar.plasma.tasks import Distill

    return Distill(**given)


@pytest.mark.parametrize("chosen_by", ["random", "k-center", "herding"])
def test_a_subset_is_chosen_from_the_training_columns(chosen_by):
    method = LineEmulator(subset=20, chosen_by=chosen_by)
    rows = method.chosen(columns(), Runtime(QUIET))
    assert len(rows) == len(set(rows.tolist())) == 20
    assert set(rows.tolist()) <= set(columns().train_rows.tolist())
    again = method.chosen(columns(), Runtime(QUIET, seed=1))
    assert torch.equal(rows, again) == (chosen_by != "random")
    if chosen_by == "k-center":
        train = columns().train_rows
        assert set(rows.tolist()) == set(train[k_center(flat(columns().values[train]), 20)].tolist())


def test_the_teacher_answers_only_what_was_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    bare = attar.simulate(AnsweredColumns(count=40, teacher="none"), RandomThreads(), engine=QUIET)
    asked, real = [], Slab.answer

    def answer(self, column):
        asked.append(column)
        return real(self, column)

    monkeypatch.setattr(Slab, "answer", answer)
    made = attar.distill(bare, LineEmulator(subset=8, steps=4, student="cnn:width=4"), engine=QUIET)
    assert len(asked) == 8
    attar.evaluate(made, bare, engine=QUIET)
    assert len(asked) == 8 + 8  # the held-out ones; those that rivals learn from lie in the cache


class Flat(nn.Module):
    """A student of the caller's own."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4 * 64, 41)

    def forward(self, columns):
        return self.layer(columns.flatten(1))


def test_a_student_of_the_callers_own(tmp_path):
    mine = Flat()
    before = copy.deepcopy(mine.state_dict())
    made = attar.distill(columns(), LineEmulator(steps=5), student=mine, out=tmp_path, engine=QUIET)
    assert all(torch.equal(before[name], value) for name, value in mine.state_dict().items())
    assert isinstance(made.network, Flat)
    with pytest.raises(InputError, match=r"is a module of its maker's own\. Open it in Python, by .*build="):
        attar.open_artefact(tmp_path)
    again = type(made).load(tmp_path, build=Flat)
    test = columns().subset(columns().test_rows)
    np.testing.assert_array_equal(again.predict(test, outside="allow"), made.predict(test, outside="allow"))
    with pytest.raises(InputError, match=r"of two columns the student gives \[2, 4, 64\]; it must give \[2, 41\]"):
        attar.distill(columns(), LineEmulator(steps=5), student=nn.Identity(), engine=QUIET)
    with pytest.raises(InputError, match="the student is a function"):
        attar.distill(columns(), LineEmulator(steps=5), student=lambda x: x, engine=QUIET)


# ------------------------------------------------------------------------------------------------------- it is used


def test_it_takes_columns_on_any_number_of_points():
    method = AnsweredColumns(threads=SIMPLE)
    fine = method.threads.one(torch.Generator().manual_seed(5))
    found = emulator().predict([fine, columns().column(0)], outside="allow")
    assert found.shape == (2, 41)
    (alone,) = emulator().predict(fine, outside="allow")
    np.testing.assert_allclose(found[0], alone, rtol=1e-4)
    np.testing.assert_allclose(found[1], emulator().predict(columns(), outside="allow")[0], rtol=1e-4)
    assert emulator().answer(fine) == pytest.approx(alone)


def test_what_lies_outside_is_refused_or_told():
    column = columns().column(0)
    fast = Column(column.depth, column.temperature, column.hydrogen, column.velocity + 1e5)
    assert emulator().outside(column).max() == 0
    low, high = emulator().ranges["velocity"]
    beyond = emulator().outside([column, fast])[1, 2]
    assert beyond == pytest.approx((fast.velocity.max() - high) / (high - low))
    with pytest.raises(InputError, match=r"1 of 2 columns reach beyond .* most by the velocity: by .* of its range"):
        emulator().predict([column, fast])
    with pytest.warns(UserWarning, match="1 of 2 columns reach beyond"):
        found = emulator().predict([column, fast], outside="tell")
    assert np.isfinite(found).all()
    with pytest.raises(InputError, match="outside is 'ask'; give refuse, tell or allow"):
        emulator().predict(column, outside="ask")
    with pytest.raises(InputError, match="there is no column to answer"):
        emulator().predict([])


def test_it_is_saved_with_units_ranges_and_what_it_took(tmp_path):
    made = attar.distill(columns(), LineEmulator(steps=4, student="cnn:width=4"), out=tmp_path, engine=QUIET)
    assert made.seconds["teacher"] > 0
    assert made.seconds["student"] > 0
    again = attar.open_artefact(tmp_path)
    assert again.seconds == made.seconds
    test = columns().subset(columns().test_rows)
    np.testing.assert_array_equal(again.predict(test, outside="allow"), made.predict(test, outside="allow"))
    card = (tmp_path / "README.md").read_text()
    for told in ("n_e given: as many electrons as hydrogen nuclei", "velocity towards the observer in m/s"):
        assert told in card
    assert f"student {made.seconds['student']:.3g} s" in card


def test_an_emulator_may_be_a_teacher(tmp_path):
    attar.distill(columns(), LineEmulator(steps=4, student="cnn:width=4"), out=tmp_path, engine=QUIET)
    answered = attar.simulate(AnsweredColumns(count=6, teacher=str(tmp_path)), RandomThreads(), engine=QUIET)
    assert answered.known.teacher == "emulator"
    assert answered.known.note.startswith("an emulator of slab (LTE")


# --------------------------------------------------------------------------------------------------- it is measured


def test_the_command_makes_it_measures_it_and_leaves_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    main(["simulate", "columns", "--count", "40", "--out", "columns", "--device", "cpu", "--quiet"])
    train = ["--steps", "4", "--student", "cnn:width=4", "--device", "cpu", "--quiet"]
    main(["distill", "emulator", "--data", "columns", "--out", "made", *train])
    assert "score:   attar evaluate made" in capsys.readouterr().out
    main(["evaluate", "made", "--device", "cpu", "--quiet"])
    told = capsys.readouterr().out
    for word in (ERROR, INTEGRATED, MEAN, RIDGE, NEAREST, "the teacher, slab"):
        assert word in told
    assert "rms/peak" in (tmp_path / "made" / "README.md").read_text()
    pictures = {path.name for path in (tmp_path / "made" / "evaluation").glob("*")} if can_draw() else set()
    assert pictures == ({"profiles.png", "errors.png"} if can_draw() else set())
    main(["simulate", "columns", "--count", "10", "--seed", "4", "--out", "others", "--device", "cpu", "--quiet"])
    capsys.readouterr()
    main(["evaluate", "made", "--data", "others", "--device", "cpu", "--quiet"])
    told = capsys.readouterr().out
    assert "median of 10 columns" in told
    assert RIDGE in told, "rivals learn from the columns that the emulator names"


def test_rivals_find_what_is_easy():
    train, test = (columns().subset(rows) for rows in (columns().train_rows, columns().test_rows))
    found = rivals_of(train, train, 1e-3)
    assert (found[NEAREST] == train.known.profiles.numpy()).all()
    scores = {name: scores_of(profiles, test)[ERROR] for name, profiles in rivals_of(train, test, 1e-3).items()}
    assert scores[RIDGE] < scores[MEAN]
    assert scores[NEAREST] < scores[MEAN]


@pytest.mark.parametrize(
    "data, settings, told",
    [
        ("run", {}, "an emulator takes columns, and this is a run of kelvin-helmholtz"),
        ("columns", {"subset": 500}, "threads has 192 training columns that can be used, but subset is 500"),
        ("columns", {"student": "mlp"}, "unknown student 'mlp'. Known: cnn"),
        ("columns", {"student": "cnn:width=wide"}, "width of the student is 'wide'; give a whole number"),
        ("columns", {"student": "cnn:heads=2"}, "unknown setting of Convolutions 'heads'"),
    ],
)
def test_what_it_cannot_learn_from_is_refused(data, settings, told):
    source = small.run_of_plasma() if data == "run" else columns()
    with pytest.raises(InputError, match=told):
        attar.distill(source, LineEmulator(**{"steps": 2, **settings}), engine=QUIET)


def test_another_teacher_is_refused():
    with pytest.raises(InputError, match="the columns of threads have profiles by slab, not by lightweaver"):
        attar.distill(columns(), LineEmulator(steps=2), teacher="lightweaver", engine=QUIET)
    with pytest.raises(InputError, match="have no profiles, and teacher is none"):
        bare = attar.simulate(AnsweredColumns(count=6, teacher="none"), RandomThreads(), engine=QUIET)
        attar.distill(bare, LineEmulator(steps=2), teacher="none", engine=QUIET)
    with pytest.raises(InputError, match="is not measured again"):
        attar.evaluate(columns(), columns(), engine=QUIET)
