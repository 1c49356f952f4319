"""The light that falls on a column: none, or that of the quiet Sun below it.

The Sun is the model FAL-C, solved once for the same atoms by Lightweaver; its light is tabulated over wavelength and
angle and kept in the cache. How it meets the column is Promweaver's: as a prominence beside the limb, lit from below
on both faces, or as a filament before the disc.

Fontenla, Avrett and Loeser, Energy balance in the solar transition region III, ApJ 1993, doi:10.1086/172443 (FAL-C).
Jenkins, Osborne and Keppens, A 1.5D radiative transfer approach for prominences, A&A 2023, arXiv:2211.14869.
"""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from attar.core import store
from attar.core.training import cache_place

Projection = Literal["prominence", "filament"]
Incident = Literal["uniform", "cone", "zero"]
ANGLES = 20
"""Number of angles of the table."""
CONE_RAYS = 10
"""Rays that the cones of `ConePromBc` need at least."""


@dataclass(frozen=True)
class Sunlight:
    """Intensity of the quiet Sun."""

    wavelength: Float[np.ndarray, " wavelength"]
    """In nm, in vacuum."""
    angle: Float[np.ndarray, " angle"]
    """μ, cosine of the angle to the vertical."""
    intensity: Float[np.ndarray, "wavelength angle"]
    """In W m⁻² Hz⁻¹ sr⁻¹."""

    def provider(self) -> Any:
        """The table as Promweaver reads it."""
        from promweaver import TabulatedPromBcProvider

        return TabulatedPromBcProvider(self.wavelength, self.angle, self.intensity)


def boundaries(incident: Incident, projection: Projection, altitude: float, light: Sunlight | None) -> tuple[Any, Any]:
    """What enters a column at its far and at its near face, as Lightweaver takes it.

    Args:
        incident: How the light is spread over the rays, or zero.
        projection: Where the Sun is.
        altitude: Of the column above the Sun's surface, in m.
        light: The Sun's; None where it is zero.
    """
    from attar.plasma.nonlte import lightweaver_library

    lightweaver = lightweaver_library()
    if incident == "zero":
        return lightweaver.ZeroRadiation(), lightweaver.ZeroRadiation()
    import promweaver

    assert light is not None, "tabulate the light first"
    family = promweaver.UniformJPromBc if incident == "uniform" else promweaver.ConePromBc
    provider = light.provider()
    far = family(projection, provider, altitude, "lower")
    near = family(projection, provider, altitude, "upper") if projection == "prominence" else None
    return far, near or lightweaver.ZeroRadiation()


def sunlight(atoms: tuple[str, ...], models: Any, prd: bool) -> Sunlight:
    """The light of FAL-C with these atoms out of equilibrium: from the cache, or computed now and kept there.

    Args:
        atoms: Symbols of the active atoms.
        models: Function that makes the models of all atoms.
        prd: Whether lines are formed in partial redistribution.
    """
    names = [f"{model.element.name}{len(model.levels)}" for model in models()]
    code = {name: version(name) for name in ("lightweaver", "promweaver")}
    folder = cache_place("sunlight", {"atoms": list(atoms), "models": names, "prd": prd, "angles": ANGLES, **code})
    path = folder / "light.safetensors"
    if not path.is_file():
        light = _computed(atoms, models, prd)
        store.make_folder(folder)
        parts = {"wavelength": light.wavelength, "angle": light.angle, "intensity": light.intensity}
        store.write_tensors(path, {name: torch.from_numpy(part) for name, part in parts.items()}, code)
    tensors, _ = store.read_tensors(path)
    return Sunlight(*(tensors[name].numpy() for name in ("wavelength", "angle", "intensity")))


def _computed(atoms: tuple[str, ...], models: Any, prd: bool) -> Sunlight:
    from attar.plasma.nonlte import iterate, lightweaver_library, radiative_set

    lightweaver = lightweaver_library()
    from lightweaver.fal import Falc82
    from promweaver import tabulate_bc

    atmosphere = Falc82()
    atmosphere.quadrature(3)
    radiative = radiative_set(atoms, models())
    context = lightweaver.Context(
        atmosphere, radiative.compute_wavelength_grid(), radiative.compute_eq_pops(atmosphere), Nthreads=1
    )
    iterate(context, prd=prd)
    table = tabulate_bc(context, mu_grid=np.linspace(0.01, 1.0, ANGLES))
    return Sunlight(*(np.ascontiguousarray(table[name]) for name in ("wavelength", "mu_grid", "I")))
