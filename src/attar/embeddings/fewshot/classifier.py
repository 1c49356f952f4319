"""A classifier from a few samples of each class, and an encoder: each sample goes to the class with the nearest mean.

For one's own pictures: one of a class is enough, no training takes place, and further classes only need another `fit`.
Snell, Swersky and Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017, arXiv:1703.05175.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from attar.core.errors import InputError
from attar.embeddings.distances import distances, prototypes_of

Points = Float[Tensor, "sample d"]


class FewShot(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classify samples by the nearest mean of a class, among features of an encoder.

    Args:
        encoder: A trained encoder of attar or its folder, or any object with `transform(X)` in scikit-learn's manner.
            None: samples are features already.
        distance: "squared", "unsquared", or "auto", the distance that the method of the encoder learned with; it
            decides probabilities, not classes.
        temperature: T; distances are divided by it before they become probabilities.

    Attributes:
        classes_: The classes, sorted.
        prototypes_: The mean of the features of each class, `[class, d]`.
        counts_: Number of samples of each class.

    Example:
        >>> from attar.embeddings import FewShot
        >>> points = [[0.0, 0.0], [4.0, 4.0], [5.0, 4.0]]
        >>> FewShot().fit(points, ["cat", "dog", "dog"]).predict([[1.0, 0.0]]).tolist()
        ['cat']
    """

    def __init__(
        self,
        encoder: Any = None,
        *,
        distance: Any = "auto",
        temperature: Any = 1.0,
    ) -> None:  # parameters are checked by fit, as everywhere in scikit-learn
        self.encoder = encoder
        self.distance = distance
        self.temperature = temperature

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Take the mean of each class.

        Args:
            X: Samples, as the encoder takes them.
            y: The class of each: text, whole numbers, anything that can be sorted.

        Raises:
            InputError: There are other numbers of samples and classes, or the encoder or a setting cannot be used.
            ValueError: Samples or classes are not what scikit-learn takes.
        """
        if self.distance not in ("auto", "squared", "unsquared"):
            raise InputError(f"distance is {self.distance!r}; it must be auto, squared or unsquared.")
        if not self.temperature > 0:
            raise InputError(f"temperature is {self.temperature}; it must be above 0.")
        self.encoder_ = self._opened()
        features, y = self._checked(X, y, reset=True)
        check_classification_targets(y)
        self.classes_, labels, self.counts_ = np.unique(y, return_inverse=True, return_counts=True)
        means = prototypes_of(torch.tensor(features), torch.tensor(labels.reshape(-1)), len(self.classes_))
        self.prototypes_ = means.numpy()
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The class of each sample."""
        nearest = self._distances(X).argmin(dim=1).numpy()
        return self.classes_[nearest]

    def predict_proba(self, X: Any) -> Float[np.ndarray, "sample classes"]:  # noqa: N803
        """The probability of each class: the softmax of the negative distances."""
        return (-self._distances(X) / self.temperature).softmax(dim=1).numpy()

    def _distances(self, samples: Any) -> Tensor:
        check_is_fitted(self)
        features = torch.tensor(self._checked(samples, reset=False))
        prototypes = torch.tensor(self.prototypes_)
        method = getattr(self.encoder_, "method", None)
        if self.distance == "auto" and method is not None and hasattr(method, "distances"):
            return method.distances(features, prototypes)
        return distances(features, prototypes, "squared" if self.distance == "squared" else "unsquared")

    def _opened(self) -> Any:
        """The encoder; a folder is read."""
        if not isinstance(self.encoder, (str, Path)):
            if self.encoder is not None and not hasattr(self.encoder, "transform"):
                raise InputError(
                    f"encoder is a {type(self.encoder).__name__}; give a trained encoder, its folder, or an object "
                    "with transform."
                )
            return self.encoder
        from attar.embeddings.artefact import TrainedEncoder

        return TrainedEncoder.load(self.encoder)

    def _checked(self, samples: Any, *y: Any, reset: bool) -> Any:
        """The features of samples, with their classes if there are any, as scikit-learn checks them."""
        if self.encoder_ is not None:
            samples = np.asarray(self.encoder_.transform(samples))
            if samples.ndim != 2:
                raise InputError(f"the encoder gives features of shape {samples.shape}; they must be [sample, d].")
        if y and self.encoder_ is not None and len(samples) != len(y[0]):
            raise InputError(f"there are {len(samples)} samples and {len(y[0])} classes; give one class for each.")
        # A single sample is enough for a class, and a single class for a classifier.
        return validate_data(self, samples, *y, reset=reset, dtype=[np.float64, np.float32])
