"""All reducers by name, and one function that calls them."""

from typing import Any

from attar.core.errors import InputError, named
from attar.mixtures.brute_force import BruteForce
from attar.mixtures.cowa import COWA
from attar.mixtures.ctdgmr import CTDGMR
from attar.mixtures.direct import Direct
from attar.mixtures.gmrc import GMRC
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.oggmr import OGGMR
from attar.mixtures.reduction import Reducer, Reduction
from attar.mixtures.runnalls import Runnalls
from attar.mixtures.salmond import Salmond
from attar.mixtures.west import West
from attar.mixtures.williams import Williams

METHODS: dict[str, type[Reducer]] = {
    method.name: method for method in (OGGMR, Runnalls, Salmond, West, Williams, GMRC, COWA, CTDGMR, Direct, BruteForce)
}
"""The settings class of every reducer, by its name."""


def reduce(
    f: GaussianMixture, n_components: int, method: str | Reducer = "oggmr", *, seed: int = 0, **options: Any
) -> Reduction:
    """Reduce a mixture to fewer components.

    Args:
        f: A single mixture.
        n_components: Number of components of the reduced mixture.
        method: A name in `METHODS`, or the settings of a method. Their n_components is ignored.
        seed: Seed of random starts.
        options: Settings of the method, such as `criterion="nise"`.

    Raises:
        InputError: The method or an option is unknown, or the method cannot reduce this mixture.
    """
    return settings_of(method, n_components, options).reduce(f, seed=seed)


def settings_of(method: str | Reducer, n_components: int, options: dict[str, Any]) -> Reducer:
    """The settings of a method, given by name or as settings, with further options.

    Raises:
        InputError: The method or an option is unknown.
    """
    if isinstance(method, Reducer):
        return type(method).from_json({**method.to_json(), **options, "n_components": n_components})
    if not isinstance(method, str):
        raise InputError(f"method is {method!r}; it must be one of {', '.join(METHODS)}, or settings such as OGGMR().")
    return named("method", method, METHODS).from_json({**options, "n_components": n_components})
