"""Which source of the scheme takes a fluid from one time to another: Numba on CPUs, NumPy, or PyTorch."""

from importlib.util import find_spec
from typing import Literal

from attar.core.errors import InputError
from attar.core.extras import install
from attar.core.runtime import Runtime
from attar.plasma.cooling import Cooling
from attar.plasma.fluid import Fluid, advance
from attar.plasma.states import Grid

Solver = Literal["auto", "numba", "numpy", "torch"]


def advance_by(
    solver: Solver, fluid: Fluid, until: float, grid: Grid, cfl: float, cooling: Cooling | None, runtime: Runtime
) -> None:
    """Take a fluid to a time, in place.

    Args:
        solver: By which source of the scheme.
        fluid: It, on the CPU.
        until: The time, in L_0/c_s0.
        grid: The cells.
        cfl: Share of a cell that a wave may cross in a step.
        cooling: The losses, or None.
        runtime: The machine.

    Raises:
        InputError: Numba is asked for and not installed.
        Diverged: The time step has vanished.
    """
    chosen = chosen_solver(solver, runtime)
    if chosen == "numpy":
        advance(fluid, until, grid, cfl, cooling)
        return
    if chosen == "numba":
        from attar.plasma.fused import advance as fused

        fused(fluid, until, grid, cfl, cooling)
        return
    home = fluid.conserved.device
    fluid.conserved, fluid.radiated = fluid.conserved.to(runtime.device), fluid.radiated.to(runtime.device)
    advance(fluid, until, grid, cfl, cooling, numpy=False)
    fluid.conserved, fluid.radiated = fluid.conserved.to(home), fluid.radiated.to(home)


def chosen_solver(solver: Solver, runtime: Runtime) -> str:
    """The source that is meant.

    Raises:
        InputError: Numba is asked for and not installed.
    """
    there = find_spec("numba") is not None
    if solver == "numba" and not there:
        raise InputError(f"solver numba needs Numba: {install('plasma')}.")
    if solver != "auto":
        return solver
    return "torch" if runtime.device.type == "cuda" else "numba" if there else "numpy"
