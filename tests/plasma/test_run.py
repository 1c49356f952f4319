"""A simulated run as an artefact: made, resumed, opened, shown, and told in units; and its published settings."""

import dataclasses
import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import attar
from attar.cli import main
from attar.core.errors import InputError
from attar.core.pictures import can_draw
from attar.core.runtime import Engine, Runtime
from attar.core.state import pack
from attar.plasma import Units
from attar.plasma.kelvin_helmholtz import KelvinHelmholtz
from attar.plasma.maps import maps, moment
from attar.plasma.pictures import preview, sides
from attar.plasma.plots import TITLES, drawn, three
from attar.plasma.series import COLUMNS, outcome, started
from attar.plasma.snapshots import Snapshots
from attar.plasma.states import fast_speed, primitive
from promises import dying, files_of

ENGINE = Engine(device="cpu", quiet=True)
EVERY_STEP = Engine(device="cpu", quiet=True, checkpoint_seconds=0)
SMALL = KelvinHelmholtz(cells=(16, 12), end=1.5, outputs=5, solver="numpy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("run") / "made"
    attar.simulate(SMALL, out=place, engine=ENGINE)
    return place


@pytest.fixture
def undrawn(monkeypatch):
    """No plots, which take longer than so small a run."""
    monkeypatch.setattr("attar.plasma.artefact.drawn", lambda run: {})


@pytest.fixture
def run(folder):
    return attar.open_artefact(folder)


def resolved(**settings):
    method = dataclasses.replace(SMALL, **settings)
    return method.resolve(method.prepared(None, None, Runtime(ENGINE)), Runtime(ENGINE))


#  the simulation


def test_the_start_is_what_the_settings_say():
    made = dataclasses.replace(SMALL, noise_speed=0.01, density_ratio=100.0, plasma_beta=0.05)
    density, u, v, pressure, field = primitive(made.initial(torch.Generator().manual_seed(0))).numpy()
    assert density[0, 0] == pytest.approx(1) and density[-1, 0] == pytest.approx(100)
    assert u[0, 0] - u[-1, 0] == pytest.approx(0.2)
    assert np.abs(pressure - 0.6).max() < 1e-12  # a difference of the energy and the field's, which is 20 × larger
    assert field[0, 0] ** 2 / 2 * 0.05 == pytest.approx(0.6)
    assert 0.005 < np.abs(v).max() <= 0.01


def test_the_layer_of_the_frame_of_momentum_has_none_where_it_is_sharp():
    u = primitive(SMALL.initial(torch.Generator()))
    corona, thread = u[:, 0, 0], u[:, -1, 0]
    assert float(corona[0] * corona[1] + thread[0] * thread[1]) == pytest.approx(0, abs=1e-15)
    moving = dataclasses.replace(SMALL, frame="corona", shear=0.3)
    u = primitive(moving.initial(torch.Generator()))[1]
    assert (float(u[0, 0]), float(u[-1, 0])) == (pytest.approx(0), pytest.approx(0.3))


def test_waves_start_it_in_place_of_noise():
    made = dataclasses.replace(SMALL, cells=(64, 64), waves=3, noise_speed=0.02)
    v = primitive(made.initial(torch.Generator()))[2].numpy()
    row = v[int(1.5 * 32)]  # the first row above the layer
    assert np.abs(np.fft.rfft(row)).argmax() == 3
    assert row.max() == pytest.approx(0.02 * math.exp(-3 * math.pi / 64), rel=0.02)
    assert np.abs(v[0]).max() < 1e-6


def test_the_steps_that_are_foretold_are_about_those_that_are_taken():
    for settings in ({}, {"density_ratio": 0.1}, {"plasma_beta": 1e12, "shear": 0.5}, {"cells": (12, 40)}):
        method = resolved(radiation="off", end=0.5, **settings)
        made = attar.simulate(method, engine=ENGINE)
        taken = made.measured("steps")[-1] - method.total_steps / 2  # a part ends with a shortened step
        assert taken == pytest.approx(method.expected_steps, rel=0.15)
    states = primitive(SMALL.initial(torch.Generator()))
    assert SMALL.expected_steps == pytest.approx(
        SMALL.end * (float(fast_speed(states).max()) + SMALL.speeds[0]) / SMALL.grid.dx / SMALL.cfl
    )


def test_parts_are_many_enough_for_curves_and_no_shorter_than_a_few_steps():
    usual = resolved(cells=(64, 64), end=20.0, outputs=20)
    assert usual.total_steps == 200
    assert resolved(end=1.5, outputs=5).expected_steps / resolved(end=1.5, outputs=5).total_steps >= 8
    large = resolved(cells=(800, 800), end=70.0, outputs=70)
    assert large.expected_steps * 640_000 / large.total_steps <= 1.5e7
    assert resolved(cells=(16, 12), end=1e5, outputs=5).total_steps <= 100_000


def test_mass_and_energy_are_accounted_for(run):
    whole = run.measured("thermal") + run.measured("kinetic") + run.measured("magnetic") + run.measured("radiated")
    assert np.abs(whole / whole[0] - 1).max() < 1e-13
    assert np.abs(run.measured("mass") / run.measured("mass")[0] - 1).max() < 1e-13
    assert run.measured("radiated")[-1] > 0 and (np.diff(run.measured("radiated")) >= 0).all()


def test_it_needs_no_extra_and_shows_the_light_that_mixing_makes(tmp_path, undrawn):
    """The default demonstration, with fewer cells and an earlier end."""
    method = KelvinHelmholtz(cells=(24, 24), end=5.0, outputs=4, solver="numpy")
    made = attar.simulate(method, out=tmp_path, engine=ENGINE)
    adiabatic = attar.simulate(dataclasses.replace(method, radiation="off"), engine=ENGINE)
    radiated, heat = made.measured("radiated"), adiabatic.measured("thermal")
    settled = started(made.measured("time"))
    assert 0.005 < (radiated[-1] - radiated[settled]) / heat[0] < 0.2
    assert radiated[-1] - radiated[settled] > 5 * (heat[-1] - heat[settled]) > 0
    assert made.measured("line").max() > 100 * made.measured("line")[0]
    assert not adiabatic.measured("radiated").any() and "no cooling" in str(adiabatic)
    assert (made.temperature(-1) > 5e3).all()
    assert int(made.measured("raised")[-1]) == 0


#  a run in a folder


def test_a_snapshot_is_written_once_and_no_checkpoint_holds_it(tmp_path, undrawn):
    with dying(SMALL, 8):
        attar.simulate(SMALL, out=tmp_path, engine=EVERY_STEP)
    written = sorted(path.name for path in (tmp_path / "snapshots").iterdir())
    assert written == ["00000.safetensors", "00001.safetensors", "00002.safetensors"]
    before = {name: (tmp_path / "snapshots" / name).stat().st_mtime_ns for name in written}
    checkpoint = (tmp_path / "run" / "checkpoint.safetensors").stat().st_size
    cells = SMALL.grid.rows * SMALL.grid.columns
    assert checkpoint < 8 * 6 * cells + 8 * len(COLUMNS) * 40 + 8000
    attar.simulate(SMALL, out=tmp_path, engine=EVERY_STEP)
    after = {name: (tmp_path / "snapshots" / name).stat().st_mtime_ns for name in written}
    assert after["00001.safetensors"] == before["00001.safetensors"]


def test_killed_anywhere_and_resumed_it_ends_in_the_same_bytes(folder, tmp_path):
    for step in (2, 5, 3):
        with dying(SMALL, step):
            attar.simulate(SMALL, out=tmp_path / "again", engine=EVERY_STEP)
    attar.simulate(SMALL, out=tmp_path / "again", engine=ENGINE)
    assert files_of(tmp_path / "again") == files_of(folder)
    curves = [(place / "run" / "metrics.jsonl").read_text() for place in (folder, tmp_path / "again")]
    assert curves[0] == curves[1]
    assert set(json.loads(curves[0].splitlines()[-1])) >= {"time", "thermal", "kinetic", "radiated", "line"}


def test_with_numba_it_ends_in_the_same_bytes_too(tmp_path, undrawn):
    pytest.importorskip("numba", reason="numba is not installed: pip install '.[plasma]'")
    method = dataclasses.replace(SMALL, solver="numba")
    attar.simulate(method, out=tmp_path / "whole", engine=ENGINE)
    with dying(method, 7):
        attar.simulate(method, out=tmp_path / "again", engine=EVERY_STEP)
    attar.simulate(method, out=tmp_path / "again", engine=ENGINE)
    assert files_of(tmp_path / "again") == files_of(tmp_path / "whole")


def test_in_memory_and_on_disk_are_one(folder, run):
    held = attar.simulate(SMALL, engine=ENGINE)
    assert held.fingerprint == run.fingerprint
    assert torch.equal(held.series, run.series)
    assert all(torch.equal(one, other) for one, other in zip(held.snapshots, run.snapshots, strict=True))


def test_snapshots_are_read_like_one_tensor(run, folder):
    states = torch.stack(list(run.snapshots))
    assert run.snapshots.shape == tuple(states.shape) == (6, 5, 12, 16)
    assert torch.equal(run.snapshots[-1], states[5]) and torch.equal(run.snapshots[2, 0], states[2, 0])
    assert torch.equal(run.snapshots[1:3][1], states[2])
    assert torch.equal(run.snapshots[:, 0], states[:, 0]) and torch.equal(run.snapshots[2:, 1, 3], states[2:, 1, 3])
    assert run.bytes == states.numel() * 4
    with pytest.raises(IndexError):
        run.snapshots[6]
    again = dataclasses.replace(run, snapshots=Snapshots(list(states)))
    assert again.fingerprint == run.fingerprint


def test_what_is_left_of_an_earlier_beginning_does_not_stay(tmp_path, undrawn):
    with dying(SMALL, 1):
        attar.simulate(dataclasses.replace(SMALL, outputs=6), out=tmp_path, engine=ENGINE)
    (tmp_path / "snapshots" / "00009.safetensors").write_bytes(b"old")
    attar.simulate(SMALL, out=tmp_path, engine=ENGINE)
    assert len(list((tmp_path / "snapshots").iterdir())) == SMALL.outputs + 1


def test_a_picture_is_renewed_at_checkpoints(tmp_path, undrawn):
    with dying(SMALL, 3):
        attar.simulate(SMALL, out=tmp_path, engine=EVERY_STEP)
    early = (tmp_path / "preview.png").read_bytes()
    attar.simulate(SMALL, out=tmp_path, engine=EVERY_STEP)
    assert (tmp_path / "preview.png").read_bytes() != early


def test_a_checkpoint_has_no_place_for_snapshots():
    runtime = Runtime(ENGINE)
    method = resolved()
    state = method.build(method.prepared(None, None, runtime), runtime)
    tensors, plain = pack(state)
    assert {name.removeprefix("state/") for name in tensors} == {"fluid/conserved", "fluid/radiated", "series"}
    assert "state/fluid/steps" in plain


#  what is said and shown


def test_units_and_what_it_will_take_are_said_before_it_starts(tmp_path, undrawn):
    said = []
    engine = Engine(device="cpu")
    attar.simulate(SMALL, out=tmp_path, engine=engine, say=said.append)
    text = "\n".join(said)
    for words in ("length L_0 1.7", "time L_0/c_s0 10.", "cooling time τ 100", "m⁻³", "192 cells · about"):
        assert words in text
    assert "time steps · about" in text and "by numpy" in text and "6 snapshots" in text and "on disk" in text


def test_the_card_and_attar_data_tell_units_and_what_came_of_it(folder, run, capsys):
    card = (folder / "README.md").read_text()
    main(["data", str(folder)])
    printed = capsys.readouterr().out
    for text in (card, printed):
        for words in ("length L_0", "cooling time τ", "radiated", "kinetic energy", "not accounted for", "16×12"):
            assert words in text
    assert "preview.png" in card and "mirror image" in card
    assert "attar simulate kelvin-helmholtz" in card


def test_the_preview_is_true_to_the_domain():
    assert sides(2.0, 2.0) == (320, 320)
    assert sides(6.0, 3.0) == (320, 160)
    assert sides(1.0, 1000.0)[0] >= 40


def test_the_preview_has_three_maps_of_one_size(run):
    image = Image.open(io.BytesIO(preview(run)))
    assert image.width > 3 * 320 and 320 < image.height < 500
    colours = {colour for _, colour in image.convert("RGB").getcolors(100_000)}
    assert len(colours) > 50


def test_maps_are_in_si(run):
    heat, density, losses = maps(run, -1)
    assert heat.ends[1] == pytest.approx(6, abs=0.2) and density.ends[1] == pytest.approx(17, abs=0.1)
    peak = run.losses.peak * 1e-13 * (10**density.values) ** 2  # no volume radiates more than Λ at its peak
    assert (10**losses.values <= peak * (1 + 1e-9)).all()
    assert losses.ends[1] - losses.ends[0] <= 6 + 1e-9
    assert moment(run, -1) == f"t = 1.5 L_0/c_s0 = {1.5 * run.units.time:.4g} s"


def test_without_cooling_there_is_no_map_of_losses():
    made = attar.simulate(dataclasses.replace(SMALL, radiation="off", end=0.3), engine=ENGINE)
    assert maps(made, -1)[2].values is None
    assert Image.open(io.BytesIO(preview(made))).width > 900
    assert can_draw() is False or set(drawn(made)) == set(TITLES)


@pytest.mark.skipif(not can_draw(), reason="matplotlib is not installed")
def test_the_plots_lie_beside_it_and_are_shown(folder, run):
    assert {path.stem for path in (folder / "evaluation").iterdir()} == set(TITLES)
    card = (folder / "README.md").read_text()
    assert all(f"](evaluation/{name}.png)" in card for name in TITLES)
    assert [picture.label for picture in run.shown().pictures] == ["", *TITLES.values()]
    page = attar.report(folder.parent, out=folder.parent / "page.html").read_text()
    assert page.count("data:image/png") >= 4 and "cooling time" in page


def test_plots_are_of_three_times():
    assert three(71) == [23, 47, 70]
    assert three(2) == [1] and three(3) == [1, 2] and three(4) == [1, 2, 3]


# -------------------------- the series


def test_outcomes_are_counted_from_the_start_and_from_when_the_gas_has_settled():
    series = torch.zeros(3, len(COLUMNS), dtype=torch.float64)
    of = {name: series[:, place] for place, name in enumerate(COLUMNS)}
    of["time"][:] = torch.tensor([0.0, 1.0, 2.0])
    of["thermal"][:] = torch.tensor([2.0, 1.9, 1.7])
    of["kinetic"][:] = torch.tensor([1.0, 1.0, 0.9])
    of["radiated"][:] = torch.tensor([0.0, 0.1, 0.4])
    of["mass"][:] = 5.0
    of["cool"][:] = torch.tensor([4.0, 4.0, 3.0])
    of["raised"][-1] = 7
    found = outcome(series, "cut")
    assert found["radiated"] == "20.00 % of the thermal energy of the start, 15.00 % of it from t = 1 on"
    assert found["thermal energy"].startswith("-15 %") and found["kinetic energy"].startswith("-5 %")
    assert found["cool mass"].startswith("-25 %") and found["pressures raised to the floor"] == "7"
    assert "radiated" not in outcome(series, "off")


# ------------------------------------------------ published settings


def test_the_published_runs_are_there_by_name():
    early, late = KelvinHelmholtz.paper("2d-2022"), KelvinHelmholtz.paper("2d-2024")
    assert early.cells == (800, 800) and (early.end, early.outputs, early.shear) == (70.0, 70, 0.2)
    assert late.cells == (800, 400) and (late.x_from, late.x_to, late.y_from, late.y_to) == (-3.0, 3.0, -2.0, 1.0)
    assert (late.frame, late.shear, late.end) == ("corona", 0.1, 300.0)
    assert late.grid.dx == late.grid.dy == pytest.approx(0.0075)
    assert early.speeds == (pytest.approx(0.2 * 100 / 101), pytest.approx(-0.2 / 101))
    assert early.units.resolve(4.432e-22).length == pytest.approx(1.7e6, rel=0.03)


@pytest.mark.parametrize("name", ["3d-2023", "3d", "3D-2023"])
def test_the_run_in_three_dimensions_is_refused_by_name(name):
    with pytest.raises(InputError) as refused:
        KelvinHelmholtz.paper(name)
    assert str(refused.value) == f"the published run {name} has three dimensions; here are two. Runs: 2d-2022, 2d-2024."


def test_paper_lists_the_runs_with_their_notes(capsys):
    main(["simulate", "kelvin-helmholtz", "--paper"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 published cells. One of them: attar simulate kelvin-helmholtz --paper 2d-2022" in printed
    assert "0.4 and not 0.8" in printed and "2d-2024" in printed and "Their θ is 1.5." in printed


def test_a_published_run_in_small_runs(tmp_path, capsys, undrawn):
    words = ["--paper", "2d-2024", "--cells", "24", "12", "--end", "0.5", "--outputs", "2", "--solver", "numpy"]
    main(["simulate", "kelvin-helmholtz", *words, "--out", str(tmp_path / "run"), "--device", "cpu", "--quiet"])
    made = attar.open_artefact(tmp_path / "run")
    assert made.cells == "24×12" and made.origin.settings["frame"] == "corona"
    assert "score:" not in capsys.readouterr().out


def test_units_follow_from_one_another():
    by_time = KelvinHelmholtz(units=Units(cooling_time=50.0)).units.resolve(4.43e-22)
    by_length = KelvinHelmholtz(units=Units(unit_distance=by_time.length)).units.resolve(4.43e-22)
    assert by_length.tau == pytest.approx(50.0)
