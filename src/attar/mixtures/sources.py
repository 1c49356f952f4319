"""Mixtures to reduce: from a file, from an artefact, from a table of samples, or a named one.

A table needs no header. Every row is a sample and every column is a coordinate.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attar.core.errors import InputError
from attar.core.notebook import Told
from attar.core.provenance import asked
from attar.mixtures.artefact import ReducedMixture
from attar.mixtures.files import ENDINGS
from attar.mixtures.mixture import GaussianMixture

TABLES = (".npy", ".csv", ".parquet")
NAMED = ("digits", "standard-1d")
FITTED = 40
"""Default number of components of a mixture that is fitted to samples."""


@dataclass(frozen=True)
class MixtureSource(Told):
    """A mixture and where it came from."""

    mixture: GaussianMixture
    name: str
    origin: str
    """How the mixture was obtained, in a few words: read from a file, or fitted to which samples."""

    @property
    def fingerprint(self) -> str:
        """A digest of the mixture."""
        return self.mixture.fingerprint

    def __str__(self) -> str:
        f = self.mixture
        return f"{self.name}: {f.n_components} components in {f.dimension}-D, {f.covariance_type}; {self.origin}"


def load(data: Any, *, fit_components: int = FITTED) -> MixtureSource:
    """Read a mixture, or fit one to samples.

    Args:
        data: `digits`, `standard-1d`, a mixture's file (.safetensors, .json), an artefact's folder, a table of samples
            (.npy, .csv, .parquet), or in Python a mixture (attar's, scikit-learn's or torch's) or an array of samples.
        fit_components: Number of components of a mixture that is fitted to samples.

    Raises:
        InputError: The data are none of these, or cannot be used.
    """
    if isinstance(data, MixtureSource):
        return data
    if not isinstance(data, (str, Path)):
        return _of_object(data, fit_components)
    return asked(_named(data, fit_components), data, fit_components=fit_components)


def _named(data: str | Path, fit_components: int) -> MixtureSource:
    if data == "standard-1d":
        return MixtureSource(standard_1d(), "standard-1d", "the usual one-dimensional test")
    if data == "digits":
        return MixtureSource(digits_mixture(), "digits", "fitted to two principal components of 1,797 digits")
    path = Path(data)
    if (path / "artefact.json").is_file():
        return MixtureSource(ReducedMixture.load(path).mixture, path.name, "a reduced mixture")
    if not path.is_file():
        raise InputError(
            f"{data!r} is not a file, an artefact or one of {', '.join(NAMED)}. Give a mixture as a "
            f"{' or '.join(ENDINGS)} file, or samples as {', '.join(TABLES)}."
        )
    if path.suffix in ENDINGS:
        return MixtureSource(GaussianMixture.load(path), path.stem, "as in the file")
    if path.suffix not in TABLES:
        raise InputError(f"{path} must end in one of {', '.join((*ENDINGS, *TABLES))}.")
    return _of_samples(read_table(path), path.stem, fit_components)


def read_table(path: Path) -> np.ndarray:
    """The samples of a table, `[sample, dimension]`.

    Raises:
        InputError: The file is damaged, or holds something else than numbers.
    """
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        elif path.suffix == ".csv":
            values = _csv(path)
        else:
            from pyarrow import parquet

            table = parquet.read_table(path)
            values = np.column_stack([column.to_numpy() for column in table.columns])
        values = np.asarray(values, dtype=float)
    except (ValueError, TypeError, OSError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{path} is not a table of numbers ({first}).") from None
    return values


def fit(samples: np.ndarray, n_components: int, *, name: str = "the samples") -> GaussianMixture:
    """Fit a mixture of full covariances by scikit-learn's EM, with seed 0 and reg_covar 1e-3 of the mean variance.

    Raises:
        InputError: The samples are not a table, are all the same point, hold NaN, or are fewer than the components.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as Fitted

    samples = samples[:, None] if samples.ndim == 1 else samples
    if samples.ndim != 2 or not samples.size:
        raise InputError(f"{name}: the samples have shape {samples.shape}; they must be [sample, dimension].")
    wrong = np.argwhere(~np.isfinite(samples))
    if len(wrong):
        row, column = wrong[0].tolist()
        raise InputError(f"{name}: row {row}, column {column} is {samples[row, column]}; every number must be finite.")
    if len(samples) < n_components:
        raise InputError(f"{name}: {len(samples)} samples are too few for {n_components} components. Ask for fewer.")
    scale = float(samples.var(axis=0).mean())
    if scale == 0:
        raise InputError(f"{name}: all samples are the same point; a mixture needs samples that differ.")
    model = Fitted(n_components, random_state=0, reg_covar=1e-3 * scale)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(samples)
    return GaussianMixture.from_sklearn(model)


def standard_1d() -> GaussianMixture:
    """Ten components in one dimension, the test of most papers on mixture reduction. Targets are 5 and 6."""
    weights = [0.03, 0.18, 0.12, 0.19, 0.02, 0.16, 0.06, 0.10, 0.08, 0.06]
    means = [1.45, 2.20, 0.67, 0.48, 1.49, 0.91, 1.01, 1.42, 2.77, 0.89]
    variances = [0.0487, 0.0305, 0.1171, 0.0174, 0.0295, 0.0102, 0.0323, 0.0380, 0.0115, 0.0679]
    return GaussianMixture(weights, means, variances)


def random_mixture(
    n_components: int, dimension: int, generator: torch.Generator, *, spread: float = 3.0, size: float = 50.0
) -> GaussianMixture:
    """A random mixture as in the literature: w ~ Dirichlet(1), μ ~ U[0, 3]^d, S ~ Wishart(d + 1, I / 50).

    Args:
        n_components: Number of components.
        dimension: Dimension of the space, d.
        generator: Generator that draws the parameters.
        spread: Side of the cube in which the means lie.
        size: Inverse scale of the covariances.
    """
    real = torch.float64
    exponential = -torch.rand(n_components, dtype=real, generator=generator).clamp_min(1e-300).log()
    means = spread * torch.rand(n_components, dimension, dtype=real, generator=generator)
    rows = torch.randn(n_components, dimension, dimension + 1, dtype=real, generator=generator)
    return GaussianMixture(exponential / exponential.sum(), means, rows @ rows.mT / size)


@cache
def digits_mixture(n_components: int = 40, *, random_state: int = 0) -> GaussianMixture:
    """A mixture of full covariances, fitted to scikit-learn's digits in two principal components of unit deviation."""
    from sklearn.mixture import GaussianMixture as Fitted

    model = Fitted(n_components, random_state=random_state, reg_covar=1e-3)
    return GaussianMixture.from_sklearn(model.fit(digits_plane()))


@cache
def digits_plane() -> np.ndarray:
    """The points that `digits_mixture` is fitted to, `[1797, 2]`."""
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    points = PCA(2).fit_transform(load_digits().data)
    return points / points.std(axis=0)


def _csv(path: Path) -> np.ndarray:
    from pyarrow import csv

    with path.open(encoding="utf-8") as file:
        first = file.readline().strip().split(",")
    try:
        [float(cell) for cell in first]
        options = csv.ReadOptions(autogenerate_column_names=True)
    except ValueError:
        options = csv.ReadOptions()
    table = csv.read_csv(path, read_options=options)
    return np.column_stack([column.to_numpy() for column in table.columns])


def _of_samples(samples: np.ndarray, name: str, n_components: int) -> MixtureSource:
    mixture = fit(samples, n_components, name=name)
    return MixtureSource(mixture, name, f"fitted to {len(samples):,} samples")


def _of_object(data: Any, fit_components: int) -> MixtureSource:
    if isinstance(data, GaussianMixture):
        return MixtureSource(data, "a mixture", "as given")
    if isinstance(data, torch.distributions.MixtureSameFamily):
        return MixtureSource(GaussianMixture.from_torch(data), "a mixture", "of torch.distributions")
    if isinstance(data, (np.ndarray, torch.Tensor)):
        return _of_samples(np.asarray(data, dtype=float), "samples", fit_components)
    if hasattr(data, "covariance_type"):
        return MixtureSource(GaussianMixture.from_sklearn(data), "a mixture", "of scikit-learn")
    raise InputError(f"{type(data).__name__} is neither a mixture nor a table of samples. Give one of these.")
