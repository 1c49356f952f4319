"""Reduce a mixture of forty Gaussians to ten by several reducers, and compare their distances and times."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from attar.mixtures import OGGMR, GaussianMixtureReducer, Runnalls, Williams

points = PCA(2).fit_transform(load_digits().data)
points = points / points.std(axis=0)
fitted = GaussianMixture(n_components=40, reg_covar=1e-3, random_state=0).fit(points)

methods = {
    "runnalls": Runnalls(),
    "williams, pairs": Williams(merge_cost="local", optimise=False),
    "oggmr, merging": OGGMR(optimise=False),
    "oggmr": OGGMR(),
    "oggmr, 3 starts": OGGMR(starts=3),
}
print("method             angle   NISE    seconds  log likelihood a point")
for name, method in methods.items():
    reducer = GaussianMixtureReducer(n_components=10, method=method).fit(fitted)
    nise = reducer.reduction_.distance(reducer.original_, "nise")
    likelihood = np.mean(reducer.score_samples(points))
    print(f"{name:16s}   {reducer.distance_:.4f}  {nise:.4f}  {reducer.reduction_.seconds:7.3f}  {likelihood:.3f}")

small = reducer.mixture_.to_sklearn()  # an estimator again, for whatever used the large one
print(f"\nall 40: {fitted.score(points):.3f}; the last 10, as scikit-learn sees them: {small.score(points):.3f}")
