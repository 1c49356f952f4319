"""What CHIANTI says of an optically thin plasma: all that it radiates, and the light of one line.

Dere, Landi, Mason, Monsignori Fossi and Young, CHIANTI - an atomic database for emission lines, A&AS 125 (1997). It is
read by ChiantiPy (Dere) or by fiasco (Barnes), where a user has one of them and the data, which are a download of their
own. Both take photospheric abundances (Scott et al. 2015) and count light per n_e n_H.
"""

import io
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from attar.core import cache, store
from attar.core.errors import InputError, reason_of

ABUNDANCES = "sun_photospheric_2015_scott"
LEAST_ABUNDANCE = 1e-6
"""Elements rarer than this, relative to hydrogen, are left out of the losses."""
LOSS_DENSITY, LINE_DENSITY = 1e4, 1e9
"""Electrons per cm³ for losses and for lines."""
EMISSION = 1e27
"""Emission measure of line intensities, in cm⁻⁵."""

Points = Float[np.ndarray, " point"]


def at_hand() -> str:
    """The package that can read CHIANTI here, with its data: ChiantiPy, fiasco, or nothing."""
    data = os.environ.get("XUVTOP")
    if data and Path(data).is_dir() and find_spec("ChiantiPy") is not None:
        return "ChiantiPy"
    if find_spec("fiasco") is None:
        return ""
    with _read("fiasco"):
        return "fiasco" if _fiasco_data().is_file() else ""


def losses(log_t: Points) -> Points:
    """Λ at temperatures, in erg cm³/s.

    Args:
        log_t: log10 of the temperature in K.

    Raises:
        InputError: Neither package is here with its data, or it fails.
    """
    return _remembered("losses", log_t, {"ChiantiPy": _chiantipy_losses, "fiasco": _fiasco_losses})


def line(ion: str, wavelength: float, log_t: Points) -> Points:
    """Intensity of one line at an emission measure of 10²⁷ cm⁻⁵, in erg cm⁻² s⁻¹ sr⁻¹.

    Args:
        ion: As CHIANTI writes it: `si_4` is Si IV.
        wavelength: In Å; the nearest line is taken.
        log_t: log10 of the temperature in K.

    Raises:
        InputError: Neither package is here with its data, or it fails.
    """
    return _remembered(
        f"{ion} {wavelength:g}",
        log_t,
        {
            "ChiantiPy": lambda points: _chiantipy_line(ion, wavelength, points),
            "fiasco": lambda points: _fiasco_line(ion, wavelength, points),
        },
    )


def _remembered(what: str, log_t: Points, ways: dict[str, Callable[[Points], Any]]) -> Points:
    """What a package says, asked once: it takes minutes."""
    package = at_hand()
    if not package:
        raise InputError(
            "chianti needs ChiantiPy with its data in $XUVTOP, or fiasco with its data. Install one of them, or give "
            "losses sheet or a file."
        )
    with _read(package):
        home = os.environ["XUVTOP"] if package == "ChiantiPy" else str(_fiasco_data())
        key = store.digest_of({}, [what, log_t.tolist(), package, _version(package), home, _data_version(home)])

        def asked() -> list[float]:
            found = np.asarray(ways[package](log_t), dtype=float)
            if found.shape != log_t.shape or not np.isfinite(found).all():
                raise ValueError(f"{what} came as {found.size} numbers for {log_t.size} temperatures, or not finite")
            return [float(value) for value in found]

        folder = store.cache_folder() / "chianti"
        store.make_folder(folder)
        cache.use(folder / f"{key}.json")
        return np.array(store.remembered(folder / f"{key}.json", asked))


@contextmanager
def _read(package: str) -> Iterator[None]:
    """Keep a package quiet, and turn what it raises into one line."""
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings(), np.errstate():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{package} cannot read CHIANTI: {reason_of(error)}. See to it, or give a file.") from error


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _data_version(home: str) -> str:
    told = Path(home) / "VERSION"
    return told.read_text(encoding="utf-8").strip() if told.is_file() else ""


# ----------------------------------------------------------------------------------------------------------- ChiantiPy


def _chiantipy_losses(log_t: Points) -> Any:
    import ChiantiPy.core

    found = ChiantiPy.core.radLoss(10**log_t, LOSS_DENSITY, minAbund=LEAST_ABUNDANCE, abundance=_chiantipy_abundances())
    return found.RadLoss["rate"]


def _chiantipy_line(ion: str, wavelength: float, log_t: Points) -> Any:
    import ChiantiPy.core

    found = ChiantiPy.core.ion(ion, 10**log_t, eDensity=LINE_DENSITY, abundance=_chiantipy_abundances(), em=EMISSION)
    found.intensity()
    if "errorMessage" in found.Intensity:
        raise ValueError(str(found.Intensity["errorMessage"]))
    nearest = int(np.abs(np.asarray(found.Intensity["wvl"]) - wavelength).argmin())
    return np.asarray(found.Intensity["intensity"])[:, nearest]


def _chiantipy_abundances() -> str | None:
    """The name of the abundances; None, its own choice, where it would open a window to ask for others."""
    import ChiantiPy.tools.data

    return ABUNDANCES if ABUNDANCES in ChiantiPy.tools.data.AbundanceList else None


# -------------------------------------------------------------------------------------------------------------- fiasco


def _fiasco_data() -> Path:
    """The file of its data. Without it fiasco asks at the keyboard whether to download it."""
    import fiasco

    return Path(str(fiasco.defaults["hdf5_dbase_root"]))


def _fiasco_losses(log_t: Points) -> Any:
    import astropy.units as u
    import fiasco

    heat, density = 10**log_t * u.K, LOSS_DENSITY * u.cm**-3
    ions = [fiasco.Ion(name, heat, abundance=ABUNDANCES) for name in fiasco.list_ions()]
    common = [ion for ion in ions if _abundance(ion) >= LEAST_ABUNDANCE]
    return fiasco.IonCollection(*common).radiative_loss(density).to_value("erg cm3 / s")[:, 0]


def _fiasco_line(ion: str, wavelength: float, log_t: Points) -> Any:
    import astropy.units as u
    import fiasco

    element, stage = ion.split("_")
    found = fiasco.Ion(f"{element.capitalize()} {stage}", 10**log_t * u.K, abundance=ABUNDANCES)
    lines = found.transitions
    bound = lines.is_bound_bound if hasattr(lines, "is_bound_bound") else ~lines.is_twophoton
    nearest = int(np.abs(lines.wavelength[bound].to_value("angstrom") - wavelength).argmin())
    light = found.contribution_function(LINE_DENSITY * u.cm**-3).to_value("erg cm3 / s")[:, 0, nearest]
    return light * EMISSION / (4 * math.pi)


def _abundance(ion: Any) -> float:
    """Of its element relative to hydrogen; 0 where the data have none."""
    try:
        return float(ion.abundance)
    except Exception:
        return 0.0
