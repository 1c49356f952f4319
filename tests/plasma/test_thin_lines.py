"""The light of optically thin lines, by columns and over time."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine
from attar.plasma import chianti, thin
from attar.plasma.series import COLUMNS
from attar.plasma.states import Grid
from attar.plasma.thin import Response, column_light, gaussian_response, intensity, light_curve, response
from attar.plasma.units import Units

LOG_T = np.linspace(3, 7, 101)
SHINE = 3 * np.exp(-0.5 * ((LOG_T - 4.9) / 0.15) ** 2)
MEASURED = Response("a line", "erg", LOG_T, SHINE)


@pytest.fixture(scope="module")
def run():
    from attar.plasma.kelvin_helmholtz import KelvinHelmholtz

    method = KelvinHelmholtz(cells=(10, 12), end=0.3, outputs=3, layer=0.2, solver="numpy")
    return attar.simulate(method, engine=Engine(device="cpu", quiet=True))


def test_the_gaussian_has_its_peak_and_width():
    assert gaussian_response(np.array(10**4.9)) == pytest.approx(1)
    np.testing.assert_allclose(gaussian_response(10 ** np.array([4.75, 5.05])), np.exp(-0.5))
    np.testing.assert_allclose(gaussian_response(torch.tensor([10**4.75])).numpy(), np.exp(-0.5), rtol=1e-6)


def test_a_measured_response_is_cubic_between_its_points_and_never_negative():
    between = 10 ** (LOG_T[:-1] + 0.02)
    np.testing.assert_allclose(MEASURED(between), 3 * gaussian_response(between), atol=2e-4)
    np.testing.assert_allclose(MEASURED(10 ** LOG_T[1:-1]), SHINE[1:-1], atol=1e-12)
    assert (MEASURED(10 ** np.linspace(2, 8, 500)) >= 0).all()
    assert (MEASURED(np.array([1e2, 1e8, 0.0])) == 0).all()


def test_a_column_and_its_mirror_image_are_summed():
    density, heat = np.array([[1.0, 2.0], [3.0, 4.0]]), np.full((2, 2), 10**4.9)
    line = response(source="gaussian")
    np.testing.assert_allclose(column_light(density, heat, line), [2 * (1 + 9), 2 * (4 + 16)])


def test_the_shape_says_that_it_is_one(monkeypatch, run):
    monkeypatch.setattr(chianti, "at_hand", lambda: "")
    line = response()
    assert line.label == "Si IV 1402.77 Å, Gaussian in log T (a shape only)"
    assert line.unit == ""
    assert "a shape only" in light_curve(run).label
    with pytest.raises(InputError, match=r"a shape only.*no intensities"):
        intensity(run, 0, line)
    with pytest.raises(InputError, match="chianti needs ChiantiPy"):
        response(source="chianti")


def test_chianti_is_taken_where_it_is_at_hand(monkeypatch):
    asked = []
    monkeypatch.setattr(chianti, "at_hand", lambda: "ChiantiPy")
    monkeypatch.setattr(chianti, "line", lambda *given: asked.append(given[:2]) or SHINE - 0.1)
    line = response(1393.75)
    assert asked == [("si_4", 1393.75)]
    assert line.label == "Si IV 1393.75 Å, CHIANTI"
    assert (line.light >= 0).all()
    np.testing.assert_array_equal(line.log_t, LOG_T)


def test_lines_and_sources_that_do_not_exist_are_refused():
    with pytest.raises(InputError) as refused:
        response(1400.0)
    assert str(refused.value) == "there is no line of Si IV at 1400 Å here. Give 1402.77 or 1393.75."
    with pytest.raises(InputError, match="Give auto, chianti, or gaussian"):
        response(source="chanti")


def test_curves_from_the_series_and_from_snapshots_agree(run):
    series, snapshots = light_curve(run), light_curve(run, response(source="gaussian"))
    places = [int(np.abs(series.times - time).argmin()) for time in snapshots.times]
    np.testing.assert_allclose(series.light[places], snapshots.light, rtol=1e-4)
    columns = column_light(run.snapshots[-1, 0].double().numpy(), run.temperature(-1), response(source="gaussian"))
    assert snapshots.light[-1] == pytest.approx(columns.mean())


def test_a_curve_is_relative_to_a_stated_time(run):
    absolute, relative = light_curve(run), light_curve(run, relative_to=0.21)
    place = int(np.abs(absolute.times - 0.21).argmin())
    assert relative.light[place] == 1
    np.testing.assert_allclose(relative.light, absolute.light / absolute.light[place])
    assert relative.label.endswith(f"relative to t = {absolute.times[place]:g}")
    with pytest.raises(InputError, match=r"from t = 0 to 0\.3, so it has no light at 5\."):
        light_curve(run, relative_to=5)


def test_nothing_is_relative_to_darkness():
    series = torch.zeros(3, len(COLUMNS), dtype=torch.float64)
    series[:, 0] = torch.arange(3)
    series[2, list(COLUMNS).index("line")] = 1.0
    dark = SimpleNamespace(
        measured=lambda name: series[:, list(COLUMNS).index(name)].numpy(), grid=Grid(2, 2, 1.0, 1.0)
    )
    assert light_curve(dark, relative_to=2).light[-1] == 1
    with pytest.raises(InputError, match="nothing shines at t = 0"):
        light_curve(dark, relative_to=0)


def test_intensities_are_integrals_of_the_emission_measure():
    units = Units(unit_density=1e15, unit_distance=2e6).resolve(4.43e-22)
    heat = np.full((4, 3), 10**4.9)
    run = SimpleNamespace(
        snapshots=torch.full((1, 5, 4, 3), 7.0),
        temperature=lambda snapshot: heat,
        grid=Grid(4, 3, 0.1, 0.25),
        units=units,
    )
    depth = 2 * 4 * 0.25 * 2e8  # of the column and its mirror image, in cm
    emission = (7e9) ** 2 * depth
    np.testing.assert_allclose(intensity(run, 0, MEASURED), 3 * emission / 1e27, rtol=1e-3)


def test_the_kinds_of_lines_are_the_published_ones():
    assert thin.LINES == (1402.77, 1393.75)
