"""The compiled source of the scheme: the numbers of the plain one, the same bytes for any number of threads."""

import itertools
import math

import numpy as np
import pytest
import torch

from attar.core.errors import Diverged, InputError
from attar.core.extras import install
from attar.core.runtime import Engine, Runtime
from attar.plasma import solvers
from attar.plasma.cooling import Cooling
from attar.plasma.fluid import FLOOR, Fluid, advance
from attar.plasma.losses import packaged
from attar.plasma.scheme import largest_step
from attar.plasma.states import ENERGY, GAMMA, Grid, conserved, primitive, swapped, temperature

fused = pytest.importorskip(
    "attar.plasma.fused", reason="numba is not installed: pip install '.[plasma]'", exc_type=ImportError
)
CFL = 0.4
WALLS = list(itertools.product(("mirror", "periodic"), repeat=2))
COOLINGS = {"none": None, "cut": Cooling(packaged().cut(), 20.0), "true": Cooling(packaged(), 20.0)}


def grid_of(rows, columns, walls=("periodic", "mirror")):
    return Grid(rows, columns, 2 / columns, 1.5 / rows, *walls)


def shear(grid, seed=0):
    """A rough layer of shear between hot and cold gas, neither on rows nor on columns."""
    draw = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, grid.rows), np.linspace(-1, 1, grid.columns), indexing="ij")
    thread = 0.5 * (1 + np.tanh((y + 0.4 * x + 0.2 * np.sin(5 * x)) / 0.1))
    noise = draw.uniform(-0.5, 0.5, (4, grid.rows, grid.columns))
    density = (1 + 99 * thread) * (1 + 0.1 * noise[0])
    pressure = (1 + 0.1 * noise[1]) / GAMMA
    states = (density, 0.3 * thread + 0.02 * noise[2], 0.1 - 0.2 * thread + 0.02 * noise[3], pressure, 4 + noise[1])
    return torch.from_numpy(conserved(np.stack(states)))


def after(source, states, grid, cooling, steps=100, **given):
    """A fluid about as many steps later."""
    fluid = Fluid.of(states.clone())
    source(fluid, steps * largest_step(states.numpy(), grid, CFL), grid, CFL, cooling, **given)
    return fluid


def assert_same(one, other, within=1e-13):
    """Both are at the same time after as many steps, with the same states and the same losses."""
    assert (one.time, one.steps, one.raised) == (other.time, other.steps, other.raised)
    for mine, theirs in zip((*one.conserved, one.radiated), (*other.conserved, other.radiated), strict=True):
        assert (mine - theirs).abs().max() <= within * theirs.abs().max()


@pytest.mark.parametrize("name", COOLINGS)
@pytest.mark.parametrize("walls", WALLS, ids="-".join)
@pytest.mark.parametrize(("rows", "columns"), [(9, 13), (37, 24)])
def test_the_compiled_source_has_the_numbers_of_the_plain_one(rows, columns, walls, name):
    grid = grid_of(rows, columns, walls)
    states = shear(grid)
    mine, plain = (after(source, states, grid, COOLINGS[name]) for source in (fused.advance, advance))
    assert plain.steps > 80
    assert (plain.radiated > 0).any() == (name != "none")
    assert_same(mine, plain)


@pytest.mark.parametrize("name", COOLINGS)
def test_the_compiled_source_has_the_numbers_of_the_plain_one_at_64(name):
    grid = grid_of(64, 64)
    states = shear(grid, 1)
    assert_same(*(after(source, states, grid, COOLINGS[name]) for source in (fused.advance, advance)))


@pytest.mark.parametrize("name", COOLINGS)
def test_pytorch_has_the_numbers_of_numpy(name):
    grid = grid_of(16, 21)
    states = shear(grid)
    assert_same(*(after(advance, states, grid, COOLINGS[name], numpy=which) for which in (False, True)))


@pytest.mark.parametrize("walls", WALLS, ids="-".join)
def test_mass_and_energy_close(walls):
    grid = grid_of(24, 32, walls)
    states = shear(grid)
    fluid = after(fused.advance, states, grid, COOLINGS["true"], 400)
    whole = [math.fsum(part.flatten().tolist()) for part in (states[0], fluid.conserved[0])]
    assert whole[1] == pytest.approx(whole[0], rel=2e-15, abs=0)
    energies = (states[ENERGY], torch.cat((fluid.conserved[ENERGY], fluid.radiated)))
    whole = [math.fsum(part.flatten().tolist()) for part in energies]
    assert whole[1] == pytest.approx(whole[0], rel=2e-15, abs=0)
    assert fluid.radiated.sum() > 1e-3 * states[ENERGY].sum()


@pytest.mark.parametrize("walls", WALLS, ids="-".join)
def test_x_and_y_may_be_swapped(walls):
    grid = grid_of(20, 33, walls)
    states = shear(grid)
    fluid = after(fused.advance, states, grid, COOLINGS["cut"])
    turned = after(fused.advance, swapped(states).contiguous(), grid.transposed, COOLINGS["cut"])
    turned.conserved, turned.radiated = swapped(turned.conserved), turned.radiated.T
    assert_same(turned, fluid)


def test_a_contact_at_rest_stays():
    grid = grid_of(16, 12)
    still = np.zeros((16, 12))
    density = np.where(np.arange(12) < 5, 1.0, 100.0) * np.where(np.arange(16) < 9, 1.0, 3.0)[:, None]
    states = torch.from_numpy(conserved(np.stack((density, still, still, still + 1 / GAMMA, still + 0.7))))
    assert torch.equal(after(fused.advance, states, grid, None).conserved, states)


@pytest.fixture
def threads():
    """Gives PyTorch a number of threads, for a while."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", COOLINGS)
def test_threads_do_not_change_a_byte(name, threads, monkeypatch):
    monkeypatch.setattr(fused, "SHARED_FROM", 1)
    monkeypatch.setattr(fused, "LEAST_ROWS", 8)
    grid = grid_of(41, 30)
    states, found = shear(grid), []
    for count in (1, 2, 3):
        threads(count)
        assert len(fused.Shared(grid).parts) == count
        found.append(after(fused.advance, states, grid, COOLINGS[name]))
    for other in found[1:]:
        assert other.conserved.numpy().tobytes() == found[0].conserved.numpy().tobytes()
        assert other.radiated.numpy().tobytes() == found[0].radiated.numpy().tobytes()
        assert other.time == found[0].time


def test_small_grids_take_one_thread(threads):
    threads(4)
    assert len(fused.Shared(grid_of(399, 400)).parts) == 1
    assert fused.Shared(grid_of(400, 401)).parts == [(0, 100), (100, 200), (200, 300), (300, 400)]
    assert len(fused.Shared(grid_of(20, 10_000)).parts) == 1


@pytest.mark.parametrize("name", ["cut", "true"])
@pytest.mark.parametrize("passed", [1e-6, 1e-3, 0.1, 10.0, 1e4])
def test_any_gas_cools_as_in_the_plain_source(name, passed):
    """From below the first temperature of the table to above the last, over one piece of it or over all."""
    cooling = COOLINGS[name]
    edges = cooling.nodes[[0, 1, 64, 128, -2, -1]]
    heat = np.concatenate((np.geomspace(1e-3, 1e2, 1000), edges, np.nextafter(edges, 0), np.nextafter(edges, 1e3)))
    density = np.geomspace(0.01, 100, heat.size)
    still = np.zeros((1, heat.size))
    states = conserved(np.stack((density + still, still, still, density * heat / GAMMA + still, still)))
    mine, radiated = states.copy(), still.copy()
    fused.finished(mine, radiated, passed, -math.inf, fused.tables_of(cooling), 0, 1)
    plain = cooling.cooled(states, passed * float(cooling.tau) / fused.HEAT)
    found, wanted = temperature(primitive(mine)), temperature(primitive(plain))
    assert (found <= temperature(primitive(states)) * (1 + 1e-15)).all()
    assert (np.abs(found - wanted) <= 1e-12 * wanted + 1e-14 * heat).all()
    assert (mine[ENERGY] + radiated == states[ENERGY]).mean() > 0.5
    np.testing.assert_allclose(mine[ENERGY] + radiated, states[ENERGY], rtol=1e-15)


def test_pressures_are_raised_to_the_floor_and_counted():
    grid = grid_of(24, 24)
    fan = np.linspace(-3e-5, 3e-5, 24) + np.zeros((24, 1))
    one = np.ones((24, 24))
    states = torch.from_numpy(conserved(np.stack((one, fan, 0.1 * fan.T, 1.2 * FLOOR * one, 0 * one))))
    mine, plain = (after(source, states, grid, None, 20) for source in (fused.advance, advance))
    assert plain.raised > 10
    assert_same(mine, plain)
    assert primitive(mine.conserved)[3].min() > 0.5 * FLOOR


def test_states_that_are_not_finite_are_told():
    grid = grid_of(9, 9)
    for place in range(5):
        states = shear(grid)
        states[place, 4, 4] = math.nan
        with pytest.raises(Diverged, match="the time step is nan"):
            fused.advance(Fluid.of(states), 1.0, grid, CFL, None)


def test_tensors_need_not_be_contiguous():
    grid = grid_of(12, 10)
    states = shear(grid)
    wide = torch.zeros(5, 12, 20, dtype=torch.float64)[:, :, ::2]
    wide.copy_(states)
    fluid = Fluid(wide, torch.zeros(24, 10, dtype=torch.float64)[::2])
    until = 20 * largest_step(states.numpy(), grid, CFL)
    fused.advance(fluid, until, grid, CFL, COOLINGS["cut"])
    assert torch.equal(wide, after(fused.advance, states, grid, COOLINGS["cut"], 20).conserved)
    assert fluid.radiated.sum() > 0


def test_each_solver_takes_a_fluid_to_a_time():
    grid, runtime = grid_of(12, 10), Runtime(Engine(device="cpu"))
    states, found = shear(grid), []
    for solver in ("auto", "numba", "numpy", "torch"):
        fluid = Fluid.of(states.clone())
        solvers.advance_by(solver, fluid, 0.05, grid, CFL, COOLINGS["cut"], runtime)
        found.append(fluid)
    assert torch.equal(found[0].conserved, found[1].conserved)
    for other in found[1:]:
        assert other.time == 0.05
        assert (other.conserved - found[0].conserved).abs().max() < 1e-11


def test_without_numba_auto_is_numpy_and_numba_is_refused(monkeypatch):
    runtime = Runtime(Engine(device="cpu"))
    assert solvers.chosen_solver("auto", runtime) == "numba"
    monkeypatch.setattr(solvers, "find_spec", lambda name: None)
    assert solvers.chosen_solver("auto", runtime) == "numpy"
    assert solvers.chosen_solver("torch", runtime) == "torch"
    with pytest.raises(InputError) as told:
        solvers.chosen_solver("numba", runtime)
    assert str(told.value) == f"solver numba needs Numba: {install('plasma')}."


def test_on_a_gpu_auto_is_pytorch(monkeypatch):
    runtime = Runtime(Engine(device="cpu"))
    runtime.device = torch.device("cuda")
    assert solvers.chosen_solver("auto", runtime) == "torch"
    assert solvers.chosen_solver("numpy", runtime) == "numpy"
