"""All reducers by name, and one function for them."""

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


def reduce(
    f: GaussianMixture, n_components: int, method: str | Reducer = "oggmr", *, seed: int = 0, **options: Any
) -> Reduction:
    """A mixture of few components in place of one of many.

    Args:
        f: A single mixture.
        n_components: Components to leave.
        method: A name of `METHODS`, or settings of one, whose own n_components does not count.
        seed: Seed of random starts.
        options: Settings of the method, such as `criterion="nise"`.

    Raises:
        InputError: An unknown method or option, or a mixture that cannot be reduced so.
    """
    return settings_of(method, n_components, options).reduce(f, seed=seed)


def settings_of(method: str | Reducer, n_components: int, options: dict[str, Any]) -> Reducer:
    """The settings that a name, or settings, and further options stand for.

    Raises:
        InputError: An unknown method or option.
    """
    if isinstance(method, Reducer):
        return type(method).from_json({**method.to_json(), **options, "n_components": n_components})
    if not isinstance(method, str):
        raise InputError(f"method is {method!r}; it must be a name, {', '.join(METHODS)}, or settings such as OGGMR().")
    return named("method", method, METHODS).from_json({**options, "n_components": n_components})
