"""Lines out of equilibrium: the formal solution, Lightweaver's own numbers, limits, and columns that cannot be used."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from attar.core.errors import InputError
from attar.core.extras import install
from attar.core.settings import plain
from attar.plasma.column import Column, cool_points, spread
from attar.plasma.formation import FINER, contribution, depth_of, emergent, finer, optical_depth
from attar.plasma.incident import Sunlight, boundaries
from attar.plasma.nonlte import (
    CALCIUM,
    LINES,
    POINTS,
    CalciumK,
    NotConverged,
    Transfer,
    calcium_profile,
    check_installed,
    context_of,
    formed,
    iterate,
    lightweaver_library,
    seen_along,
    solved,
)

GOLDEN = load_file(Path(__file__).parent / "golden" / "lightweaver_ca_slab.safetensors")
needs_lightweaver = pytest.mark.skipif(importlib.util.find_spec("lightweaver") is None, reason="needs Lightweaver")
needs_promweaver = pytest.mark.skipif(importlib.util.find_spec("promweaver") is None, reason="needs Promweaver")
DARK = "zero", "prominence", 1e7, None


def thread(points=40, width=6e5, core=3e16, speed=0.0, hot=1e6):
    """A cool thread between two coronae in pressure balance, and its shear along the line of sight."""
    depth = np.linspace(0, 3 * width, points)
    cool = 0.5 * (np.tanh((depth - width) / 6e4) - np.tanh((depth - 2 * width) / 6e4))
    temperature = 9e3 + (hot - 9e3) * (1 - cool)
    return Column(depth, temperature, core * 9e3 / temperature, speed * np.sin(3 * depth / width))


# ---------------------------------------------------------------------------------------------------- formal solution


def test_a_constant_source_gives_its_share_exactly():
    tau = np.array([[0.0, 1e-7, 0.3, 4.0], [0.0, 2.0, 2.5, 900.0]])
    source = np.full_like(tau, 3.0)
    exact = 3.0 * -np.expm1(-tau[:, -1]) + 0.5 * np.exp(-tau[:, -1])
    np.testing.assert_allclose(emergent(tau, source, 0.5), exact, rtol=1e-14)


def test_a_source_linear_in_tau_is_integrated_exactly():
    tau = np.array([[0.0, 0.2, 0.21, 1.5, 8.0]])
    exact = 2 + 3 - (2 + 3 * (1 + 8.0)) * np.exp(-8.0)
    np.testing.assert_allclose(emergent(tau, 2 + 3 * tau), [exact], rtol=1e-13)


def test_the_contribution_function_integrates_to_the_intensity():
    depth = np.linspace(0, 5.0, 4001)
    opacity, source = (1 + depth)[None], (1 + np.sin(depth) ** 2)[None]
    tau = optical_depth(depth, opacity)
    np.testing.assert_allclose(tau[0], depth + depth**2 / 2, rtol=1e-12)
    np.testing.assert_allclose(
        np.trapezoid(contribution(opacity, source, tau), depth), emergent(tau, source), rtol=1e-6
    )


def test_the_depth_of_a_value_of_tau_is_found_or_told_to_be_missing():
    depth = np.array([0.0, 1.0, 3.0])
    found = depth_of(np.array([[0.0, 0.5, 2.5], [0.0, 0.1, 0.2]]), depth)
    assert found[0] == pytest.approx(1.5) and np.isnan(found[1])


def test_finer_steps_pass_through_the_points_and_overshoot_nowhere():
    depth, values = np.array([0.0, 1.0, 3.0, 4.0]), np.array([[1.0, 9.0, 9.5, 2.0], [0.0, 0.0, 0.0, 1.0]])
    fine, between = finer(depth, values)
    np.testing.assert_allclose(fine[::FINER], depth)
    np.testing.assert_allclose(between[:, ::FINER], values)
    assert between.min() >= 0 and between.max() <= 9.5 and len(fine) == 3 * FINER + 1


def test_hot_points_are_left_out_but_for_the_neighbours_of_cool_ones_and_the_ends():
    heat = np.array([9, 9, 9, 1, 1, 9, 9, 9, 9, 1, 9], dtype=float)
    assert cool_points(heat, 2.0).tolist() == [True, False, True, True, True, True, False, False, True, True, True]


def test_columns_are_spread_evenly():
    assert spread(8, 8).tolist() == list(range(8))
    assert spread(12, 3).tolist() == [2, 6, 10]


def test_the_lines_lie_where_their_levels_say():
    levels = {"h-alpha": 97491.219 - 82258.211, "ca-k": 25414.400, "mg-h": 35669.310}
    for name, line in LINES.items():
        assert line.wavelength == pytest.approx(1e7 / levels[name], rel=1e-8)
        assert line.wavelengths[POINTS // 2] == line.wavelength
    assert list(LINES.values()) == sorted(LINES.values(), key=lambda line: line.wavelength)


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"depth": np.array([0.0, 2.0, 1.0])}, "the depth of a column must rise from point to point, away"),
        (
            {"temperature": np.array([9e3, np.nan, 9e3])},
            "temperature of a column must be positive everywhere: it is nan K at point 1.",
        ),
        (
            {"hydrogen": np.array([1e16, -1.0, 1e16])},
            "hydrogen of a column must be positive everywhere: it is -1 m⁻³ at point 1.",
        ),
        (
            {"electrons": np.array([1e16, 0.0, 1e16])},
            "electrons of a column must be positive everywhere: it is 0 m⁻³ at point 1.",
        ),
        (
            {"velocity": np.array([0.0, 4e7, 0.0])},
            "velocity of a column must be finite and below a tenth of light's: it is 4e+07 m/s at point 1.",
        ),
        ({"temperature": np.array([9e3, 1500.0, 9e3])}, "a column has 1500 K at its coldest point; it must have at le"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(change, sentence):
    column = Column(np.array([0.0, 1.0, 2.0]), np.full(3, 9e3), np.full(3, 1e16), np.zeros(3))
    assert column.checked() is column
    with pytest.raises(InputError) as refused:
        replace(column, **change).checked()
    assert str(refused.value).startswith(sentence)


def test_two_points_are_no_column():
    with pytest.raises(InputError, match="a column has 2 points; it must have at least 3"):
        Column(np.arange(2.0), np.full(2, 9e3), np.full(2, 1e16), np.zeros(2)).checked()


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(InputError, match="--conserve-pressure needs the electrons of --conserve-charge"):
        Transfer(conserve_charge=False)
    with pytest.raises(InputError, match=r"lines are \[\]; they must be one or several different ones"):
        Transfer(lines=())


def test_a_missing_library_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr("attar.plasma.nonlte.find_spec", lambda name: None)
    with pytest.raises(InputError, match="^optically thick lines need Lightweaver: " + re.escape(install("spectra"))):
        check_installed()
    with pytest.raises(InputError, match="need Lightweaver"):
        CalciumK()


def test_active_atoms_follow_from_the_lines_and_from_the_electrons():
    assert Transfer().active == ("H", "Mg", "Ca")
    assert replace(CALCIUM, lines=("mg-h", "ca-k")).active == ("Mg", "Ca")
    assert Transfer(lines=("ca-k",)).active == ("H", "Ca")
    assert Transfer(incident="cone").number_of_rays == 10
    assert Transfer.from_json(plain(CALCIUM)) == CALCIUM


# -------------------------------------------------------------------------------------------------------- lightweaver


@needs_lightweaver
@pytest.mark.parametrize("case", ["still", "moving", "lit_still", "lit_moving"])
def test_it_gives_what_lightweaver_gave_by_hand(case):
    column = golden_column("moving" in case)
    wavelengths = GOLDEN["in.wavelength.K"]
    faces = boundaries(*DARK)
    if "lit" in case:
        faces = faces[0], lit_face()
    tight = replace(CALCIUM, population_tolerance=1e-7, rays=5)
    context, _, converged, _ = solved(column, tight, faces)
    assert converged
    profile = context.compute_rays(wavelengths, mus=1.0)
    np.testing.assert_allclose(profile, GOLDEN[f"out.I_K.{case}"], rtol=1e-4)
    usual = calcium_profile(column, wavelengths, faces)
    assert np.abs(usual - profile).max() < 0.01 * profile.max()


def golden_column(moving):
    velocity = GOLDEN["in.v_los.moving"] if moving else np.zeros_like(GOLDEN["in.z"])
    parts = (-GOLDEN["in.z"], GOLDEN["in.T"], GOLDEN["in.n_h"], velocity)
    return Column(*parts, float(GOLDEN["in.v_turb"][0]), GOLDEN["in.n_e"])


def lit_face():
    """.3 B(5800 K) in every direction."""
    lightweaver = lightweaver_library()

    class Lit(lightweaver.BoundaryCondition):
        def compute_bc(self, atmos, spect):
            light = 0.3 * lightweaver.planck(5800.0, np.asarray(spect.wavelength))
            return np.ascontiguousarray(np.broadcast_to(light[:, None, None], (len(light), len(self.muz), 1)))

    return Lit()


@needs_lightweaver
def test_a_slab_of_one_temperature_in_equilibrium_shows_its_planck_function_where_it_is_thick():
    many = 60
    slab = Column(np.linspace(0, 1e6, many), np.full(many, 6e3), np.full(many, 1e17), np.zeros(many))
    context = context_of(slab, CALCIUM, boundaries(*DARK))  # as it is before the first iteration: in equilibrium
    wavelengths = LINES["ca-k"].wavelengths
    intensity, opacity, _, _ = seen_along(context, wavelengths)
    tau = optical_depth(slab.depth, opacity)[:, -1]
    planck = lightweaver_library().planck(6e3, wavelengths)
    assert tau.max() > 1 and tau.min() < 0.1
    inside = tau > 1e-3 * tau.max()
    np.testing.assert_allclose(intensity[inside], (planck * -np.expm1(-tau))[inside], rtol=1e-3)


@needs_lightweaver
def test_what_a_column_shows_is_the_integral_of_what_its_points_add():
    found = formed(thread(120, speed=5e3, core=2e17), CALCIUM, boundaries(*DARK))
    assert found.converged and found.finite and found.hydrogen_change == 0
    assert found.balance == pytest.approx([1.0], abs=0.01)
    assert found.tau.shape == found.intensity.shape == found.depth.shape == (1, POINTS)
    assert (np.isfinite(found.depth) == (found.tau >= 1)).all()
    core = found.tau[0].argmax()
    assert found.tau[0, core] > 1 and 0 < found.depth[0, core] < 18e5
    assert found.contribution[0].argmax() > 0 and (found.contribution >= 0).all()


@needs_lightweaver
def test_calcium_alone_is_quick_and_the_same_each_time():
    code, column = CalciumK(), thread(speed=1e4)
    first, again = code.answer(column), CalciumK().answer(column)
    assert first.shape == code.wavelengths.shape == (41,)
    assert first.tobytes() == again.tobytes()
    assert (first > 0).all() and code.wavelengths[20] == pytest.approx(393.4777134, abs=1e-7)
    assert "Ca II K, n_e given (ionised), no incident light" in str(code)


@needs_lightweaver
def test_the_velocity_towards_the_observer_shifts_to_the_blue():
    moving = replace(thread(), velocity=np.full(40, 2e4))
    still, blue = CalciumK().answer(thread()), CalciumK().answer(moving)
    wavelengths = CalciumK().wavelengths
    centres = [(wavelengths * one).sum() / one.sum() for one in (still, blue)]
    assert (centres[0] - centres[1]) / 393.4777134 * 3e8 == pytest.approx(2e4, rel=0.2)


@needs_lightweaver
def test_a_column_that_does_not_converge_is_marked_by_one_and_refused_by_the_other():
    few = replace(CALCIUM, most_iterations=10, population_tolerance=1e-9)
    found = formed(thread(), few, boundaries(*DARK))
    assert not found.converged and found.iterations == 10 and found.finite
    with pytest.raises(NotConverged, match="the populations of a column still change after 10 iterations"):
        CalciumK(most_iterations=10, population_tolerance=1e-9).answer(thread())


@needs_lightweaver
def test_partial_redistribution_begins_from_complete_and_dims_the_wings():
    column = thread()
    crd = formed(column, CALCIUM, boundaries(*DARK))
    prd = formed(column, replace(CALCIUM, redistribution="prd"), boundaries(*DARK))
    assert prd.converged and prd.iterations > crd.iterations
    assert np.abs(prd.intensity / crd.intensity - 1).max() > 0.01


@needs_lightweaver
def test_hydrogen_is_compared_with_a_copy():
    """The model moves the array of its own; hydrogen alone, few points."""
    column = thread(points=24)
    settings = Transfer(lines=("h-alpha",), incident="zero", other_atoms="hydrogen", population_tolerance=1e-2)
    before = column.hydrogen.copy()
    context, _, converged, change = solved(column, settings, boundaries(*DARK))
    assert converged
    assert (column.hydrogen == before).all()
    assert change == pytest.approx(np.abs(context.kwargs["atmos"].nHTot / before - 1).max()) and change > 1e-6


# ------------------------------------------------------------------------------------------------------ incident light


def made_up_sun():
    """Dark in the ultraviolet, which would ionise calcium; limb-darkened beyond."""
    wavelength = np.concatenate([np.linspace(20.0, 2000.0, 100), LINES["ca-k"].wavelengths])
    wavelength.sort()
    angle = np.linspace(0.01, 1.0, 20)
    return Sunlight(wavelength, angle, 1e-8 * (0.4 + 0.6 * angle) * (wavelength > 250)[:, None])


@needs_promweaver
@pytest.mark.parametrize("incident", ["uniform", "cone"])
def test_light_from_below_brightens_a_prominence(incident):
    column = thread(core=1e15)
    dark = formed(column, CALCIUM, boundaries(*DARK))
    lit = formed(
        column, replace(CALCIUM, incident=incident, rays=3), boundaries(incident, "prominence", 1e7, made_up_sun())
    )
    assert lit.converged
    assert (lit.intensity[0, 38:43] > 1.1 * dark.intensity[0, 38:43]).all()
    assert lit.balance == pytest.approx([1.0], abs=0.01)


@needs_promweaver
def test_a_filament_is_seen_before_the_disc():
    found = formed(thread(core=1e15), CALCIUM, boundaries("uniform", "filament", 1e7, made_up_sun()))
    assert found.intensity[0, 0] == pytest.approx(1e-8, rel=0.05)  # the wings let the disc through
    assert found.balance == pytest.approx([1.0], abs=0.01)


@needs_promweaver
def test_the_suns_light_is_computed_once(monkeypatch, tmp_path):
    import attar.plasma.incident as incident

    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    calls = []
    monkeypatch.setattr(incident, "_computed", lambda *given: calls.append(given) or made_up_sun())
    settings = replace(CALCIUM, incident="uniform")
    first, again = settings.light(), settings.light()
    assert len(calls) == 1 and calls[0][0] == ("Ca",)
    assert torch.equal(torch.from_numpy(first.intensity), torch.from_numpy(again.intensity))
    assert settings.light().provider().compute_I(np.array([300.0]), 1.0) == pytest.approx([1e-8])


def test_no_light_needs_no_table():
    assert CALCIUM.light() is None


@needs_lightweaver
def test_the_iteration_stops_where_it_was_told():
    context = context_of(thread(), CALCIUM, boundaries(*DARK))
    assert iterate(context, tolerance=1e-12, most=12) == (12, False)
