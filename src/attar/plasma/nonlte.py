"""Optically thick lines of a column out of local thermodynamic equilibrium: Hα, Ca II K and Mg II h, by Lightweaver.

Each column is a plane-parallel model of its own (1.5D): light that would come from its neighbours is left out. Prefer
it to the thin lines of `thin` where a line forms inside the thread or along its boundary.

Osborne and Milić, The Lightweaver framework for non-local thermal equilibrium radiative transfer in Python, ApJ 2021,
arXiv:2107.00475. Lightweaver and Promweaver are libraries of Osborne; what is here calls them.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float

from attar.core.errors import InputError
from attar.core.extras import install
from attar.core.settings import Range, Settings
from attar.plasma.column import Column, cool_points
from attar.plasma.formation import FINER, contribution, depth_of, emergent, finer, optical_depth
from attar.plasma.incident import CONE_RAYS, Incident, Projection, Sunlight, boundaries, sunlight

LIGHT_SPEED = 299_792_458.0
SCATTER = 3
"""Iterations of the radiation alone, before populations move."""
RADIATION = 5.0
"""Largest relative change of the radiation, in units of the tolerance of the populations."""
POINTS, REACH = 81, 40e3
"""Wavelengths of a line, and the Doppler shift in m/s up to which they reach on both sides: one a km/s."""


@dataclass(frozen=True)
class Line:
    """A spectral line."""

    label: str
    element: str
    wavelength: float
    """Of its centre in vacuum, in nm."""

    @property
    def wavelengths(self) -> Float[np.ndarray, " wavelength"]:
        """Wavelengths around the centre, in nm; the middle one is the centre."""
        return self.wavelength * (1 + REACH / LIGHT_SPEED * np.linspace(-1, 1, POINTS))


LINES = {
    "mg-h": Line("Mg II h", "Mg", 280.3530542),
    "ca-k": Line("Ca II K", "Ca", 393.4777134),
    "h-alpha": Line("Hα", "H", 656.4691622),
}
"""The lines by name, along wavelength."""


class NotConverged(InputError):  # noqa: N818
    """A column whose populations still change after the largest number of iterations, or cannot be found."""


@dataclass(frozen=True, kw_only=True)
class Transfer(Settings):
    """How a column is solved."""

    lines: tuple[Literal["h-alpha", "ca-k", "mg-h"], ...] = ("h-alpha", "ca-k", "mg-h")
    """Spectral lines: h-alpha, ca-k, mg-h. Their atoms are out of equilibrium, all others in it."""
    incident: Incident = "uniform"
    """Light that falls on a column: that of the quiet Sun, uniform over the rays or by cones of rays, or zero."""
    projection: Projection = "prominence"
    """Where the Sun is: prominence (below, beside the line of sight) or filament (behind the column)."""
    altitude: Annotated[float, Range(0, 1e9)] = 1e7
    """Height of the columns above the Sun's surface, in m."""
    redistribution: Literal["crd", "prd"] = "crd"
    """Frequencies of scattered light: crd (complete redistribution), or prd (partial, begun from crd's result)."""
    conserve_charge: bool = True
    """Whether to solve for the electrons, with hydrogen out of equilibrium. If not, they are as --electrons says."""
    conserve_pressure: bool = True
    """Whether gas that is found less ionised is made denser, so that the pressure of the ionised gas stays."""
    electrons: Literal["ionised", "lte"] = "ionised"
    """Electrons before they are solved for: one for each hydrogen atom (ionised), or those of equilibrium (lte)."""
    other_atoms: Literal["all", "hydrogen"] = "all"
    """Atoms in equilibrium that absorb too: all (H, C, O, Si, Al, Ca, Fe, He, Mg, N, Na, S), or hydrogen."""
    temperature_threshold: Annotated[float, Range(1e4, 1e9)] = 2.5e5
    """Temperature in K above which points of a column are left out."""
    rays: Annotated[int, Range(1, 50)] | None = None
    """Number of rays over which radiation is averaged. Default: 3 (within a tenth of 20), or 10 for cones."""
    population_tolerance: Annotated[float, Range(1e-12, 0.1)] = 1e-3
    """Largest relative change of a population in the last iteration."""
    most_iterations: Annotated[int, Range(10)] = 1000
    """Number of iterations after which a column counts as not converged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lines or len(set(self.lines)) < len(self.lines):
            raise InputError(f"lines are {list(self.lines)}; they must be one or several different ones.")
        if self.conserve_pressure and not self.conserve_charge:
            raise InputError(
                "--conserve-pressure needs the electrons of --conserve-charge. "
                "Give both, or --no-conserve-pressure too."
            )

    @property
    def active(self) -> tuple[str, ...]:
        """Symbols of the atoms out of equilibrium, by atomic number."""
        wanted = {LINES[name].element for name in self.lines} | ({"H"} if self.conserve_charge else set())
        return tuple(name for name in ("H", "Mg", "Ca") if name in wanted)

    @property
    def number_of_rays(self) -> int:
        """Rays of the quadrature."""
        return self.rays or (CONE_RAYS if self.incident == "cone" else 3)

    def light(self) -> Sunlight | None:
        """The Sun's light, tabulated for these atoms; None where none falls on a column."""
        if self.incident == "zero":
            return None
        return sunlight(self.active, partial(models_of, self.active, self.other_atoms), self.redistribution == "prd")


@dataclass(frozen=True)
class Formed:
    """What a column shows, and where it comes from. Lines are in the order of the settings."""

    intensity: Float[np.ndarray, "line wavelength"]
    """In W m⁻² Hz⁻¹ sr⁻¹, along the line of sight."""
    tau: Float[np.ndarray, "line wavelength"]
    """Optical depth of the whole column."""
    depth: Float[np.ndarray, "line wavelength"]
    """Where τ = 1, in m from the near face; NaN of a thinner column."""
    contribution: Float[np.ndarray, "line point"]
    """χ S exp(-τ) at the wavelength of the largest τ, in W m⁻³ Hz⁻¹ sr⁻¹; zero at points that were left out."""
    balance: Float[np.ndarray, " line"]
    """Integral of the contribution (and what shines through) over the intensity, at the wavelength of the largest τ."""
    hydrogen_change: float
    """Largest relative change of the hydrogen density by the conservation of pressure."""
    iterations: int
    converged: bool

    @property
    def finite(self) -> bool:
        """Whether it can be used at all."""
        parts = (self.intensity, self.tau, self.contribution, self.balance, np.array(self.hydrogen_change))
        return all(bool(np.isfinite(part).all()) for part in parts)


def check_installed() -> None:
    """See that the libraries are there.

    Raises:
        InputError: They are not.
    """
    for name in ("lightweaver", "promweaver"):
        if find_spec(name) is None:
            raise InputError(f"optically thick lines need {name.capitalize()}: {install('spectra')}.")


@cache
def lightweaver_library() -> Any:
    """Lightweaver, imported without its advice to measure instruction sets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightweaver
    return lightweaver


def all_models() -> list[Any]:
    """Models of all atoms: H with 6 levels, Ca II with 6, Mg II with 11, and those of the background."""
    lightweaver_library()
    import lightweaver.rh_atoms as atoms

    names = "H_6 C O Si Al CaII Fe He_9 MgII N Na S"
    return [getattr(atoms, f"{name}_atom")() for name in names.split()]


def models_of(active: tuple[str, ...], others: str) -> list[Any]:
    """Models of the atoms that absorb: all, or hydrogen and the active ones."""
    return [model for model in all_models() if others == "all" or model.element.name in {"H", *active}]


def radiative_set(active: Sequence[str], models: Sequence[Any]) -> Any:
    """The atoms of a model. They are made active one by one: several at once are ordered by chance."""
    lightweaver = lightweaver_library()
    found = lightweaver.RadiativeSet(list(models))
    for name in active:
        found.set_active(name)
    return found


@cache
def _prepared(active: tuple[str, ...], others: str) -> tuple[Any, Any]:
    """Atoms and wavelengths, which all columns share."""
    found = radiative_set(active, models_of(active, others))
    return found, found.compute_wavelength_grid()


def context_of(column: Column, settings: Transfer, faces: tuple[Any, Any]) -> Any:
    """Lightweaver's model of a column, not solved yet.

    Args:
        column: All its points are used.
        settings: How it is solved.
        faces: What enters at the far and at the near face.
    """
    lightweaver = lightweaver_library()
    radiative, spectrum = _prepared(settings.active, settings.other_atoms)
    electrons = column.hydrogen if column.electrons is None else column.electrons
    # Its `make_1d` would first prepare an equation of state, which takes seconds and is not used here.
    layout = lightweaver.Layout.make_1d(-column.depth, column.velocity.copy(), *faces)
    turbulence = np.full(len(column), column.turbulence)
    atmosphere = lightweaver.Atmosphere(
        layout, column.temperature.copy(), turbulence, electrons.copy(), column.hydrogen.copy()
    )
    atmosphere.quadrature(settings.number_of_rays)
    lte = settings.electrons == "lte"
    populations = (radiative.iterate_lte_ne_eq_pops if lte else radiative.compute_eq_pops)(atmosphere)
    return lightweaver.Context(
        atmosphere,
        spectrum,
        populations,
        Nthreads=1,
        conserveCharge=settings.conserve_charge,
        hprd=settings.redistribution == "prd",
    )


def iterate(
    context: Any,
    *,
    prd: bool = False,
    tolerance: float = 1e-3,
    most: int = 1000,
    keep: Callable[[], None] | None = None,
) -> tuple[int, bool]:
    """Bring populations and radiation into statistical equilibrium; return the iterations, and whether that is reached.

    Args:
        context: Lightweaver's.
        prd: Go on in partial redistribution once it is reached in complete redistribution.
        tolerance: Largest relative change of a population in the last iteration.
        most: Largest number of iterations.
        keep: Called after each, to keep the pressure.
    """
    done, partial, rest = 0, False, SCATTER
    while done < most:
        changes = [context.formal_sol_gamma_matrices()]
        done += 1
        if rest > 0:
            rest -= 1
            continue
        changes.append(context.stat_equil())
        if partial:
            changes.append(context.prd_redistribute(maxIter=3, tol=1e-2))
        moved = [change for change in changes if change is not None]
        still = all(one.dJMax < RADIATION * tolerance and one.dPopsMax < tolerance for one in moved)
        if still and done > SCATTER + 2:
            if partial or not prd:
                return done, True
            partial = True
        elif keep is not None:
            keep()
    return done, False


def keep_pressure(context: Any, pressure: Float[np.ndarray, " point"]) -> Callable[[], None]:
    """What moves a model's hydrogen so that its gas pressure is again that of the beginning.

    Args:
        context: Lightweaver's.
        pressure: In Pa.
    """
    lightweaver = lightweaver_library()
    nuclei = lightweaver.DefaultAtomicAbundance.totalAbundance
    atmosphere, populations = context.kwargs["atmos"], context.eqPops
    wanted = pressure / (lightweaver.KBoltzmann * atmosphere.temperature)

    def keep() -> None:
        hydrogen, electrons = atmosphere.nHTot, atmosphere.ne
        ionised = populations["H"][-1] / hydrogen
        more = (wanted - nuclei * hydrogen - electrons) / (nuclei + ionised)
        if (hydrogen + more <= 0).any():
            raise NotConverged("the hydrogen density fell below zero while the pressure was kept.")
        ratio = 1 + more / hydrogen
        electrons[:] += more * ionised
        hydrogen[:] += more
        for atom in context.kwargs["spect"].radSet.activeAtoms:
            populations[atom.element][...] *= ratio
        context.update_deps(vlos=False, background=False)

    return keep


def solved(column: Column, settings: Transfer, faces: tuple[Any, Any]) -> tuple[Any, int, bool, float]:
    """A column in statistical equilibrium: Lightweaver's model, iterations, whether it converged, change of hydrogen.

    Raises:
        NotConverged: No populations can be found at all.
    """
    lightweaver = lightweaver_library()
    wild = (lightweaver.ExplodingMatrixError, lightweaver.ConvergenceError, ValueError, FloatingPointError)
    try:
        context = context_of(column, settings, faces)
        before = column.hydrogen.copy()  # the model moves its own
        keep = None
        if settings.conserve_pressure:
            keep = keep_pressure(context, _pressure(context))
        done, converged = iterate(
            context,
            prd=settings.redistribution == "prd",
            tolerance=settings.population_tolerance,
            most=settings.most_iterations,
            keep=keep,
        )
    except wild as error:
        raise NotConverged(f"a column has no solution ({' '.join(str(error).split())}).") from error
    change = float(np.abs(context.kwargs["atmos"].nHTot / before - 1).max())
    return context, done, converged, change


def _pressure(context: Any) -> Float[np.ndarray, " point"]:
    lightweaver = lightweaver_library()
    atmosphere = context.kwargs["atmos"]
    particles = lightweaver.DefaultAtomicAbundance.totalAbundance * atmosphere.nHTot + atmosphere.ne
    return particles * lightweaver.KBoltzmann * atmosphere.temperature


def seen_along(context: Any, wavelengths: Float[np.ndarray, " wavelength"]) -> tuple[Any, ...]:
    """Intensity, opacity, source function, and intensity that enters at the far face, along the line of sight.

    Args:
        context: Of a solved column.
        wavelengths: In nm, ascending.
    """
    intensity, traced = context.compute_rays(wavelengths, mus=1.0, upOnly=False, returnCtx=True)
    scattered = np.asarray(traced.background.sca) * np.array(traced.spect.J)  # of which the next line leaves nothing
    traced.depthData.fill = True
    traced.formal_sol_gamma_matrices()
    opacity = np.array(traced.depthData.chi[:, 0, 1])
    source = (np.array(traced.depthData.eta[:, 0, 1]) + scattered) / opacity
    face = context.kwargs["atmos"].zLowerBc
    behind = np.zeros(len(wavelengths))
    if getattr(face, "projection", "") == "filament":
        behind = face.provider.compute_I(wavelengths, 1.0)
    return np.atleast_1d(intensity), opacity, source, behind


def formed(column: Column, settings: Transfer, faces: tuple[Any, Any]) -> Formed:
    """The lines of a column, and where they form.

    Args:
        column: In SI.
        settings: How it is solved.
        faces: What enters at the far and at the near face, as `boundaries` gives it.

    Raises:
        NotConverged: No populations can be found at all. Those that still move are kept, and marked.
        InputError: The column cannot be used.
    """
    kept = cool_points(column.checked().temperature, settings.temperature_threshold)
    inner = column.kept(kept)
    context, done, converged, change = solved(inner, settings, faces)
    order = [name for name in LINES if name in settings.lines]
    seen = seen_along(context, np.concatenate([LINES[name].wavelengths for name in order]))
    places = [POINTS * order.index(name) + np.arange(POINTS) for name in settings.lines]
    lines = [_line(column, kept, inner, *(part[place] for part in seen)) for place in places]
    intensity, tau, depth, added, balance = (np.stack(part) for part in zip(*lines, strict=True))
    return Formed(intensity, tau, depth, added, balance, change, done, converged)


def _line(
    column: Column,
    kept: Any,
    inner: Column,
    intensity: Float[np.ndarray, " wavelength"],
    opacity: Float[np.ndarray, "wavelength kept"],
    source: Float[np.ndarray, "wavelength kept"],
    behind: Float[np.ndarray, " wavelength"],
) -> tuple[Any, ...]:
    """One line as `Formed` has it."""
    depth, opacity, source = finer(inner.depth, opacity, source)
    tau = optical_depth(depth, opacity)
    core = int(tau[:, -1].argmax())
    whole = np.zeros(len(column))
    whole[kept] = contribution(opacity, source, tau)[core, ::FINER]
    balance = emergent(tau, source, behind)[core] / intensity[core]
    return intensity, tau[:, -1], depth_of(tau, depth), whole, balance


class Lightweaver:
    """A code that answers columns with line profiles.

    Args:
        transfer: How columns are solved.
    """

    name = "lightweaver"

    def __init__(self, transfer: Transfer) -> None:
        check_installed()
        self.transfer = transfer
        self._light: Sunlight | None = None

    @property
    def wavelengths(self) -> Float[np.ndarray, " wavelength"]:
        """Those of all lines, one after another, in nm."""
        return np.concatenate([LINES[name].wavelengths for name in self.transfer.lines])

    def __str__(self) -> str:
        labels = ", ".join(LINES[name].label for name in self.transfer.lines)
        light = "no incident light" if self.transfer.incident == "zero" else "the quiet Sun's light"
        electrons = "n_e solved" if self.transfer.conserve_charge else f"n_e given ({self.transfer.electrons})"
        return f"Lightweaver {version('lightweaver')}: {labels}, {electrons}, {light}"

    def answer(self, column: Column) -> Float[np.ndarray, " wavelength"]:
        """The intensity that a column shows, in W m⁻² Hz⁻¹ sr⁻¹.

        Raises:
            NotConverged: Its populations still change after the largest number of iterations, or cannot be found.
            InputError: It cannot be used.
        """
        transfer = self.transfer
        inner = column.checked().kept(cool_points(column.temperature, transfer.temperature_threshold))
        if self._light is None:
            self._light = transfer.light()
        faces = boundaries(transfer.incident, transfer.projection, transfer.altitude, self._light)
        context, done, converged, _ = solved(inner, transfer, faces)
        if not converged:
            raise NotConverged(f"the populations of a column still change after {done} iterations.")
        order = np.argsort(self.wavelengths)
        found = np.empty(len(order))
        found[order] = np.atleast_1d(context.compute_rays(self.wavelengths[order], mus=1.0))
        return found


class CalciumK(Lightweaver):
    """Ca II K with calcium alone out of equilibrium, n_e given, and no light from outside: .15 s a column.

    The core differs by about a tenth from that of the model with H, Ca and Mg.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(replace(CALCIUM, **settings))

    @property
    def wavelengths(self) -> Float[np.ndarray, " wavelength"]:
        """41 within 80 pm of the centre, in nm."""
        return LINES["ca-k"].wavelength + np.linspace(-0.08, 0.08, 41)


CALCIUM = Transfer(
    lines=("ca-k",),
    incident="zero",
    rays=5,
    other_atoms="hydrogen",
    conserve_charge=False,
    conserve_pressure=False,
)
"""How `CalciumK` solves a column."""


def calcium_profile(
    column: Column, wavelengths: Float[np.ndarray, " wavelength"], faces: tuple[Any, Any] | None = None
) -> Float[np.ndarray, " wavelength"]:
    """Ca II K of a column, at any wavelengths in nm.

    Args:
        column: In SI; all its points are used.
        wavelengths: In nm, ascending.
        faces: What enters at the far and at the near face. Default: nothing.

    Raises:
        NotConverged: As for `CalciumK`.
    """
    check_installed()
    context, done, converged, _ = solved(column.checked(), CALCIUM, faces or boundaries("zero", "prominence", 0, None))
    if not converged:
        raise NotConverged(f"the populations of a column still change after {done} iterations.")
    return np.atleast_1d(context.compute_rays(wavelengths, mus=1.0))
